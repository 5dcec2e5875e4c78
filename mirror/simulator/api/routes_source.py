"""Routes of git content: files, diffs and refs."""

from __future__ import annotations

import difflib
import io
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dulwich.diff_tree import TreeChange, tree_changes
from dulwich.object_store import BaseObjectStore, OverlayObjectStore
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.patch import write_tree_diff
from dulwich.repo import Repo
from starlette.responses import Response

from mirror.simulator.api.render_repositories import Document, link
from mirror.simulator.api.routes import ROUTES
from mirror.simulator.api.routes_repositories import R, commits_between
from mirror.simulator.api.routes_settings import commit_hash
from mirror.simulator.api.routing import OCTETS, Call, Hidden, Listing, Route, RouteResult, always
from mirror.simulator.world.repository import SimRepository

ABSENT = "Commit not found"


def _tip(call: Call, repository: SimRepository, name: str) -> str:
    """The commit that a branch, a hash or its prefix names."""
    found = repository.branch(name)
    return found or commit_hash(replace(call, names={"commit": name}), repository)


# -- refs and commits


def _refs(call: Call) -> RouteResult:
    """Branches, then tags."""
    shown: list[Document] = []
    for route in ROUTES:
        if route.template in (R + "/refs/branches", R + "/refs/tags"):
            found = route.handler(call)
            assert isinstance(found, Listing)
            shown += [found.render(one) for one in found.items]
    return Listing(shown, dict)


def _commits_of(call: Call) -> RouteResult:
    repository = call.repository()
    return commits_between(call, repository, _tip(call, repository, call.names["revision"]), "0" * 40)


def _pull_requests_of(call: Call) -> RouteResult:
    """The pull requests that have a commit as their head or merge commit."""
    repository = call.repository()
    value = commit_hash(call, repository)
    found = [one for one in repository.pull_requests.values() if value in (one.source_hash, one.merge_hash)]
    return Listing(found, lambda one: call.render.pull_request(one, listed=True))


# -- files


def _root(call: Call) -> RouteResult:
    repository = call.repository()
    branch = repository.main_branch()
    if branch is None:
        raise Hidden("The repository is empty")
    return _at(call, repository, repository.branch(branch) or "", "")


def _source(call: Call) -> RouteResult:
    repository = call.repository()
    path = call.names.get("spec", "")
    return _at(call, repository, _tip(call, repository, call.names["commit"]), path)


def _at(call: Call, repository: SimRepository, value: str, path: str) -> RouteResult:
    """The bytes of a file, or the entries of a folder."""
    with Repo(str(repository.git_path)) as repo:
        store = repo.object_store
        commit = store[ObjectID(value.encode())]
        assert isinstance(commit, Commit)
        found = store[commit.tree]
        for part in path.encode().split(b"/") if path else ():
            if not isinstance(found, Tree) or part not in found:
                raise Hidden(f"No such file or directory: {path}")
            found = store[found[part][1]]
        if isinstance(found, Tree):
            entries = [
                (f"{path}/{name}" if path else name, store[sha].raw_length() if mode != 0o40000 else None)
                for name, mode, sha in ((e.path.decode(), e.mode, e.sha) for e in found.iteritems())
            ]
            return Listing(entries, lambda one: _shown(call, repository, value, *one))
        if dict(call.pairs).get("format") == "meta":
            return _shown(call, repository, value, path, found.raw_length())
        kind, _ = mimetypes.guess_type(path)
        headers = {"Content-Disposition": "attachment"}
        return Response(found.as_raw_string(), headers=headers, media_type=kind or OCTETS)


def _shown(call: Call, repository: SimRepository, value: str, path: str, size: int | None) -> Document:
    own = f"{call.render.api}/repositories/{repository.full_name}/src/{value}/{path}"
    shown: Document = {
        "type": "commit_directory" if size is None else "commit_file",
        "path": path,
        "commit": call.render.slim_commit(repository, value),
        "links": {"self": link(own if size is not None else own + "/")},
    }
    return shown if size is None else {**shown, "size": size}


# -- diffs


@dataclass(frozen=True)
class _Two:
    """Two trees with the repositories of their objects."""

    store: BaseObjectStore
    before: ObjectID | None
    after: ObjectID


def _compared(call: Call, answer: Callable[[_Two], RouteResult]) -> RouteResult:
    """The result for the two trees that `spec` names: a commit and its parent, or two commits."""
    repository, spec = call.repository(), call.names["spec"]
    source, two, target = spec.partition("\r" if "\r" in spec else "..")
    origin = repository
    if ":" in source:
        name, _, source = source.rpartition(":")
        workspace, _, slug = name.partition("/")
        origin = call.world.repository(workspace, slug) or repository
    head = _tip(call, origin, source)
    with Repo(str(origin.git_path)) as near, Repo(str(repository.git_path)) as far:
        store = OverlayObjectStore([near.object_store, far.object_store])
        if two:
            base: str | None = _tip(call, repository, target)
            if base is not None and dict(call.pairs).get("topic", "true") == "true":
                base = _merge_base(store, head, base)
        else:
            base = next(iter(_parents(store, head)), None)
        before = _commit(store, base).tree if base is not None else None
        return answer(_Two(store, before, _commit(store, head).tree))


def _commit(store: BaseObjectStore, value: str) -> Commit:
    found = store[ObjectID(value.encode())]
    assert isinstance(found, Commit)
    return found


def _parents(store: BaseObjectStore, value: str) -> list[str]:
    return [one.decode("ascii") for one in _commit(store, value).parents]


def _merge_base(store: BaseObjectStore, head: str, base: str) -> str | None:
    """The nearest commit that both `head` and `base` reach."""
    known, waiting = {base}, [base]
    while waiting:
        more = [one for one in _parents(store, waiting.pop()) if one not in known]
        known.update(more)
        waiting += more
    level = [head]
    while level:
        for one in level:
            if one in known:
                return one
        level = [parent for one in level for parent in _parents(store, one)]
    return None


def _diff(call: Call) -> RouteResult:
    def answer(two: _Two) -> RouteResult:
        out = io.BytesIO()
        write_tree_diff(out, two.store, two.before, two.after)
        return Response(out.getvalue(), media_type="text/plain")

    return _compared(call, answer)


def _diffstat(call: Call) -> RouteResult:
    def answer(two: _Two) -> RouteResult:
        changes = list(tree_changes(two.store, two.before, two.after))
        return Listing([_stat(two.store, one) for one in changes], dict)

    return _compared(call, answer)


def _stat(store: BaseObjectStore, change: TreeChange) -> Document:
    sides = (change.old, change.new)
    paths = [one.path.decode() if one is not None and one.path is not None else None for one in sides]
    lines = [_lines(store, one.sha) if one is not None and one.sha is not None else [] for one in sides]
    signs = [one[0] for one in difflib.ndiff(lines[0], lines[1])]
    files: list[Document | None] = [
        None if path is None else {"type": "commit_file", "path": path, "escaped_path": path}
        for path in paths
    ]
    status = "added" if files[0] is None else "removed" if files[1] is None else "modified"
    return {
        "type": "diffstat", "status": status, "old": files[0], "new": files[1],
        "lines_added": signs.count("+"), "lines_removed": signs.count("-"),
    }  # fmt: skip


def _lines(store: BaseObjectStore, value: ObjectID) -> list[str]:
    found = store[value]
    return found.data.decode("utf-8", "replace").splitlines() if isinstance(found, Blob) else []


def _redirect(kind: str) -> Callable[[Call], RouteResult]:
    """A handler that redirects to the diff of a pull request."""

    def handler(call: Call) -> RouteResult:
        pull = call.pull_request()
        if pull.origin.gone:
            raise Hidden("Repository not found")
        spec = f"{pull.origin.full_name}:{pull.source_hash}%0D{pull.destination_hash}"
        where = f"{call.render.api}/repositories/{pull.repository.full_name}/{kind}/{spec}"
        location = f"{where}?from_pullrequest_id={pull.id}&topic=true"
        return Response(status_code=302, headers={"Location": location})

    return handler


_PR = R + "/pullrequests/{id}"
_REDIRECTS: dict[str, Any] = {"public": True, "only_redirects": True}
SOURCES: tuple[Route, ...] = (
    Route(R + "/refs", "repository", _refs, filters=True, sorts=always, public=True),
    Route(R + "/commits/{revision}", "repository", _commits_of, public=True),
    Route(R + "/commit/{commit}/pullrequests", "pullrequest", _pull_requests_of, public=True),
    Route(R + "/src", "repository", _root, public=True),
    Route(R + "/src/{commit}/{spec}", "repository", _source, public=True),
    Route(R + "/src/{commit}", "repository", _source, public=True),
    Route(R + "/diff/{spec}", "repository", _diff, public=True, media="text/plain", is_of_diff=True),
    Route(R + "/diffstat/{spec}", "repository", _diffstat, public=True),
    Route(_PR + "/diff", "pullrequest", _redirect("diff"), media="text/plain", is_of_diff=True, **_REDIRECTS),
    Route(_PR + "/diffstat", "pullrequest", _redirect("diffstat"), **_REDIRECTS),
)
