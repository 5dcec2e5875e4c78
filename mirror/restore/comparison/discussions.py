"""Pull requests, and what is said about them and about commits.

A copy has another number, author and time. Its text begins with a line that names the original.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mirror.bitbucket import fields
from mirror.bitbucket.settable import ACCOUNT, Thing, plain_fields
from mirror.bitbucket.settable import things as all_things
from mirror.collect.marks import Marks
from mirror.model import Json, JsonObject, value_at
from mirror.restore.comparison.differences import How
from mirror.restore.comparison.documents import COMMITS, PULL_REQUESTS
from mirror.restore.comparison.matching import GONE, NEVER_READ, Match, is_erased
from mirror.restore.comparison.sides import Side, object_at
from mirror.restore.comparison.texts import is_copy, pair_by_attribution

_HEADS = b"refs/heads/"
_CLOSED = "nobody can make a pull request that is closed"
_HISTORY = "it is history, which Bitbucket writes itself"
_UNPUBLISHED = "its author has not published it"
_GENERAL = "Bitbucket resolves only threads on the code; the text says that it was resolved"
_BUILDS = "builds set statuses anew"
_OWN = "only whoever approves can do it"
# What stands beside a pull request, and never comes back.
_PULL_REQUEST_NEVER = {"activity": _HISTORY, "commits": "git has them", "patch": "git has it"}


@dataclass
class PullRequests:
    """The pull requests of two repositories. `copies` are, after `compare`, the branch of each copy's source,
    by the number of its original."""

    match: Match
    original: Side
    copy: Side
    copies: dict[int, str] = field(default_factory=dict)

    def compare(self) -> None:
        """Compare all of them."""
        olds: list[tuple[str, JsonObject]] = []
        for path, document in _documents(self.original, PULL_REQUESTS):
            why = self._lost(document)
            if why is None:
                olds.append((path, document))
            else:
                name = _number(document)
                self.match.note(path, all_things.PULL_REQUEST.name, name, How.MISSING, why=why)
        news = list(_documents(self.copy, PULL_REQUESTS))
        texts = {path: self.original.text(_thing(one).get("description")) or "" for path, one in olds}
        texts |= {f"copy {path}": self.copy.text(_thing(one).get("description")) or "" for path, one in news}
        pairs = pair_by_attribution(
            olds, [(f"copy {path}", one) for path, one in news], lambda one: texts[one[0]],
            lambda one: _number(one[1]), lambda old, new: _title(old[1]) == _title(new[1]),
        )  # fmt: skip
        for old, new in pairs:
            if old is None:
                assert new is not None
                path = new[0].removeprefix("copy ")
                self.match.note(path, all_things.PULL_REQUEST.name, _number(new[1]), How.MORE)
            elif new is None:
                number = _number(old[1])
                self.match.note(
                    old[0], all_things.PULL_REQUEST.name, number, How.MISSING, key=f"pull-request/{number}"
                )
            else:
                self._pair(old[0], old[1], new[1])

    def _lost(self, document: JsonObject) -> str | None:
        """Why a pull request cannot come back; None where it can."""
        thing = _thing(document)
        if Marks.of(document).is_gone("pull_request"):
            return GONE
        if not fields.is_open(thing):
            return _CLOSED
        refs = _branches(self.original)
        into = refs.get(str(value_at(thing, "destination.branch.name")))
        head = self._head(document)
        if into is None:
            return "the branch that it goes into is gone"
        if head is None:
            return "its source branch is gone, and git does not have its head"
        return "the branch that it goes into has all of it already" if head == into else None

    def _head(self, document: JsonObject) -> str | None:
        """The hash that the copy of a pull request must have: that of its branch, or of the pin."""
        thing = _thing(document)
        name, is_of_fork = value_at(thing, "source.branch.name"), _fork_of(thing) is not None
        held = None if is_of_fork else _branches(self.original).get(str(name))
        code = self.original.mirrors.get("code")
        pins = code.pins if code is not None else {}
        return held or pins.get(int(_number(document) or 0))

    def _pair(self, path: str, old: JsonObject, new: JsonObject) -> None:
        before, after = _thing(old), _thing(new)
        name, thing = _number(old), all_things.PULL_REQUEST
        branch = "source.branch.name"
        source = str(value_at(after, branch))
        self.copies[int(name)] = source
        instead: dict[str, tuple[Json, Json]] = {
            "description": texts_of(
                self.original, self.copy, before.get("description"), after.get("description"), name
            ),
            "reviewers": self._reviewers(before, after),
        }
        head, there = self._head(old), _branches(self.copy).get(source)
        if head != there:
            self.match.note(
                path, thing.name, name, How.DIFFERS, field="source.commit", original=head, copy=there
            )
        elif value_at(before, branch) != source and _branches(self.original).get(source) is None:
            instead[branch] = (source, source)  # the branch was gone, or another's, and was made of its head
        self.match.fields(path, thing, name, before, after, instead=instead, key=f"pull-request/{name}")
        self._children(path, name, old, new)

    def _reviewers(self, old: JsonObject, new: JsonObject) -> tuple[Json, Json]:
        """The reviewers. Nobody can review what they opened, and the copy was opened by whoever restored."""
        author = str(value_at(new, "author.uuid")).lower()
        before, after = _reviewers_of(old, self.match.people), _reviewers_of(new, {})
        return [one for one in before if one != f"{ACCOUNT}{author}"], after

    def _children(self, path: str, name: str, old: JsonObject, new: JsonObject) -> None:
        document = f"{path} ({name})"
        ids = compare_texts(
            self.match, document, all_things.PULL_REQUEST_COMMENT, old.get("comments"), new.get("comments"),
            (self.original, self.copy), f"pull-request/{name}/comment",
        )  # fmt: skip
        compare_texts(
            self.match, document, all_things.TASK, old.get("tasks"), new.get("tasks"),
            (self.original, self.copy), f"pull-request/{name}/task", about=ids,
        )  # fmt: skip
        self.match.things(
            document, all_things.COMMIT_STATUS, old.get("statuses"), new.get("statuses"), missing=_BUILDS
        )
        for child in sorted(old.keys() - _PULL_REQUEST_CHILDREN - _PULL_REQUEST_NEVER.keys()):
            self.match.note(document, "part", child, How.MISSING)


_PULL_REQUEST_CHILDREN = {"pull_request", "comments", "tasks", "statuses", "_parts"}


def compare_commits(match: Match, original: Side, copy: Side) -> None:
    """Compare what is said about commits: comments, statuses and reports."""
    news = dict(_documents(copy, COMMITS))
    for path, old in _documents(original, COMMITS):
        new = news.pop(path, None) or {name: [] for name in old}
        compare_texts(
            match, path, all_things.COMMIT_COMMENT, old.get("comments"), new.get("comments"),
            (original, copy), f"commit/{old.get('commit')}/comment",
        )  # fmt: skip
        match.things(
            path, all_things.COMMIT_STATUS, old.get("statuses"), new.get("statuses"), missing=_BUILDS
        )
        _reports(match, path, old.get("reports"), new.get("reports"), f"commit/{old.get('commit')}/report")
        for one in old.get("participants") or []:
            name = str(value_at(one, "user.uuid"))
            match.note(path, "approval", name, How.MISSING, why=_OWN)
        for child in sorted(
            old.keys() - {"commit", "comments", "statuses", "reports", "participants", "_parts"}
        ):
            match.note(path, "part", child, How.MISSING)
    for path, new in news.items():
        for child in ("comments", "statuses", "reports"):
            if new.get(child):
                match.note(path, child, "", How.MORE)


def _reports(match: Match, path: str, old: Json, new: Json, key: str) -> None:
    before, after = _reports_of(old), _reports_of(new)
    match.things(
        path, all_things.REPORT, None if old is None else [one["report"] for one in before],
        None if new is None else [one["report"] for one in after], key=key,
    )  # fmt: skip
    for one in before:
        name = value_at(one, "report.external_id")
        same = next((two for two in after if value_at(two, "report.external_id") == name), None)
        if same is not None:
            match.things(
                f"{path} ({name})", all_things.ANNOTATION, one.get("annotations"), same.get("annotations")
            )


def _reports_of(value: Json) -> list[JsonObject]:
    return [one for one in value or [] if isinstance(one, dict) and isinstance(one.get("report"), dict)]


def compare_texts(
    match: Match,
    document: str,
    thing: Thing,
    old: Json,
    new: Json,
    sides: tuple[Side, Side],
    key: str,
    about: Mapping[object, object] | None = None,
) -> dict[object, object]:
    """Compare two lists of comments or tasks; returns the ids of the copies by those of the originals.
    `about` are, likewise, those of the comments that tasks are about; `key` begins the keys of the steps that
    make them."""
    if old is None:
        if new:
            match.result.known[thing.name, "all", NEVER_READ] += 1
        return {}
    original, copy = sides
    kept = [one for one in old if isinstance(one, dict)]
    made = [one for one in new or [] if isinstance(one, dict) and fields.is_not_removed(one)]
    raw = {id(one): original.text(value_at(one, "content.raw")) or "" for one in kept}
    raw |= {id(one): copy.text(value_at(one, "content.raw")) or "" for one in made}
    # The tombstone of a deleted comment has no text of its own that a copy could be known by.
    pairs = pair_by_attribution(
        kept, made, lambda one: raw[id(one)], lambda one: one.get("id"),
        lambda before, _: fields.is_not_removed(before),
    )  # fmt: skip
    ids: dict[object, object] = {
        one.get("id"): None if two is None else two.get("id") for one, two in pairs if one is not None
    }
    known = {**(about or {}), **ids}
    for before, after in pairs:
        if before is None:
            assert after is not None
            match.note(document, thing.name, str(after.get("id")), How.MORE)
        elif after is None:
            if fields.is_not_removed(before):
                why = _UNPUBLISHED if before.get("pending") is True else None
                name = str(before.get("id"))
                match.note(document, thing.name, name, How.MISSING, key=f"{key}/{name}", why=why)
        else:
            _text_pair(match, document, thing, before, after, sides, key, known)
    return ids


def _text_pair(
    match: Match,
    document: str,
    thing: Thing,
    old: JsonObject,
    new: JsonObject,
    sides: tuple[Side, Side],
    key: str,
    known: Mapping[object, object],
) -> None:
    instead: dict[str, tuple[Json, Json]] = {
        "content.raw": texts_of(*sides, value_at(old, "content.raw"), value_at(new, "content.raw")),
        "resolution": (None, None),
        # An answer stands where the first comment of its thread does.
        **({"inline": (None, None)} if value_at(old, "parent.id") is not None else {}),
    }
    for name in ("parent.id", "comment.id"):
        wanted, has = value_at(old, name), value_at(new, name)
        if wanted is None:
            instead[name] = (None, has)
        elif known.get(wanted) is None:
            instead[name] = (None, None)  # it is missing itself, or was deleted
        else:
            instead[name] = (known[wanted], has)
    name = str(old.get("id"))
    if value_at(old, "inline.outdated") is True and value_at(new, "inline.path") is None:
        instead["inline"] = (None, None)
        match.result.known[thing.name, "inline", "the code does not have the place any more"] += 1
    match.fields(document, thing, name, old, new, instead=instead, key=f"{key}/{name}")
    _compare_resolution(match, document, thing, old, new)


def _compare_resolution(match: Match, document: str, thing: Thing, old: JsonObject, new: JsonObject) -> None:
    before, after = (one.get("resolution") is not None for one in (old, new))
    if before != after:
        is_on_code = old.get("inline") is not None
        why = None if is_on_code or after else _GENERAL
        match.note(
            document, thing.name, str(old.get("id")), How.DIFFERS, field="resolved", original=before,
            copy=after, why=why,
        )  # fmt: skip


def texts_of(
    original: Side, copy: Side, old: Json, new: Json, number: str | None = None
) -> tuple[Json, Json]:
    """Two texts, to be compared: equal where the copy has the whole original; see `is_copy`."""
    before, after = original.text(old) or "", copy.text(new) or ""
    return (before, before) if is_copy(before, after, number) else (before, after)


def _documents(side: Side, folder: str) -> Iterator[tuple[str, JsonObject]]:
    for path in side.paths():
        if path.startswith(f"{folder}/") and not is_erased(document := object_at(side, path)):
            yield path, document


def _thing(document: JsonObject) -> JsonObject:
    found = document.get("pull_request")
    return found if isinstance(found, dict) else {}


def _reviewers_of(pull: JsonObject, people: Mapping[str, str]) -> list[Json]:
    found: list[Json] = plain_fields({"reviewers": pull.get("reviewers") or []}, people)["reviewers"]
    return found


def _title(document: JsonObject) -> Json:
    return _thing(document).get("title")


def _number(document: JsonObject) -> str:
    return str(_thing(document).get("id") or "")


def _fork_of(pull: JsonObject) -> str | None:
    """The uuid of the other repository that a pull request comes from; None where it is its own."""
    source, own = value_at(pull, "source.repository.uuid"), value_at(pull, "destination.repository.uuid")
    return str(source) if source != own else None


def _branches(side: Side) -> dict[str, str]:
    """The branches of a repository's code, each with its hash."""
    code = side.mirrors.get("code")
    refs: Sequence[tuple[bytes, str]] = tuple(code.refs.refs.items()) if code is not None else ()
    return {
        name.removeprefix(_HEADS).decode("utf-8", "surrogateescape"): value
        for name, value in refs
        if name.startswith(_HEADS)
    }
