"""The JSON that Bitbucket sends with each event, as Atlassian's page on event payloads shows it."""

from __future__ import annotations

from typing import Any

from dulwich.graph import can_fast_forward
from dulwich.objects import Commit, ObjectID
from dulwich.repo import Repo

from mirror.simulator.api.render import Renderer
from mirror.simulator.api.render_repositories import core_time
from mirror.simulator.world.events import Event
from mirror.simulator.world.repository import SimRepository

Document = dict[str, Any]
# The most commits that one change of a push lists; then it is marked as truncated.
COMMITS_MAX = 5
# By the last part of an event's key: the member that tells who did it and when.
_REVIEWS = {
    "approved": "approval", "unapproved": "approval",
    "changes_request_created": "changes_request", "changes_request_removed": "changes_request",
}  # fmt: skip


def payload(event: Event, render: Renderer) -> Document:
    """The payload of an event."""
    detail, shown = event.detail, _common(event, render)
    area, _, what = event.key.partition(":")
    if what == "push" and area == "repo":
        shown["push"] = {
            "changes": [_change(event.repository, ref, pair, render) for ref, pair in detail["refs"].items()]
        }
    if "pull" in detail:
        pull = detail["pull"]
        shown["pullrequest"] = render.pull_request(pull, listed=False)
        if "comment" in detail:
            shown["comment"] = render.comment(detail["comment"], pull)
        if what in _REVIEWS:
            shown[_REVIEWS[what]] = {"date": core_time(detail["date"]), "user": render.user(event.actor)}
    elif "issue" in detail:
        issue = detail["issue"]
        shown["issue"] = render.issue(issue)
        if "comment" in detail:
            shown["comment"] = render.issue_comment(detail["comment"], issue)
    elif "comment" in detail:
        shown["comment"] = render.commit_comment(detail["comment"], event.repository, detail["commit"])
        shown["commit"] = {"type": "commit", "hash": detail["commit"]}
    elif "status" in detail:
        shown["commit_status"] = render.commit_status(detail["status"], event.repository, detail["commit"])
    shown.update(_of_repository(event, render))
    return shown


def _common(event: Event, render: Renderer) -> Document:
    repository: SimRepository = event.repository
    workspace = repository.workspace
    return {
        "actor": render.user(event.actor),
        "repository": {
            **render.slim_repository(repository),
            "scm": "git",
            "website": None,
            "is_private": repository.private,
            "workspace": render.slim_workspace(workspace),
            "project": render.project(workspace, repository.project),
        },
    }


def _of_repository(event: Event, render: Renderer) -> Document:
    """What is told of a change of the repository itself."""
    detail = event.detail
    if "fork" in detail:
        return {"fork": render.slim_repository(detail["fork"])}
    if "previous" in detail:
        return {"previous_workspace": render.slim_workspace(detail["previous"])}
    if "name" in detail:
        old, new = detail["name"]
        slug = event.repository.workspace.slug
        names = {"old": f"{slug}/{old}", "new": f"{slug}/{new}"}
        return {"changes": {"name": {"old": old, "new": new}, "full_name": names}}
    return {"changes": {}} if event.key == "repo:updated" else {}


def _change(
    repository: SimRepository, ref: bytes, pair: tuple[str | None, str | None], render: Renderer
) -> Document:
    """How a push moved one ref from one value to another."""
    before, after = pair
    with Repo(str(repository.git_path)) as repo:
        old, new = (_end(repo, repository, ref, value, render) for value in (before, after))
        hashes = [ObjectID(value.encode()) for value in (after, before) if value is not None]
        is_moved = before is not None and after is not None and ref.startswith(b"refs/heads/")
        several = _commits(repo, hashes[:1], hashes[1:]) if after is not None else []
        commits = [render.commit(repository, one) for one in several]
        return {
            "old": old, "new": new, "created": before is None, "closed": after is None,
            "forced": is_moved and not can_fast_forward(repo, hashes[1], hashes[0]),
            "commits": commits[:COMMITS_MAX], "truncated": len(commits) > COMMITS_MAX,
        }  # fmt: skip


def _end(
    repo: Repo, repository: SimRepository, ref: bytes, value: str | None, render: Renderer
) -> Document | None:
    """A ref on one side of its move."""
    if value is None:
        return None
    kind, _, name = ref.removeprefix(b"refs/").partition(b"/")
    commit = _commit(repo, value)
    target = render.commit(repository, commit) if commit is not None else {"type": "object", "hash": value}
    shown = "tag" if kind == b"tags" else "branch"
    return {"type": shown, "name": name.decode("utf-8", "replace"), "target": target}


def _commit(repo: Repo, value: str) -> Commit | None:
    """The commit that a hash, or a tag of it, names."""
    found = repo.object_store[ObjectID(value.encode())]
    while found.type_name == b"tag":
        found = repo.object_store[found.object[1]]  # type: ignore[attr-defined]
    return found if isinstance(found, Commit) else None


def _commits(repo: Repo, new: list[ObjectID], old: list[ObjectID]) -> list[Commit]:
    """The newest commits that a ref gained, one more than are shown."""
    if not new or not isinstance(repo.object_store[new[0]], Commit):
        return []
    walk = repo.get_walker(include=new, exclude=old, max_entries=COMMITS_MAX + 1)
    return [entry.commit for entry in walk]
