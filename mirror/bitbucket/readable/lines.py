"""One line of each pull request, issue, pipeline or snippet, for lists."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.bitbucket.readable import builds
from mirror.bitbucket.readable.parts import get, objects, person, string
from mirror.model import Json, JsonObject

# The states that a list can be narrowed down to, by kind of document, as people know them.
STATES = {
    "pull-requests": ("OPEN", "MERGED", "DECLINED", "SUPERSEDED"),
    "issues": ("new", "open", "on hold", "resolved", "duplicate", "invalid", "wontfix", "closed"),
    "pipelines": ("SUCCESSFUL", "FAILED", "ERROR", "STOPPED", "EXPIRED", "IN_PROGRESS", "PENDING", "PAUSED"),
}


@dataclass(frozen=True)
class DocumentLine:
    """What a list shows. `by` is who made it, `created` and `updated` when (as Bitbucket writes times),
    `comments` how many there are (None: not known), `note` something that only this kind has."""

    title: str
    state: str = ""
    by: str = ""
    created: str = ""
    updated: str = ""
    comments: int | None = None
    note: str = ""


def pull_request_line(document: Json) -> DocumentLine:
    """The line of a pull request; the note is the branch that it goes to."""
    data = get(document, "pull_request")
    return DocumentLine(
        string(data, "title"), string(data, "state"), person(data, "author"), string(data, "created_on"),
        string(data, "updated_on"), _comments(document), string(data, "destination", "branch", "name"),
    )  # fmt: skip


def issue_line(document: Json) -> DocumentLine:
    """The line of an issue; the note is its kind and priority."""
    data = get(document, "issue")
    return DocumentLine(
        string(data, "title"), string(data, "state"), person(data, "reporter"), string(data, "created_on"),
        string(data, "updated_on"), _comments(document),
        ", ".join(one for one in (string(data, "kind"), string(data, "priority")) if one),
    )  # fmt: skip


def pipeline_line(document: Json) -> DocumentLine:
    """The line of a pipeline: its branch, or its commit; the note is what started it."""
    data: JsonObject = document if isinstance(document, dict) else {}
    # Without its steps, which take long and are not shown.
    found = builds.pipeline({"pipeline": data.get("pipeline")})
    return DocumentLine(
        found.branch or found.commit[:12], found.state, found.creator, found.created, found.completed,
        note=found.trigger,
    )  # fmt: skip


def snippet_line(document: Json) -> DocumentLine:
    """The line of a snippet."""
    data = get(document, "snippet")
    owner = person(data, "owner") if get(data, "owner") else person(data, "creator")
    return DocumentLine(
        string(data, "title") or "Untitled snippet", "", owner, string(data, "created_on"),
        string(data, "updated_on"), _comments(document),
    )  # fmt: skip


def commit_line(document: Json) -> DocumentLine:
    """The line of what is said about a commit."""
    statuses = len(objects(document, "statuses"))
    return DocumentLine(string(document, "commit"), comments=_comments(document), note=f"{statuses}")


def _comments(document: Json) -> int | None:
    if not isinstance(get(document, "comments"), list):
        return None
    return sum(get(one, "deleted") is not True for one in objects(document, "comments"))
