"""What several kinds of documents share: people, texts, comments, statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mirror.bitbucket.readable.values import (
    Anchor,
    Comment,
    Participant,
    Pointer,
    Status,
    Task,
    Text,
)
from mirror.model import Json, JsonObject

_NOBODY = "a deleted account"
_CHILDREN_ASKED = "never asked for"
_DEPTH_MAX = 40

People = Mapping[str, str]


def get(data: Json, *names: str) -> Any:
    """What stands at a path of keys, or None."""
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def string(data: Json, *names: str) -> str:
    """The text (or number) at a path of keys, else an empty text."""
    value = get(data, *names)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)


def number(data: Json, *names: str) -> int | None:
    """The whole number at a path of keys, or None."""
    value = get(data, *names)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def objects(data: Json, *names: str) -> list[JsonObject]:
    """The objects in the list at a path of keys; empty where there is no list."""
    value = get(data, *names)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def person(data: Json, *names: str) -> str:
    """The name of the person at a path of keys."""
    value = get(data, *names)
    found = (string(value, name) for name in ("display_name", "nickname", "username", "slug", "uuid"))
    return next((one for one in found if one.strip()), _NOBODY)


def author_of(commit: Json) -> str:
    """Who wrote a commit that the API lists: the account, else git's own line."""
    return (
        person(commit, "author", "user") if get(commit, "author", "user") else string(commit, "author", "raw")
    )


def people_in(document: Json) -> dict[str, str]:
    """Everybody whom a document names, by the ids that mentions use."""
    found: dict[str, str] = {}
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = value.get("display_name")
            for key in (value.get("account_id"), value.get("uuid")) if isinstance(name, str) else ():
                if isinstance(key, str):
                    found[key.strip("{}")] = str(name)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def text_of(data: Json, people: People, *names: str) -> Text:
    """The text at a path of keys: as it was written, not as Bitbucket rendered it."""
    value = get(data, *names)
    return Text(value if isinstance(value, str) else string(value, "raw"), people)


def lacking(document: JsonObject, *children: str) -> dict[str, str]:
    """The children that a document does not have, or not as they are now, each with the reason."""
    found = {name: _CHILDREN_ASKED for name in children if document.get(name) is None}
    parts = get(document, "_parts")
    for name, mark in parts.items() if isinstance(parts, dict) else ():
        state, reason = string(mark, "state"), string(mark, "reason")
        found[str(name)] = ": ".join(one for one in (state, reason) if one) or "not as it is upstream"
    return found


def pointer(data: Json, name: str = "") -> Pointer | None:
    """The stored file that `{"sha256", "size", "name"}` points to, or None."""
    digest = string(data, "sha256")
    if not digest:
        return None
    return Pointer(name or string(data, "name"), digest, number(data, "size") or 0)


def task(data: JsonObject, people: People) -> Task:
    """A task of a pull request."""
    comment = string(data, "comment", "id") or None
    return Task(
        string(data, "id"),
        text_of(data, people, "content"),
        person(data, "creator"),
        string(data, "created_on"),
        string(data, "state") == "RESOLVED",
        comment,
    )


def anchor(data: Json) -> Anchor | None:
    """Where a comment stands in the code, or None."""
    inline = get(data, "inline")
    if not isinstance(inline, dict) or not string(inline, "path"):
        return None
    return Anchor(
        string(inline, "path"),
        number(inline, "from"),
        number(inline, "to"),
        number(inline, "start_to") or number(inline, "start_from"),
        get(inline, "outdated") is True,
        string(inline, "src_rev") or None,
    )


def threads(data: Json, people: People, tasks: list[Task] | None = None) -> list[Comment]:
    """The comments in a list, replies below what they reply to, in the order of their ids."""
    known = {string(one, "id"): one for one in objects(data)}
    several = sorted(known.values(), key=lambda one: (string(one, "created_on"), number(one, "id") or 0))
    below: dict[str, list[JsonObject]] = {}
    tops = []
    for one in several:
        parent = string(one, "parent", "id")
        if parent in known and parent != string(one, "id"):
            below.setdefault(parent, []).append(one)
        else:
            tops.append(one)
    by_comment: dict[str, list[Task]] = {}
    for task_ in tasks or ():
        by_comment.setdefault(task_.comment or "", []).append(task_)

    def made(one: JsonObject, depth: int) -> Comment:
        waiting = below.get(string(one, "id"), [])
        # Of a chain that is too deep to nest, the rest stands beside its end.
        replies = waiting if depth < _DEPTH_MAX else list(_all_below(waiting, below))
        nested = depth < _DEPTH_MAX
        return _comment(
            one, people,
            [made(reply, depth + 1) if nested else _comment(reply, people, [], []) for reply in replies],
            by_comment.get(string(one, "id"), []),
        )  # fmt: skip

    found = [made(one, 0) for one in tops]
    # Comments that reply to each other in a circle lead to no top.
    reached = {string(one, "id") for one in _all_below(tops, below)}
    found += [_comment(one, people, [], []) for one in several if string(one, "id") not in reached]
    return found


def _all_below(several: list[JsonObject], below: Mapping[str, list[JsonObject]]) -> Iterator[JsonObject]:
    waiting = list(reversed(several))
    while waiting:
        one = waiting.pop()
        yield one
        waiting += reversed(below.get(string(one, "id"), []))


def _comment(one: JsonObject, people: People, replies: list[Comment], tasks: list[Task]) -> Comment:
    created, updated = string(one, "created_on"), string(one, "updated_on")
    resolution = get(one, "resolution")
    return Comment(
        string(one, "id"),
        person(one, "user"),
        created,
        text_of(one, people, "content"),
        updated if updated and updated[:19] != created[:19] else "",
        get(one, "deleted") is True,
        get(one, "pending") is True,
        anchor(one),
        person(resolution, "user") if isinstance(resolution, dict) else "",
        string(resolution, "created_on"),
        replies,
        tasks,
    )


def participants(data: Json) -> list[Participant]:
    """Who took part, reviewers and those who decided first."""
    found = [
        Participant(
            person(one, "user"),
            string(one, "role") == "REVIEWER",
            string(one, "state") or ("approved" if get(one, "approved") is True else ""),
            string(one, "participated_on"),
        )
        for one in objects(data)
    ]
    return sorted(found, key=lambda one: (not one.is_reviewer, not one.state, one.name))


def statuses(data: Json) -> list[Status]:
    """What builds say of a commit."""
    return [
        Status(
            string(one, "name") or string(one, "key"),
            string(one, "state"),
            string(one, "updated_on"),
            string(one, "url"),
            string(one, "description"),
        )
        for one in objects(data)
    ]
