"""Pairing the things of two snapshots by their natural keys, and comparing each pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mirror.bitbucket.settable import ACCOUNT, NO_UUID, Thing, plain_fields
from mirror.bitbucket.settable import things as all_things
from mirror.collect.marks import entry_is_gone
from mirror.model import Json, JsonObject, dumps
from mirror.restore.comparison.differences import Comparison, Difference, How

GONE = "upstream did not have it any more"
THERE_BEFORE = "the target may have had it before, and a restore deletes nothing"
NO_TARGET = "the backup does not say what it builds"
NOT_GIVEN = "to be entered again: the secrets file does not have it"
INACTIVE = "hooks come back inactive (see --activate-hooks)"
NOT_A_MEMBER = "the person is not at the target"
ERASED = "it was erased on purpose"
TAKES_NOBODY = "restrictions of this kind take neither users nor groups"
NEVER_READ = "the backup of the original never read it"
# Bitbucket takes users and groups for these kinds of restrictions alone.
_WITH_EXEMPTIONS = frozenset({"push", "restrict_merges"})
_EXEMPT = ("users", "groups")
_HOOKS = (all_things.HOOK, all_things.WORKSPACE_HOOK)
Explain = Callable[[Difference], str | None]


def explains_nothing(_: Difference) -> str | None:
    """No difference has a reason."""
    return None


@dataclass(frozen=True)
class Rules:
    """How a copy is compared with its original.

    `people` maps uuids of accounts of the original to those of the copy. `members` are the uuids of the
    members of the copy's workspace; None: nobody knows them. `without_secrets`: secured variables may be
    missing, because nobody gave their values. `hooks_inactive`: hooks may be inactive, as a restore leaves
    them. `allows_more`: what the copy alone has may have been there before. `explain` gives the reason for a
    difference that the report of the restore has, or None.
    """

    people: Mapping[str, str] = field(default_factory=dict)
    members: frozenset[str] | None = None
    without_secrets: bool = False
    hooks_inactive: bool = False
    allows_more: bool = False
    explain: Explain = explains_nothing


@dataclass(frozen=True)
class Match:
    """A comparison of the original called `place` with its copy; `result` has the findings so far."""

    place: str
    result: Comparison
    rules: Rules = field(default_factory=Rules)

    @property
    def people(self) -> Mapping[str, str]:
        """As in `Rules`."""
        return self.rules.people

    def note(self, document: str, thing: str, name: str, how: How, **more: Json) -> None:
        """Note a difference; `more` are the other fields of `Difference`."""
        made = Difference(self.place, document, thing, name, how, **more)
        if made.why is None and how is How.MORE and self.rules.allows_more:
            made = Difference(self.place, document, thing, name, how, why=THERE_BEFORE)
        if made.why is None:
            why = self.rules.explain(made)
            made = made if why is None else Difference(**{**made.__dict__, "why": why})
        self.result.add(made)

    def things(
        self,
        document: str,
        thing: Thing,
        original: Json,
        copy: Json,
        *,
        missing: str | None = None,
        key: str = "",
    ) -> None:
        """Compare two lists of things of one kind. `missing` says why the copy may lack any of them; `key`
        begins the keys of the steps that make them."""
        if is_erased(original):
            self.note(document, thing.name, "", How.MISSING, why=ERASED)
            return
        if original is None:
            if copy:
                self.result.known[thing.name, "all", NEVER_READ] += 1
            return
        if copy is None and original:
            self.note(document, thing.name, "", How.UNREAD, why=missing)
            return
        gone = [one for one in _objects(original) if entry_is_gone(one)]
        pairs = self.pair(thing, [one for one in _objects(original) if one not in gone], _objects(copy))
        for old, new in pairs:
            name = name_of(thing, old or new or {}, self.people if old else {})
            if old is None:
                if new is not None and not self._is_one_of(thing, new, gone):
                    self.note(document, thing.name, name, How.MORE)
            elif new is None:
                why = missing or self._why_lacking(thing, old)
                step = f"{key}/{name}" if key else ""
                self.note(document, thing.name, name, How.MISSING, key=step, why=why)
            else:
                self.fields(document, thing, name, old, new)

    def _why_lacking(self, thing: Thing, old: JsonObject) -> str | None:
        """Why the copy cannot have a thing: it is secret, an account's that is not there, or the backup does
        not have enough of it. None where it can."""
        if thing is all_things.SCHEDULE and not isinstance(old.get("target"), dict):
            return NO_TARGET
        if self.rules.without_secrets and old.get("secured") is True:
            return NOT_GIVEN
        fields = plain_fields(old, self.people)
        values = [f"account {fields[one]}" if one == "uuid" else fields.get(one) for one in thing.key]
        return NOT_A_MEMBER if any(self._is_stranger(one) for one in values) else None

    def _is_stranger(self, value: Json) -> bool:
        """Whether a value is an account that is no member of the workspace of the copy."""
        if not isinstance(value, str) or not value.startswith(ACCOUNT):
            return False
        uuid = value.removeprefix(ACCOUNT)
        return uuid == NO_UUID or (self.rules.members is not None and uuid not in self.rules.members)

    def _is_one_of(self, thing: Thing, new: JsonObject, gone: Sequence[JsonObject]) -> bool:
        return key_of(thing, new, {}) in [key_of(thing, one, self.people) for one in gone]

    def pair(
        self, thing: Thing, original: Sequence[JsonObject], copy: Sequence[JsonObject]
    ) -> list[tuple[JsonObject | None, JsonObject | None]]:
        """Things of equal keys, in the order of the original; None where one side lacks it. Of several with
        one key the first belongs to the first."""
        waiting: dict[bytes, list[JsonObject]] = defaultdict(list)
        for one in copy:
            waiting[key_of(thing, one, {})].append(one)
        pairs: list[tuple[JsonObject | None, JsonObject | None]] = []
        for one in original:
            found = waiting[key_of(thing, one, self.people)]
            pairs.append((one, found.pop(0) if found else None))
        return [*pairs, *((None, one) for several in waiting.values() for one in several)]

    def fields(
        self,
        document: str,
        thing: Thing,
        name: str,
        original: JsonObject,
        copy: JsonObject,
        *,
        instead: Mapping[str, tuple[Json, Json]] | None = None,
        key: str = "",
    ) -> None:
        """Compare two things field by field. `instead` are values of dotted fields that are compared in place
        of those which the things have; `key` is as in `Difference`."""
        self.result.things += 1
        before, after = plain_fields(original, self.people), plain_fields(copy)
        for one, (old, new) in (instead or {}).items():
            for fields, value in ((before, old), (after, new)):
                for known in [key for key in fields if key == one or key.startswith(f"{one}.")]:
                    del fields[known]
                if value is not None:
                    fields[one] = value
        for one in sorted(before.keys() | after.keys()):
            old, new = before.get(one), after.get(one)
            if old != new:
                why = self._why_differs(thing, one, before, new)
                self.note(
                    document, thing.name, name, How.DIFFERS, field=one, original=old, copy=new, key=key,
                    why=why,
                )  # fmt: skip

    def _why_differs(self, thing: Thing, name: str, original: Mapping[str, Json], new: Json) -> str | None:
        """Why the field `name` of a thing may have the value `new` in the copy; None where it may not."""
        if why := thing.may_differ(name) or self._why_less(original.get(name), new):
            return why
        if new:
            return None
        takes_nobody = original.get("kind") not in _WITH_EXEMPTIONS
        if thing is all_things.BRANCH_RESTRICTION and name in _EXEMPT and takes_nobody:
            return TAKES_NOBODY
        return INACTIVE if self.rules.hooks_inactive and thing in _HOOKS and name == "active" else None

    def _why_less(self, old: Json, new: Json) -> str | None:
        """Why a list of accounts may have fewer: those who lack are not there."""
        if not isinstance(old, list) or not any(self._is_stranger(one) for one in old):
            return None
        return NOT_A_MEMBER if [one for one in old if not self._is_stranger(one)] == (new or []) else None


def is_erased(document: Json) -> bool:
    """Whether a document was erased on purpose: what stands in its place says when, and why."""
    return isinstance(document, dict) and document.keys() == {"erased"}


def key_of(thing: Thing, data: JsonObject, people: Mapping[str, str]) -> bytes:
    """The natural key of a thing, to be compared."""
    fields = plain_fields(data, people)
    return dumps([fields.get(one) for one in thing.key])


def name_of(thing: Thing, data: JsonObject, people: Mapping[str, str]) -> str:
    """The natural key of a thing, for people."""
    fields = plain_fields(data, people)
    return " ".join(str(fields[one]) for one in thing.key if fields.get(one) not in (None, ""))


def _objects(value: Json) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
