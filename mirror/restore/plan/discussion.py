"""Comments of pull requests and commits, each below the line that says who wrote it, when and where.

A place in the code is sent where the code still has it; the line names it in any case, so that it is known
where Bitbucket refuses it. Replies follow what they reply to. A deleted comment that has replies becomes a
line that says so. Comments and tasks that nobody has published are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mirror.bitbucket import endpoints
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.readable.parts import anchor, get, number, objects, people_in, person, string, text_of
from mirror.bitbucket.readable.values import Anchor, Text
from mirror.model import JsonObject
from mirror.restore.plan.steps import Call, Excuse, Find, Loss, Made, Retry, Stage, Step, Why
from mirror.restore.plan.texts import COMMENT_MAX, Written, code, counted, minute, named, written

Parts = Mapping[str, str | int | Made]
_LINES = ("from", "to", "start_from", "start_to")
_NO_PLACE = "it stands among the general comments: its place in the code was refused"
_TASKS = "pull request tasks"


@dataclass(frozen=True)
class Where:
    """What comments are made on. `label` names it, `key` begins the keys of their steps, which come `after`
    others. `parts` are those of the paths of `several` comments and of a `single` one. `excuses` are refusals
    that are no failures."""

    kind: str
    label: str
    key: str
    parts: Parts
    several: Endpoint
    single: Endpoint
    after: tuple[str, ...]
    excuses: tuple[Excuse, ...] = ()


@dataclass(frozen=True)
class Discussion:
    """The comments and tasks of one thing, as its document has them."""

    where: Where
    comments: list[JsonObject]
    tasks: list[JsonObject]
    people: Mapping[str, str]

    @classmethod
    def of(cls, where: Where, document: JsonObject) -> Discussion:
        """The discussion in a document."""
        return cls(where, objects(document, "comments"), objects(document, "tasks"), people_in(document))

    def steps(self) -> Iterator[Step | Loss]:
        """What makes the comments and the tasks anew, in order, and what of them does not come back."""
        made: set[str] = set()
        for comment in in_order(self.comments):
            yield from self._comment(comment, made)
            made.add(string(comment, "id"))
        for task in sorted(self.tasks, key=_age):
            if get(task, "pending") is not True:
                yield from self._task(task, made)
        drafts = sum(get(one, "pending") is True for one in (*self.comments, *self.tasks))
        if drafts:
            label = f"{counted(drafts, 'draft')} of {self.where.label}"
            yield Loss(f"{self.where.key}/drafts", self.where.kind, label, Why.UNPUBLISHED)

    # -- comments

    def _comment(self, comment: JsonObject, made: set[str]) -> Iterator[Step | Loss]:
        where, identifier = self.where, string(comment, "id")
        place, parent = anchor(comment), string(comment, "parent", "id")
        is_reply = parent in made
        text = self._text(comment, place, parent if parent and not is_reply else "")
        body: JsonObject = {"content": {"raw": text.text}}
        after = where.after
        if is_reply:
            above = self._key(parent)
            body["parent"], after = {"id": Made(above, "id")}, (*after, above)
        elif place is not None and not place.is_outdated:
            body["inline"] = _inline(comment)
        key = self._key(identifier)
        single = {**where.parts, "comment": Made(key, "id")}
        find = Find(where.several, where.parts, marker=("content.raw", _marker(identifier)))
        yield Step(
            key, where.kind, f"comment {identifier} on {where.label}",
            Call("POST", where.several, where.parts, body), Stage.COMMENTS, after, find,
            change=Call("PUT", where.single, single, {"content": body["content"]}),
            wanted={"content.raw": text.text},
            retries=text.retries("content.raw")
            + ((Retry(400, "inline", _NO_PLACE),) if "inline" in body else ()),
            excuses=where.excuses,
        )  # fmt: skip
        if "inline" in body and isinstance(get(comment, "resolution"), dict):
            yield self._resolution(key, identifier, find, single)

    def _text(self, comment: JsonObject, place: Anchor | None, lost_parent: str) -> Written:
        """The text below its line. `lost_parent` is the id of what it replies to and is not there."""
        line = f"{_marker(string(comment, 'id'))}by {named(person(comment, 'user'))}"
        line += f", {minute(string(comment, 'created_on'))}"
        line += f", on {_place(place)}" if place is not None else ""
        line += f", in reply to comment {named(lost_parent)}, which is not here" if lost_parent else ""
        resolution = get(comment, "resolution")
        if isinstance(resolution, dict):
            line += f"; resolved by {named(person(resolution, 'user'))}"
            line += f", {minute(string(resolution, 'created_on'))}"
        if get(comment, "deleted") is True:
            return Written(line + "; deleted*")
        return written(line + "*", text_of(comment, self.people, "content"), COMMENT_MAX)

    def _resolution(self, key: str, identifier: str, find: Find, single: Parts) -> Step:
        """Bitbucket resolves only threads on the code. Whether this one is resolved its text says, too."""
        resolved = Find(find.endpoint, find.parts, {"resolution.type": "comment_resolution"}, find.marker)
        return Step(
            f"{key}/resolution", self.where.kind, f"resolution of comment {identifier} on {self.where.label}",
            Call("POST", endpoints.RESOLUTION, single), Stage.COMMENTS, (key,), resolved,
            excuses=(Excuse(409), Excuse(403, why=Why.NEVER, note="its text says that it is resolved")),
        )  # fmt: skip

    def _key(self, identifier: str) -> str:
        return f"{self.where.key}/comment/{identifier}"

    # -- tasks

    def _task(self, task: JsonObject, made: set[str]) -> Iterator[Step | Loss]:
        where, identifier = self.where, string(task, "id")
        line = f"*Task {named(identifier)} by {named(person(task, 'creator'))}, "
        line += f"{minute(string(task, 'created_on'))}:*"
        text = written(line, _one_space(text_of(task, self.people, "content")), COMMENT_MAX, apart=" ")
        key, label = f"{where.key}/task/{identifier}", f"task {identifier} of {where.label}"
        body: JsonObject = {"content": {"raw": text.text}}
        after, comment = where.after, string(task, "comment", "id")
        if comment in made:
            body["comment"], after = {"id": Made(self._key(comment), "id")}, (*after, self._key(comment))
        single = {**where.parts, "task": Made(key, "id")}
        marker = ("content.raw", f"*Task {named(identifier)} by ")
        find = Find(endpoints.PULL_REQUEST_TASKS, where.parts, marker=marker)
        yield Step(
            key, _TASKS, label, Call("POST", endpoints.PULL_REQUEST_TASKS, where.parts, body), Stage.COMMENTS,
            after, find,
            change=Call("PUT", endpoints.PULL_REQUEST_TASK, single, {"content": body["content"]}),
            wanted={"content.raw": text.text}, retries=text.retries("content.raw"),
        )  # fmt: skip
        if string(task, "state") == "RESOLVED":
            done = Find(find.endpoint, find.parts, {"state": "RESOLVED"}, marker)
            resolve = Call("PUT", endpoints.PULL_REQUEST_TASK, single, {"state": "RESOLVED"})
            yield Step(f"{key}/resolved", _TASKS, f"state of {label}", resolve, Stage.COMMENTS, (key,), done)


def in_order(comments: list[JsonObject]) -> Iterator[JsonObject]:
    """The comments that are made: the oldest first, each after what it replies to. Drafts are left out, and
    deleted ones that nothing replies to."""
    known = {string(one, "id"): one for one in sorted(comments, key=_age)}
    said = {key for key, one in known.items() if get(one, "deleted") is not True and not _is_draft(one)}
    order: dict[str, None] = {}
    for key in known:
        if key not in said or key in order:
            continue
        chain: dict[str, None] = {}
        while key in known and key not in order and key not in chain and not _is_draft(known[key]):
            chain[key] = None
            key = string(known[key], "parent", "id")
        order.update(dict.fromkeys(reversed(chain)))
    return (known[key] for key in order)


def _is_draft(comment: JsonObject) -> bool:
    return get(comment, "pending") is True


def _age(one: JsonObject) -> tuple[str, int]:
    return string(one, "created_on"), number(one, "id") or 0


def _marker(identifier: str) -> str:
    return f"*Comment {named(identifier)} "


def _inline(comment: JsonObject) -> JsonObject:
    lines = {name: number(comment, "inline", name) for name in _LINES}
    given: JsonObject = {name: line for name, line in lines.items() if line is not None and line > 0}
    return {"path": string(comment, "inline", "path"), **given}


def _place(place: Anchor) -> str:
    line = place.new or place.old
    first = f"{place.first} to " if place.first and place.first != line else ""
    lines = f", line {first}{line}" if line else ""
    return code(place.path) + lines + (" (since changed)" if place.is_outdated else "")


def _one_space(text: Text) -> Text:
    return Text(text.raw.strip(), text.people)
