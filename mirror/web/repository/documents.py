"""Pull requests, issues, pipelines and whatever else was said, at a snapshot: lists, and each one whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

from starlette.responses import Response

from mirror.archive import views
from mirror.archive.files import ShownFiles
from mirror.archive.views import View
from mirror.bitbucket.readable.lines import STATES
from mirror.browse.repository.documents import (
    PARTS,
    READ_MAX,
    ROWS,
    Row,
    Rows,
    absence,
    by_update,
    every_row,
    named_rows,
    path_of,
    rows,
)
from mirror.errors import UsageError
from mirror.git.comparison import Comparer
from mirror.git.failures import GitFailed
from mirror.model import JsonObject, is_hash
from mirror.store.reading.reader import StoreDamaged
from mirror.web.repository.files import LinkedFiles
from mirror.web.repository.here import At, redirect

# The title of each list, and the thing that it is of.
_NAMES = {
    "pull-requests": ("Pull requests", "pull requests"), "issues": ("Issues", "issues"),
    "pipelines": ("Pipelines", "pipelines"), "commit-comments": ("Commit comments", "commit comments"),
    "snippets": ("Snippets", "snippets"), "downloads.json": ("Downloads", "downloads"),
    "settings": ("Settings", "settings"), "deployments": ("Deployments", "deployments"),
}  # fmt: skip
_COLUMNS = {
    "pull-requests": ("Author", "Into"), "issues": ("Reporter", "Kind"),
    "pipelines": ("Creator", "Started by"),
}  # fmt: skip


def _context(at: At, kind: str) -> View:
    title, thing = _NAMES[kind]
    return {"title": title, "thing": thing, "lacking": absence(at.snapshot.parts.get(PARTS[kind]), thing)}


def numbered(kind: str) -> Callable[[At], Response]:
    """The handler of a list of pull requests, issues or pipelines."""

    def show(at: At) -> Response:
        number = at.number("number")
        if number is not None:
            return redirect(f"{at.home}{kind}/{number}")
        every = every_row(at.folder, at.snapshot, kind, at.reading.lines)
        found, before, behind = _piece(at, kind, every)
        return at.render(
            "numbered.html", **_context(at, kind), kind=kind, found=found, state=at.query("state"),
            states=STATES[kind], columns=_COLUMNS[kind], page_before=before, page_behind=behind,
            is_by_update=_is_by_update(at), can_sort=every is not None, read_max=READ_MAX,
            counts=Counter(row.line.state.lower() for row in every) if every is not None else {},
        )  # fmt: skip

    return show


def _is_by_update(at: At) -> bool:
    return at.query("sort") == "updated"


def _piece(at: At, kind: str, every: list[Row] | None) -> tuple[Rows, str | None, str | None]:
    """The part of a list that the query asks for, and the addresses of the parts before and behind it."""
    state = at.query("state")
    if _is_by_update(at) and every is not None:
        found, words = by_update(every, state=state, skip=at.number("skip") or 0), ("skip", "skip")
    else:
        where = {word: at.number(word) for word in ("before", "after")}
        found = rows(at.folder, at.snapshot, kind, at.reading.lines, state=state, **where)
        words = "after", "before"
    chosen = {name: at.query(name) for name in ("state", "sort") if at.query(name)}
    before, behind = (
        f"{at.home}{kind}?{urlencode(chosen | {word: str(to)})}" if to is not None else None
        for word, to in zip(words, (found.newer, found.older), strict=True)
    )
    return found, before, behind


def one(kind: str) -> Callable[[At], Response]:
    """The handler of one pull request, issue or pipeline."""
    show = {"pull-requests": _pull_request, "issues": _issue, "pipelines": _pipeline}[kind]

    def handler(at: At) -> Response:
        number = at.request.path_params["number"]
        path = path_of(kind, number)
        document = at.folder.metadata.read(at.snapshot, path) if path is not None else None
        if not isinstance(document, dict):
            raise _nothing(at, kind, number)
        return show(at, str(int(number)), document)

    return handler


def _nothing(at: At, kind: str, name: str) -> UsageError:
    context = _context(at, kind)
    return UsageError(
        f"This snapshot, {at.snapshot.id}, has nothing called {name[:60]} among its {context['thing']}",
        hint=context["lacking"] or "It may have come later, or Bitbucket may have lost it before.",
    )


def _pull_request(at: At, number: str, document: JsonObject) -> Response:
    pins = at.folder.metadata.code_refs(at.snapshot)
    pin = pins[1].get(int(number)) if pins is not None else None
    files = LinkedFiles(at.folder)
    with comparer(at) as found:
        lost = pin is not None and found is not None and found.commit(pin) is None
        view = views.pull_request(document, number, pin, found, files)
    problems = (
        [f"The head of this pull request, {pin}, is missing from the mirror or damaged."] if lost else []
    )
    return at.render("pull-request.html", **view, problems=problems + _problems(files))


def _issue(at: At, number: str, document: JsonObject) -> Response:
    files = LinkedFiles(at.folder)
    view = views.issue(document, number, files)
    return at.render("issue.html", **view, problems=_problems(files))


def _pipeline(at: At, number: str, document: JsonObject) -> Response:
    files = LinkedFiles(at.folder)
    view = views.pipeline(document, number, files)
    return at.render("pipeline.html", **view, problems=_problems(files))


def _problems(files: ShownFiles) -> list[str]:
    return [text for _, text in files.problems]


@contextmanager
def comparer(at: At) -> Iterator[Comparer | None]:
    """What compares commits of the code; None where there is no mirror. Raises StoreDamaged."""
    path = at.folder.mirrors().get("code")
    if path is None:
        yield None
        return
    try:
        opened = Comparer(path)
    except GitFailed as error:
        raise StoreDamaged(at.folder.relative(path), error.message) from error
    with opened:
        yield opened


def commits(at: At) -> Response:
    """The commits that something was said of."""
    skip = at.number("skip") or 0
    found, total = named_rows(at.folder, at.snapshot, "commit-comments", at.reading.lines, skip=skip)
    with comparer(at) as opened:
        known = {}
        for row in found:
            commit = opened.commit(row.name.rpartition("/")[2]) if opened is not None else None
            if commit is not None:
                known[row.name] = commit
    return at.render(
        "commits.html", **_context(at, "commit-comments"), found=found, total=total, skip=skip, rows_max=ROWS,
        known=known,
    )  # fmt: skip


def commit(at: At) -> Response:
    """What was said and reported about a commit."""
    name = at.request.path_params["hash"]
    path = f"commit-comments/{name[:2]}/{name}.json"
    document = at.folder.metadata.read(at.snapshot, path) if is_hash(name) else None
    if not isinstance(document, dict):
        raise _nothing(at, "commit-comments", name)
    with comparer(at) as found:
        return at.render("commit.html", **views.commit(document, name, found), problems=[])


def snippets(at: At) -> Response:
    """The snippets of a workspace."""
    skip = at.number("skip") or 0
    found, total = named_rows(at.folder, at.snapshot, "snippets", at.reading.lines, skip=skip)
    return at.render(
        "snippets.html", **_context(at, "snippets"), found=found, total=total, skip=skip, rows_max=ROWS
    )


def snippet(at: At) -> Response:
    """A snippet."""
    name = at.request.path_params["name"]
    document = at.folder.metadata.read(at.snapshot, f"snippets/{name}.json") if _is_name(name) else None
    if not isinstance(document, dict):
        raise _nothing(at, "snippets", name)
    files = LinkedFiles(at.folder)
    return at.render("snippet.html", **views.snippet(document, files), problems=_problems(files))


def _is_name(text: str) -> bool:
    return text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def deployments(at: At) -> Response:
    """Environments, and what was deployed to them."""
    environments, deployed = (
        [found for path in at.folder.metadata.paths(at.snapshot, kind)
         if isinstance(found := at.folder.metadata.read(at.snapshot, path), dict)]
        for kind in ("environments", "deployments")
    )  # fmt: skip
    return at.render("sections.html", **views.deployments(environments, deployed), missing=[])


def downloads(at: At) -> Response:
    """The downloads of a repository."""
    files = LinkedFiles(at.folder)
    view = views.downloads(at.folder.metadata.read(at.snapshot, "downloads.json"), files)
    lacking = _context(at, "downloads.json")["lacking"]
    return at.render("downloads.html", **view, problems=[*([lacking] if lacking else []), *_problems(files)])
