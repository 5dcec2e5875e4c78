"""Reading run records: what each run did, in the order of their chain.

Each record names the previous one by its id and sha256. Only that chain is the order: clocks may be wrong.
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
    """One run record: its JSON (`data`), and the sha256 and size of the file."""

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
        """The sha256 of the previous record; None for the first one of a store."""
        value = self.data["previous"]
        return None if value is None else str(value)

    @property
    def previous_run(self) -> str | None:
        """The id of the previous record; None also up to version 0.4."""
        value = self.data.get("previous_run")
        return None if value is None else str(value)

    @property
    def number(self) -> int:
        """The number of the record, counted from 1; 0 up to version 0.4."""
        return int(self.data.get("number", 0))

    @property
    def started(self) -> str:
        """When the run began, in ISO 8601."""
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
    def is_announced(self) -> bool:
        """Whether it is a record of repositories that hooks announced, and not a run of everything."""
        return bool(self.data.get("facts", {}).get("announced"))

    @property
    def is_chained(self) -> bool:
        """Whether the record has a number and the id of the previous one."""
        return self.number > 0

    @property
    def list_sha256(self) -> str | None:
        """The list of the repositories and workspaces that the run processed, with their state unless an
        entry says otherwise."""
        value = self.data.get("looked_at")
        return None if value is None else str(value)

    @property
    def checkpoint(self) -> str | None:
        """The list that summarizes the records up to this one, if this is a checkpoint."""
        value = self.data.get("checkpoint")
        return None if value is None else str(value)

    @cached_property
    def looked_at(self) -> Mapping[Key, JsonObject]:
        """The content of the list: the name and state of each repository and workspace.

        Raises StoreDamaged where the list is missing or damaged.
        """
        return {} if self.list_sha256 is None else read_listed(self.path.parent.parent, self.list_sha256)

    def recorded_entries(self) -> Iterator[JsonObject]:
        """The entries in the record itself, with their names. Raises StoreDamaged."""
        for entry in self.data["entries"]:
            yield self._with_names(entry) if self.is_chained else entry

    def entries(self) -> list[JsonObject]:
        """An entry for each repository and workspace that the run processed. Raises StoreDamaged."""
        recorded = {key_of(entry): entry for entry in self.recorded_entries()}
        listed = [
            recorded.pop(key) if key in recorded else _with_defaults(thing)
            for key, thing in self.looked_at.items()
        ]
        return [*listed, *recorded.values()]

    def _with_names(self, entry: JsonObject) -> JsonObject:
        thing = self.looked_at.get(key_of(entry), {})
        names = {name: thing.get(name, "") for name in ("full_name", "folder")}
        return _with_defaults({**names, **entry})


def _with_defaults(entry: JsonObject) -> JsonObject:
    """An entry with every field that readers use."""
    plain: JsonObject = {"kind": "repository", "snapshot": None, "ledger": None}
    plain |= {"problems": [], "ref_changes": [], "facts": {}}
    return {**plain, **entry}


def key_of(entry: JsonObject) -> Key:
    """The repository or workspace of an entry."""
    return str(entry.get("kind", "repository")), str(entry["uuid"])


def read_listed(root: Path, sha256: str) -> dict[Key, JsonObject]:
    """The repositories and workspaces in a list. Raises StoreDamaged."""
    return read_list(root, sha256, lambda data: {key_of(one): one for one in data["things"]})


def read_list(root: Path, sha256: str, build: Callable[[JsonObject], T]) -> T:
    """Read a list and pass it to `build`; returns its result. Raises StoreDamaged."""
    file = layout.run_list(sha256)
    try:
        data = (root / file).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise StoreDamaged(file, "it is missing, and a run record names it") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreDamaged(file, "its content is not what its name says")
    return parse_small_file(data, file, build)


def run_ids(root: Path) -> list[str]:
    """The ids of all run records, sorted; that is not their order. Raises StoreDamaged."""
    folder = root / layout.RUNS
    if not folder.is_dir():
        return []
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise Unreadable(layout.RUNS, error.strerror or str(error)) from error
    return sorted(name[:-5] for name in names if name.endswith(".json") and layout.is_run_id(name[:-5]))


def read_run(root: Path, identifier: str) -> RunRecord:
    """Read one run record. Raises StoreDamaged."""
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
    """Log a damaged record, which is skipped."""
    _log.warning("store.run_record_damaged", file=damage.file, problem=damage.problem)


def newest_first(
    root: Path, on_damage: OnDamage = log_damage, oldest: int | None = None
) -> Iterator[RunRecord]:
    """Run records, the newest first, read lazily.

    A damaged or missing record goes to `on_damage`, and the walk continues with the others. `oldest` is the
    number of the oldest record that must exist. Without it the walk ends at a checkpoint whose previous
    record is missing, because `prune` removes old records.
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
        before = _previous(root, record, on_damage)
        if before is None:
            break
        record = before
    if record is not None:
        # The chain is broken here, or a version that wrote no ids began it.
        yield from _rest(root, record, seen, on_damage)


def _once(on_damage: OnDamage) -> OnDamage:
    """`on_damage` for the first damage of each file only: a record may be read several times."""
    files: set[str] = set()

    def note(damage: StoreDamaged) -> None:
        if damage.file not in files:
            files.add(damage.file)
            on_damage(damage)

    return note


def _previous(root: Path, record: RunRecord, on_damage: OnDamage) -> RunRecord | None:
    """The previous record, if it exists and is unchanged."""
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
    """The position of a record in the chain: all that stays in memory of each of many."""

    id: str
    sha256: str
    previous: str | None
    number: int


def _rest(root: Path, after: RunRecord, seen: set[str], on_damage: OnDamage) -> Iterator[RunRecord]:
    """The records that are older than `after` and not `seen`, the newest first: in the order of numbers, then
    those without one in the order of their chain."""
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
        except StoreDamaged as damage:  # removed meanwhile
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
    """The newest record, or None where there is no intact one.

    The cache has it. If that was lost, or a run was killed before it updated the cache, records are read
    until the newest is certain.
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
    """The newest record by the cache: its id, its sha256, and the number of records."""
    try:
        last = loads((root / layout.LAST_RUN).read_bytes())
        identifier, digest, count = str(last["id"]), str(last["sha256"]), int(last["runs"])
    except (OSError, NotCanonical, KeyError, TypeError, ValueError):
        return None
    return (identifier, digest, count) if layout.is_run_id(identifier) else None


def _after(root: Path, record: RunRecord, identifiers: list[str], count: int) -> RunRecord | None:
    """The last of the `count` records that were written after `record`; None where that is uncertain."""
    if count <= 0:
        return record if count == 0 else None
    following: dict[str, RunRecord] = {}
    for identifier in identifiers[: -4 * count - 1 : -1]:  # the newest ones are most likely the last by name
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
    """The newest record: the one with the highest number; without numbers, one that no other names."""
    if any(one.number for one in links):
        return max(links, key=lambda one: one.number)
    named = {one.previous for one in links}
    ends = [one for one in _in_chain_order(links) if one.sha256 not in named]
    return ends[-1] if ends else None


def runs(root: Path, kind: str | None = None, on_damage: OnDamage | None = None) -> Iterator[RunRecord]:
    """Every run record (of `kind`), the oldest first.

    A damaged one raises StoreDamaged, or goes to `on_damage` if that is given.
    """
    found = list(newest_first(root, on_damage or _raise))
    yield from (one for one in reversed(found) if kind is None or one.kind == kind)


def _raise(damage: StoreDamaged) -> None:
    raise damage


def last_run(root: Path, kind: str | None = None) -> RunRecord | None:
    """The newest run record (of `kind`). Damaged ones are logged and skipped."""
    for record in newest_first(root):
        if kind is None or record.kind == kind:
            return record
    return None


def check_last(root: Path) -> None:
    """Raise StoreDamaged where the newest record by the cache is missing or changed.

    Every other record is checked by the one after it. Without the cache the last one cannot be checked.
    """
    known = cached_last(root)
    if known is not None and read_run(root, known[0]).sha256 != known[1]:
        raise StoreDamaged(layout.run_record(known[0]), "it was changed since it was written")
