"""Makes the step of one thing of a kind, as Bitbucket showed it, from the catalogue's row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mirror.bitbucket.writes import Write, name_of
from mirror.collect.catalogue import Row
from mirror.collect.put_back import Sent
from mirror.model import Json, JsonObject, picked, value_at, with_value
from mirror.restore.plan.repository import pushable, takes_ref
from mirror.restore.plan.source import Options, Source, Target
from mirror.restore.plan.steps import Call, Excuse, Find, Loss, Made, Retry, Secret, Step, Why

Parts = Mapping[str, str | int | Made]
_HEADS = b"refs/heads/"


@dataclass(frozen=True)
class Place:
    """Where the things of a plan belong: the parts of their paths, the words that begin their keys after the
    name of the source, and the steps that they wait for. `taken` are the keys that were given so far, and
    `people` those whom a thing is about, by its kind and the words."""

    source: Source
    target: Target
    options: Options
    parts: Parts
    after: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    taken: set[str] = field(default_factory=set)
    people: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def owner(self) -> str:
        """What the things belong to, for people."""
        return self.words[-1] if self.words else self.source.title

    def inside(self, *words: str, after: str, **parts: str | int | Made) -> Place:
        """A place inside this one."""
        return replace(self, parts={**self.parts, **parts}, after=(after,), words=(*self.words, *words))

    def key(self, row: Row, natural: str) -> str:
        """The key of a thing, which no other has: a number tells two of one natural key apart."""
        word = row.name.replace("_", "-")
        for level in ("project-", "workspace-", "environment-"):
            word = word.removeprefix(level)
        base = self.source.key(*self.words, word, *([natural] if natural else []))
        key, number = base, 1
        while key in self.taken:
            number += 1
            key = f"{base} #{number}"
        self.taken.add(key)
        return key


def steps_of_thing(
    row: Row, shown: JsonObject, place: Place, *, at_first: Mapping[str, Json] | None = None
) -> Iterator[Step | Loss]:
    """What of a thing is lost, and the step that puts it back, where anything of it can be.

    `at_first` are fields that are sent in another way when it is made; they are neither compared nor changed.
    """
    thing = _Thing(row, shown, place, at_first or {})
    step = thing.step()
    yield from thing.losses
    if step is not None:
        yield step


def write_of(row: Row) -> Write:
    """How Bitbucket takes what a row describes."""
    return _sent_by(row).write


def _sent_by(row: Row) -> Sent:
    assert isinstance(row.put_back, Sent), row.kind
    return row.put_back


class _Thing:
    """One thing on its way into a plan. `losses` are what of it does not come back."""

    def __init__(self, row: Row, shown: JsonObject, place: Place, at_first: Mapping[str, Json]) -> None:
        self.losses: list[Loss] = []
        self._row = row
        self._write = write_of(row)
        self._shown = shown
        self._place = place
        self._at_first = at_first
        self._key = place.key(row, " ".join(map(str, self._natural().values())))
        name = f": {self._write.name(shown)}" if self._write.key else ""
        self._label = f"{row.kind} of {place.owner}{name}"

    def step(self) -> Step | None:
        """The step that puts it back; None where nothing of it can be sent."""
        write, place = self._write, self._place
        if not self._take_people():
            return None
        formed = self._without_lost_branches(write.form(self._shown))
        body = picked(formed, write.body)
        if not write.key and all(value in ([], {}) for value in body.values()):
            return None
        for name, value in self._at_first.items():
            if value_at(body, name) is not None:
                body = with_value(body, name, value)
        if write.hidden is not None and self._is_hidden():
            if self._key in place.options.secrets:
                body = with_value(body, write.hidden.field, Secret(self._key))
            else:
                self._lose(Why.SECRET)
                if write.hidden.is_needed:
                    return None
        parts = {**place.parts, "who": str(value_at(self._shown, write.who))} if write.who else place.parts
        change, wanted = self._change(parts, body, formed), self._wanted(formed)
        names = write.change.fields if write.change is not None else None
        return Step(
            self._key, self._row.kind, self._label,
            Call(write.method, write.endpoint, parts, body or None),
            _sent_by(self._row).stage, place.after,
            Find(self._row.endpoint, place.parts, self._natural()),
            change,
            wanted,
            tuple(self._retries(body)),
            tuple(Excuse(one.status, one.text, Why.PERSON) for one in write.not_there),
            write.needs_user,
            fixed=tuple(name for name in wanted if names is not None and name not in names),
        )  # fmt: skip

    def _lose(self, why: Why, detail: str = "", *, of: str = "") -> None:
        """Note that the thing is lost, or a part `of` it."""
        key = f"{self._key}/{of}" if of else self._key
        label = f"{of} of {self._label}" if of else self._label
        self.losses.append(Loss(key, self._row.kind, label, why, detail))

    def _natural(self) -> dict[str, Json]:
        """The fields that tell the thing apart, without those that say nothing where others do."""
        found = {name: value_at(self._shown, name) for name in self._write.key}
        return {name: value for name, value in found.items() if value not in (None, "")} or found

    def _is_hidden(self) -> bool:
        """Whether the thing has a value that Bitbucket never shows."""
        hidden = self._write.hidden
        return hidden is not None and value_at(self._shown, hidden.flag) is True

    # -- what is not at the target

    def _take_people(self) -> bool:
        """Put the people of now in the place of those of then. Whoever is not at the target is left out of a
        list; returns whether the thing is about nobody else."""
        write = self._write
        if write.person is not None:
            name = f"{write.person}.uuid".lstrip(".")
            uuid = self._person(value_at(self._shown, name))
            if uuid is None:
                self._lose(Why.PERSON)
                return False
            person = (self._row.kind, *self._place.words, uuid)
            if person in self._place.people:  # several people of then are one of now
                self._lose(Why.SAME)
                return False
            self._place.people.add(person)
            self._shown = with_value(self._shown, name, uuid)
        several = value_at(self._shown, write.people) if write.people is not None else None
        if write.people is not None and isinstance(several, list):
            kept: list[Json] = []
            for one in several:
                uuid = self._person(value_at(one, "uuid"))
                if uuid is None:
                    self._lose(Why.PERSON, of=name_of(one))
                else:
                    kept.append({**one, "uuid": uuid})
            self._shown = with_value(self._shown, write.people, kept)
        return True

    def _person(self, uuid: Json) -> str | None:
        """The uuid at the target of a person of then; None where nobody there is that."""
        if not isinstance(uuid, str):
            return None
        found, members = self._place.options.person(uuid.lower()), self._place.target.members
        return found if members is None or found in members else None

    def _without_lost_branches(self, formed: JsonObject) -> JsonObject:
        """Without what names a branch that is not restored: the server would refuse all of the thing."""
        source = self._place.source
        for name in self._write.branches:
            branch = value_at(formed, f"{name}.name")
            if not isinstance(branch, str):
                continue
            ref = _HEADS + branch.encode("utf-8", "surrogateescape")
            if ref not in pushable(source):
                self._lose(Why.LACKING, f"there is no branch {branch}", of=name)
            elif not takes_ref(self._place.options, ref):
                self._lose(Why.CHOSEN, f"the branch {branch} is not restored", of=name)
            else:
                continue
            formed = with_value(formed, name, None)
        return formed

    # -- what exists

    def _wanted(self, formed: JsonObject) -> dict[str, object]:
        """The fields that are compared where the thing exists: what is sent, and what Bitbucket shows."""
        unseen = {*self._write.key, *self._at_first}
        if self._write.hidden is not None and self._is_hidden():
            unseen.add(self._write.hidden.field)
        several = {name: value_at(formed, name) for name in self._write.body if name not in unseen}
        return {name: value for name, value in several.items() if value is not None}

    def _change(self, parts: Parts, body: JsonObject, formed: JsonObject) -> Call | None:
        """The request that changes a thing which exists; None where nothing can."""
        write, change = self._write, self._write.changes
        if change is None:
            return None
        source, names = body, list(write.body)
        if change.fields is not None:
            source, names = formed, list(change.fields)
        elif write.hidden is not None:
            names.append(write.hidden.field)
        changes = picked(source, [one for one in names if one not in self._at_first])
        if not changes:
            return None
        where = parts if change.endpoint is write.endpoint else {**parts, "id": Made(self._key, write.id)}
        content = {change.inside: changes} if change.inside else changes
        return Call(change.method, change.endpoint, where, content)

    def _retries(self, body: JsonObject) -> Iterator[Retry]:
        """What else may be sent where the server refuses the whole. Of a list, the entries that it names go
        first."""
        for one in self._write.again:
            sent = value_at(body, one.field)
            if not sent or (value := one.value(sent)) == sent:
                continue
            named = [
                (str(text), entry)
                for entry, whole in zip(sent, value_at(self._shown, one.field), strict=False)
                if isinstance(entry, dict)
                for text in dict.fromkeys((name_of(whole), *entry.values()))
            ]
            yield Retry(one.status, one.field, one.note, value, tuple(named))
