"""Reading run records: what each run did, in the order of their chain.

Each record names the one written before it, by its id and sha256. That chain is the order; no time and
no name is, because a clock may have been wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from mirror.logs import get_logger
from mirror.model import JsonObject, NotCanonical, loads, run_time
from mirror.store.format import layout
from mirror.store.format.failures import Malformed, StoreDamaged, Unreadable
from mirror.store.format.small_files import parse_small_file, read_bytes

_log = get_logger("store")
T = TypeVar("T")
OnDamage = Callable[[StoreDamaged], None]
# A repository or workspace: its kind and uuid.
Key = tuple[str, str]


@dataclass(frozen=True)
class RunRecord:
    """One run record: `data` is its JSON, `sha256` that of its bytes, `size` how many these are.

    `previous` is the sha256 of the record written before it, None for the first of a store.
    """

    id: str
    path: Path
    data: JsonObject
    sha256: str
    size: int = 0

    @property
    def kind(self) -> str:
        """`backup`, `verify`, …"""
        return str(self.data["kind"])

    @property
    def previous(self) -> str | None:
        """The sha256 of the record before."""
        value = self.data["previous"]
        return None if value is None else str(value)

    @property
    def previous_run(self) -> str | None:
        """The id of the record before; records up to version 0.4 do not tell it."""
        value = self.data.get("previous_run")
        return None if value is None else str(value)

    @property
    def number(self) -> int:
        """How many records were written up to this one, itself included; 0 up to version 0.4."""
        return int(self.data.get("number", 0))

    @property
    def started(self) -> str:
        """When the run began, as text."""
        return str(self.data["started"])

    @property
    def ended(self) -> datetime:
        """When the run ended."""
        return run_time(self.data)

    @property
    def exit_code(self) -> int:
        """The run's exit code."""
        return int(self.data["exit_code"])

    @property
    def is_chained(self) -> bool:
        """Whether it is of the form that tells the record before it by id, and counts."""
        return self.number > 0

    @property
    def list_sha256(self) -> str | None:
        """The list of what the run looked at, and found as the list says but for the entries."""
        value = self.data.get("looked_at")
        return None if value is None else str(value)

    @property
    def checkpoint(self) -> str | None:
        """The list of all that the records up to this one tell, where this is a checkpoint."""
        value = self.data.get("checkpoint")
        return None if value is None else str(value)

    @cached_property
    def looked_at(self) -> Mapping[Key, JsonObject]:
        """What the run looked at: of each thing who it is, and how it stands unless an entry says otherwise.

        Raises StoreDamaged where the list is lost or damaged.
        """
        return {} if self.list_sha256 is None else things_of(self.path.parent.parent, self.list_sha256)

    def told(self) -> Iterator[JsonObject]:
        """The entries of the record alone, each with who it is about. Raises StoreDamaged."""
        for entry in self.data["entries"]:
            yield self._whole(entry) if self.is_chained else entry

    def entries(self) -> list[JsonObject]:
        """An entry for each thing that the run looked at. Raises StoreDamaged."""
        told = {key_of(entry): entry for entry in self.told()}
        found = [told.pop(key) if key in told else _filled(thing) for key, thing in self.looked_at.items()]
        return [*found, *told.values()]

    def _whole(self, entry: JsonObject) -> JsonObject:
        thing = self.looked_at.get(key_of(entry), {})
        names = {name: thing.get(name, "") for name in ("full_name", "folder")}
        return _filled({**names, **entry})


def _filled(entry: JsonObject) -> JsonObject:
    """An entry with all that readers look for."""
    plain: JsonObject = {"kind": "repository", "snapshot": None, "ledger": None}
    plain |= {"problems": [], "ref_changes": [], "facts": {}}
    return {**plain, **entry}


def key_of(entry: JsonObject) -> Key:
    """What an entry is about."""
    return str(entry.get("kind", "repository")), str(entry["uuid"])


def things_of(root: Path, sha256: str) -> dict[Key, JsonObject]:
    """The things in the list of this sha256. Raises StoreDamaged."""
    return read_list(root, sha256, lambda data: {key_of(one): one for one in data["things"]})


def read_list(root: Path, sha256: str, build: Callable[[JsonObject], T]) -> T:
    """The value that `build` makes of the list of this sha256. Raises StoreDamaged."""
    file = layout.run_list(sha256)
    try:
        data = (root / file).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise StoreDamaged(file, "it is missing, and a run record names it") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreDamaged(file, "its content is not what its name says")
    return parse_small_file(data, file, build)


def run_ids(root: Path) -> list[str]:
    """The ids of every run record, sorted by name, which is no order of time. Raises StoreDamaged."""
    folder = root / layout.RUNS
    if not folder.is_dir():
        return []
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise Unreadable(layout.RUNS, error.strerror or str(error)) from error
    return sorted(name[:-5] for name in names if name.endswith(".json") and layout.is_run_id(name[:-5]))


def read_run(root: Path, identifier: str) -> RunRecord:
    """One run record. Raises StoreDamaged naming its file."""
    file = layout.run_record(identifier)
    path = root / file
    data = read_bytes(root, file)

    def build(content: JsonObject) -> RunRecord:
        record = RunRecord(identifier, path, content, hashlib.sha256(data).hexdigest(), len(data))
        _check(record)
        return record

    return parse_small_file(data, file, build)


def _check(record: RunRecord) -> None:
    data = record.data
    if data.get("id") != record.id:
        raise Malformed(f"it is the record of the run {data.get('id')!r}")
    for key, kinds in (("kind", str), ("started", str), ("ended", str), ("entries", list)):
        if not isinstance(data.get(key), kinds):
            raise Malformed(f"{key!r} is missing or of another kind")
    if not all(isinstance(entry, dict) for entry in data["entries"]):
        raise Malformed("'entries' is not a list of objects")
    previous = data.get("previous")
    if "previous" not in data or not (previous is None or layout.is_sha256(previous)):
        raise Malformed("'previous' is not a sha256")
    before = data.get("previous_run")
    if not (before is None or (isinstance(before, str) and layout.is_run_id(before))):
        raise Malformed("'previous_run' is not the id of a run")
    if not all(data.get(key) is None or layout.is_sha256(data[key]) for key in ("looked_at", "checkpoint")):
        raise Malformed("a list is not named by a sha256")
    run_time(data)


def log_damage(damage: StoreDamaged) -> None:
    """Log a record that is damaged, and is passed over."""
    _log.warning("store.run_record_damaged", file=damage.file, problem=damage.problem)


def newest_first(
    root: Path, on_damage: OnDamage = log_damage, oldest: int | None = None
) -> Iterator[RunRecord]:
    """Run records, the one written last first; each is read when it is asked for.

    What is damaged or missing goes to `on_damage`, and the walk goes on with what is left. `oldest` is the
    number of the oldest record that is to be there; without it the walk ends before any checkpoint whose
    record before is not there, because `prune` lets go of those.
    """
    on_damage = _once(on_damage)
    record = last_written(root, on_damage)
    seen: set[str] = set()
    while record is not None:
        seen.add(record.id)
        yield record
        if record.previous is None or (oldest is not None and 0 < record.number <= oldest):
            return
        if record.previous_run is None:
            break
        if (
            oldest is None
            and record.checkpoint
            and not (root / layout.run_record(record.previous_run)).exists()
        ):
            return
        before = _before(root, record, on_damage)
        if before is None:
            break
        record = before
    if record is not None:
        # The chain is broken here, or was begun by a version that told no ids.
        yield from _rest(root, record, seen, on_damage)


def _once(on_damage: OnDamage) -> OnDamage:
    """`on_damage` for the first damage of each file: a record may be read more than once."""
    files: set[str] = set()

    def note(damage: StoreDamaged) -> None:
        if damage.file not in files:
            files.add(damage.file)
            on_damage(damage)

    return note


def _before(root: Path, record: RunRecord, on_damage: OnDamage) -> RunRecord | None:
    """The record before `record`, if it is there and is the one that was written."""
    assert record.previous_run is not None
    try:
        before = read_run(root, record.previous_run)
        if before.sha256 != record.previous:
            raise StoreDamaged(layout.run_record(before.id), "it was changed since it was written")
    except StoreDamaged as damage:
        on_damage(damage)
        return None
    return before


@dataclass(frozen=True)
class _Link:
    """Where a record stands in the chain; all that is held of very many."""

    id: str
    sha256: str
    previous: str | None
    number: int


def _rest(root: Path, after: RunRecord, seen: set[str], on_damage: OnDamage) -> Iterator[RunRecord]:
    """The records that were not `seen` and are older than `after`, the newest first: by their number, and
    those without one by their chain."""
    left = _read_links(root, seen, on_damage)
    numbered = sorted((one for one in left if one.number), key=lambda one: one.number, reverse=True)
    numbered = [one for one in numbered if one.number < after.number]
    old = [one for one in left if not one.number]
    hashes = {one.sha256 for one in old}
    broken = [one.id for one in old if one.previous is not None and one.previous not in hashes]
    if not after.is_chained and after.previous not in hashes:
        broken.append(after.id)
    for identifier in broken:
        text = "the run record before it is missing or was changed"
        on_damage(StoreDamaged(layout.run_record(identifier), text))
    for link in [*numbered, *reversed(_in_chain_order(old))]:
        try:
            yield read_run(root, link.id)
        except StoreDamaged as damage:  # it was there a moment ago
            on_damage(damage)


def _read_links(root: Path, but: set[str], on_damage: OnDamage) -> list[_Link]:
    found: list[_Link] = []
    try:
        identifiers = run_ids(root)
    except StoreDamaged as damage:
        on_damage(damage)
        return found
    for identifier in identifiers:
        if identifier not in but:
            try:
                one = read_run(root, identifier)
            except StoreDamaged as damage:
                on_damage(damage)
            else:
                found.append(_Link(one.id, one.sha256, one.previous, one.number))
    return found


def _in_chain_order(links: list[_Link]) -> list[_Link]:
    following: dict[str, list[_Link]] = {}
    hashes = {one.sha256 for one in links}
    starts = []
    for one in links:
        if one.previous is not None and one.previous in hashes:
            following.setdefault(one.previous, []).append(one)
        else:
            starts.append(one)
    ordered: list[_Link] = []
    waiting = starts[::-1]
    while waiting:
        one = waiting.pop()
        ordered.append(one)
        waiting.extend(following.get(one.sha256, [])[::-1])
    return ordered


def last_written(root: Path, on_damage: OnDamage = log_damage) -> RunRecord | None:
    """The record that was written last, None where there is none that can be read.

    The cache knows it; where that was lost, or a run was killed between its record and the cache, records
    are read until it is clear.
    """
    try:
        identifiers = run_ids(root)
    except StoreDamaged as damage:
        on_damage(damage)
        return None
    known = cached_last(root)
    if known is not None:
        identifier, digest, count = known
        try:
            record = read_run(root, identifier)
        except StoreDamaged:
            record = None  # reported below
        if record is not None and record.sha256 == digest:
            later = _after(root, record, identifiers, len(identifiers) - count)
            if later is not None:
                return later
    last = _last_of(_read_links(root, set(), on_damage))
    return None if last is None else read_run(root, last.id)


def cached_last(root: Path) -> tuple[str, str, int] | None:
    """What the cache says of the record written last: its id, its sha256, and how many there were."""
    try:
        last = loads((root / layout.LAST_RUN).read_bytes())
        identifier, digest, count = str(last["id"]), str(last["sha256"]), int(last["runs"])
    except (OSError, NotCanonical, KeyError, TypeError, ValueError):
        return None
    return (identifier, digest, count) if layout.is_run_id(identifier) else None


def _after(root: Path, record: RunRecord, identifiers: list[str], count: int) -> RunRecord | None:
    """The last of the `count` records that were written after `record`; None where that is not clear."""
    if count <= 0:
        return record if count == 0 else None
    following: dict[str, RunRecord] = {}
    for identifier in identifiers[: -4 * count - 1 : -1]:  # a new one is most likely the last by name
        try:
            one = read_run(root, identifier)
        except StoreDamaged:
            return None
        if one.previous is not None:
            following[one.previous] = one
    for _ in range(count):
        if record.sha256 not in following:
            return None
        record = following[record.sha256]
    return record


def _last_of(links: list[_Link]) -> _Link | None:
    """The last of all records: the one that counts the most; before there were counts, one that no other
    names."""
    if any(one.number for one in links):
        return max(links, key=lambda one: one.number)
    named = {one.previous for one in links}
    ends = [one for one in _in_chain_order(links) if one.sha256 not in named]
    return ends[-1] if ends else None


def runs(root: Path, kind: str | None = None, on_damage: OnDamage | None = None) -> Iterator[RunRecord]:
    """Every run record (of `kind`) that is there, in the order in which they were written.

    What is damaged raises StoreDamaged, or goes to `on_damage` where that is given.
    """
    found = list(newest_first(root, on_damage or _raise))
    yield from (one for one in reversed(found) if kind is None or one.kind == kind)


def _raise(damage: StoreDamaged) -> None:
    raise damage


def last_run(root: Path, kind: str | None = None) -> RunRecord | None:
    """The run record (of `kind`) that was written last. Damaged ones are logged and passed over."""
    for record in newest_first(root):
        if kind is None or record.kind == kind:
            return record
    return None


def check_last(root: Path) -> None:
    """Raise StoreDamaged where the cache knows of a run record, written last, that is not there.

    Every other record is held by the one after it. Without the cache nobody can tell.
    """
    known = cached_last(root)
    if known is not None and read_run(root, known[0]).sha256 != known[1]:
        raise StoreDamaged(layout.run_record(known[0]), "it was changed since it was written")
