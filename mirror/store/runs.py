"""Reading run records: what each run did, chained by sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mirror.logs import get_logger
from mirror.model import JsonObject, NotCanonical, loads, run_time
from mirror.store import layout
from mirror.store.failures import Malformed, StoreDamaged, Unreadable
from mirror.store.records import parse_small

_log = get_logger("store")


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
    def ended(self) -> datetime:
        """When the run ended."""
        return run_time(self.data)


def run_ids(root: Path) -> list[str]:
    """The ids of every run record, sorted (by the start of each run)."""
    folder = root / layout.RUNS
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return sorted(name[:-5] for name in names if name.endswith(".json") and layout.is_run_id(name[:-5]))


def read_run(root: Path, identifier: str) -> RunRecord:
    """One run record. Raises StoreDamaged naming its file."""
    file = layout.run_record(identifier)
    path = root / file
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise StoreDamaged(file, "it is missing") from error
    except OSError as error:
        raise Unreadable(file, error.strerror or str(error)) from error

    def build(content: JsonObject) -> RunRecord:
        record = RunRecord(identifier, path, content, hashlib.sha256(data).hexdigest(), len(data))
        _check(record)
        return record

    return parse_small(data, file, build)


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
    run_time(data)


def runs(
    root: Path, kind: str | None = None, on_damage: Callable[[StoreDamaged], None] | None = None
) -> Iterator[RunRecord]:
    """Run records in the order in which they were written, the oldest first.

    Two runs at a time may end in another order than they began, so the order is that of the
    chain, and that of ids only where the chain is broken. A record that cannot be read raises
    StoreDamaged, or goes to `on_damage` where that is given.
    """
    links: dict[str, tuple[str, str | None]] = {}  # id to its sha256 and the one before
    for identifier in run_ids(root):
        try:
            record = read_run(root, identifier)
        except StoreDamaged as damage:
            if on_damage is None:
                raise
            on_damage(damage)
            continue
        links[identifier] = (record.sha256, record.previous)
    for identifier in _in_chain_order(links):
        record = read_run(root, identifier)
        if kind is None or record.kind == kind:
            yield record


def _in_chain_order(links: dict[str, tuple[str, str | None]]) -> list[str]:
    following: dict[str, list[str]] = {}
    hashes = {digest for digest, _ in links.values()}
    starts = []
    for identifier, (_, previous) in links.items():
        if previous is not None and previous in hashes:
            following.setdefault(previous, []).append(identifier)
        else:
            starts.append(identifier)
    ordered: list[str] = []
    waiting = sorted(starts, reverse=True)
    while waiting:
        identifier = waiting.pop()
        ordered.append(identifier)
        waiting.extend(sorted(following.get(links[identifier][0], []), reverse=True))
    return ordered


def last_run(root: Path, kind: str | None = None) -> RunRecord | None:
    """The run record that began last (of `kind`). Damaged ones are logged and passed over."""
    for record in newest_first(root):
        if kind is None or record.kind == kind:
            return record
    return None


def check_last(root: Path) -> None:
    """Raise StoreDamaged where the cache knows of a run record, written last, that is not there.

    Every other record is held by the one after it. Without the cache nobody can tell.
    """
    try:
        last = loads((root / layout.LAST_RUN).read_bytes())
        identifier, digest = str(last["id"]), str(last["sha256"])
    except (OSError, NotCanonical, KeyError, TypeError):
        return
    if layout.is_run_id(identifier) and read_run(root, identifier).sha256 != digest:
        raise StoreDamaged(layout.run_record(identifier), "it was changed since it was written")


def newest_first(root: Path, on_damage: Callable[[StoreDamaged], None] | None = None) -> Iterator[RunRecord]:
    """Run records by id, the newest first. Damaged ones are logged and passed over, or go to `on_damage`
    where that is given."""
    for identifier in reversed(run_ids(root)):
        try:
            yield read_run(root, identifier)
        except StoreDamaged as damage:
            if on_damage is not None:
                on_damage(damage)
                continue
            _log.warning("store.run_record_damaged", file=damage.file, problem=damage.problem)


def last_confirmed(root: Path, uuid: str, snapshot: str) -> datetime | None:
    """When a backup run last found the thing `uuid` as the snapshot of this id has it."""
    for record in newest_first(root):
        if record.kind != "backup":
            continue
        for entry in record.data["entries"]:
            if entry.get("uuid") != uuid or entry.get("outcome") not in ("saved", "confirmed"):
                continue
            named = entry.get("snapshot")
            if named == snapshot:
                return record.ended
            if isinstance(named, str) and named < snapshot:
                return None  # this run came before the snapshot was taken
    return None
