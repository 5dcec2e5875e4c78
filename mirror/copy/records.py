"""Run records and the lists they name, sent after the folders that they vouch for."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from mirror.copy.folder import coded
from mirror.copy.session import Session
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.seal import is_sealed, seal_fault
from mirror.store.reading.reader import RunRecord


@dataclass(frozen=True)
class Listed:
    """The run records that the store had before the first folder was looked at: their ids, and id and number
    of the newest in their chain."""

    ids: tuple[str, ...] = ()
    newest: str | None = None
    newest_number: int = 0


def list_records(session: Session) -> Listed:
    """The run records that there are now. Raises StoreDamaged."""
    reader = session.store.reader
    newest = reader.last_run()
    number = newest.number if newest is not None else 0
    return Listed(tuple(reader.run_ids()), newest.id if newest is not None else None, number)


def record_key(session: Session, identifier: str) -> str:
    """The key of a run record."""
    return f"{layout.run_record(identifier)}{session.coding.suffix}"


def list_key(session: Session, sha256: str) -> str:
    """The key of a list: its name does not tell its content."""
    return f"{layout.run_list(session.coding.blob_name(sha256))}{session.coding.suffix}"


def relevant(session: Session, listed: Listed, keys: Iterable[str]) -> frozenset[str]:
    """Of the `keys` that went up, those of records and lists that this store still has."""
    lists = session.root / layout.LISTS
    ours = {record_key(session, one) for one in listed.ids}
    ours |= {list_key(session, path.stem) for path in lists.glob("*.json")}
    return frozenset(ours & set(keys))


async def send_records(session: Session, listed: Listed, there: frozenset[str]) -> frozenset[str]:
    """Send the records that are not `there` yet, each after its lists, the oldest first, so that the chain is
    whole at every moment; returns the keys of all that are there then. Raises StoreDamaged."""
    keys = set(relevant(session, listed, there))
    new = [one for one in listed.ids if record_key(session, one) not in keys]
    for record in await asyncio.to_thread(_in_order, session, new):
        for sha256 in (record.list_sha256, record.checkpoint):
            if sha256 is not None and list_key(session, sha256) not in keys:
                await _send_file(session, layout.run_list(sha256), list_key(session, sha256))
                keys.add(list_key(session, sha256))
        await _send_file(session, layout.run_record(record.id), record_key(session, record.id))
        keys.add(record_key(session, record.id))
    return frozenset(keys)


def _in_order(session: Session, identifiers: Iterable[str]) -> list[RunRecord]:
    """The records, in the order of their chain; one that was removed meanwhile is left out."""
    reader = session.store.reader
    found = []
    for identifier in identifiers:
        try:
            found.append(reader.run(identifier))
        except StoreDamaged:
            if (session.root / layout.run_record(identifier)).exists():
                raise
    return sorted(found, key=lambda one: (one.number, one.id))


async def _send_file(session: Session, path: str, key: str) -> None:
    """Send a file of `runs`. Raises StoreDamaged where its bytes are not what they were."""
    data = await asyncio.to_thread((session.root / path).read_bytes)
    if path.startswith(f"{layout.LISTS}/"):
        fault = None if hashlib.sha256(data).hexdigest() in path else "its content is not what its name says"
    else:
        fault = seal_fault(data) if is_sealed(data) else None  # version 0.1 wrote no seals
    if fault is not None:
        raise StoreDamaged(path, fault)
    sent = await asyncio.to_thread(coded, session, data)
    await session.put(key, sent, len(sent))
