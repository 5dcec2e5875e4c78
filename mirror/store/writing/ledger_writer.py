"""Writing the ledger of a folder: the list of its snapshots, kept or removed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mirror.fs.durable import make_folder, write_file
from mirror.git.documents.repository import Documents
from mirror.git.failures import GitFailed
from mirror.logs import get_logger
from mirror.model import Snapshot
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.ledger import Ledger, LedgerEntry, Removal, read_ledger
from mirror.store.format.seal import sealed
from mirror.store.reading.documents import read_snapshot, refs_sha256, snapshot_tags

# The number of removed snapshots that are listed; older ones leave the list.
REMOVED_MAX = 1000
# The number of earlier versions of the file that it names. A run that is killed before it writes its record,
# or a running one, leaves a ledger that no record names.
PREVIOUS_MAX = 64

_log = get_logger("store")


class LedgerWriter:
    """Writes the ledger of the folder `place` in the store at `root`; the caller holds the folder's lock.

    `documents` opens the folder's metadata. `fault` says why the ledger was rebuilt, if it was.
    """

    def __init__(self, root: Path, place: str, documents: Callable[[], Documents]) -> None:
        self._root = root
        self._place = place
        self._documents = documents
        self.fault: str | None = None

    def update(self, confirmed: tuple[str, datetime] | None = None) -> Ledger:
        """Update the ledger from the tags, which decide what is kept; returns it.

        `confirmed` is a snapshot and when it was last found unchanged, which is noted once it is no longer
        the latest.
        """
        before = self._read()
        ledger = self._updated(before)
        if confirmed is not None and ledger.latest is not None and ledger.latest.id != confirmed[0]:
            ledger = _with_confirmed(ledger, *confirmed)
        return self._write(before, ledger)

    def rebuild(self, removal: Removal | None = None) -> Ledger:
        """List every snapshot again after a rewrite; `removal` is noted for those without a tag."""
        before = self._read()
        return self._write(before, self._updated(before, rewritten=True, removal=removal))

    def mark_removed(self, ids: Collection[str], removal: Removal) -> Ledger:
        """Note the removal of the snapshots `ids`, before their tags are removed."""
        before = self._read()
        ledger = self._updated(before)
        snapshots = tuple(
            replace(one, removal=removal) if one.id in ids and one.removal is None else one
            for one in ledger.snapshots
        )
        return self._write(before, replace(ledger, snapshots=snapshots))

    def _read(self) -> Ledger | None:
        """The current ledger. A damaged one is copied to the quarantine, and rebuilt."""
        try:
            return read_ledger(self._root, self._place)
        except StoreDamaged as damage:
            self.fault = f"{damage.file} was damaged and is rebuilt from the tags: {damage.problem}"
            _log.error("store.ledger_damaged", file=damage.file, problem=damage.problem)
            path = self._root / self._place / layout.LEDGER_FILE
            name = f"{self._place.rpartition('/')[2]}.{secrets.token_hex(4)}.{layout.LEDGER_FILE}"
            make_folder(self._root / layout.QUARANTINE)
            write_file(self._root / layout.QUARANTINE / name[-layout.NAME_MAX :], path.read_bytes())
            return None

    def note_missing(self) -> None:
        """Note that the ledger is missing, though there was one."""
        file = f"{self._place}/{layout.LEDGER_FILE}"
        self.fault = f"{file} was missing and is rebuilt from the tags"
        _log.error("store.ledger_damaged", file=file, problem="it is missing")

    def _updated(
        self, before: Ledger | None, *, rewritten: bool = False, removal: Removal | None = None
    ) -> Ledger:
        tags = snapshot_tags(self._documents())
        listed = {one.id: one for one in before.snapshots} if before is not None else {}
        taken: dict[str, Snapshot] = {}
        for tag, commit in tags.items():
            known = listed.get(tag)
            if known is None or rewritten:
                found = self._snapshot(commit)
                if found is not None:
                    taken[tag] = found[0]
                    listed[tag] = _listed(*found, known)
            elif known.removal is not None:
                # A prune was killed before it removed the tag: the snapshot is kept.
                listed[tag] = replace(known, removal=None)
        for name, one in listed.items() if removal is not None else ():
            if name not in tags and one.removal is None:
                listed[name] = replace(one, removal=removal)
        snapshots = tuple(sorted(listed.values(), key=lambda one: (one.sequence, one.id)))
        newest = next((one.id for one in reversed(snapshots) if one.id in tags), None)
        latest = before.latest if before is not None else None
        if newest is None:
            latest = None
        elif latest is None or latest.id != newest or rewritten:
            latest = taken.get(newest) or self._snapshot_of(tags[newest])
        if before is None:
            return Ledger(snapshots, _listed_from(snapshots), latest)
        return replace(before, snapshots=snapshots, latest=latest)

    def _snapshot(self, commit: str) -> tuple[Snapshot, str | None] | None:
        """A snapshot and the sha256 of its refs.json; None where it is damaged, which verify reports."""
        try:
            snapshot = read_snapshot(self._documents(), commit)
            return snapshot, refs_sha256(self._documents(), snapshot.tree)
        except (GitFailed, ValueError, KeyError, OverflowError):
            return None

    def _snapshot_of(self, commit: str) -> Snapshot | None:
        found = self._snapshot(commit)
        return None if found is None else found[0]

    def _write(self, before: Ledger | None, ledger: Ledger) -> Ledger:
        """Write the ledger if it differs from `before`; returns it with its sha256."""
        if before is not None and before == ledger:
            return before
        if before is None and not ledger.snapshots:
            return ledger
        ledger = _shortened(ledger)
        if before is not None and before.sha256 is not None:
            ledger = replace(ledger, previous=(*before.previous, before.sha256)[-PREVIOUS_MAX:])
        data = sealed(ledger.to_json())
        write_file(self._root / self._place / layout.LEDGER_FILE, data)
        return replace(ledger, sha256=hashlib.sha256(data).hexdigest())


def _listed(snapshot: Snapshot, refs_sha256: str | None, known: LedgerEntry | None) -> LedgerEntry:
    fresh = LedgerEntry.of(snapshot, refs_sha256)
    return fresh if known is None else replace(fresh, confirmed=known.confirmed)


def _with_confirmed(ledger: Ledger, identifier: str, confirmed: datetime) -> Ledger:
    snapshots = tuple(
        replace(one, confirmed=confirmed) if one.id == identifier else one for one in ledger.snapshots
    )
    return replace(ledger, snapshots=snapshots)


def _listed_from(snapshots: tuple[LedgerEntry, ...]) -> int:
    """The sequence after the last gap: versions without a ledger did not list removed snapshots."""
    expected = snapshots[-1].sequence if snapshots else 0
    for one in reversed(snapshots):
        if one.sequence != expected:
            break
        expected -= 1
    return expected + 1


def _shortened(ledger: Ledger) -> Ledger:
    """The ledger with at most REMOVED_MAX removed snapshots, the newest ones."""
    removed = [one.sequence for one in ledger.snapshots if one.removal is not None]
    dropped = set(removed[:-REMOVED_MAX])
    if not dropped:
        return ledger
    left = tuple(one for one in ledger.snapshots if one.removal is None or one.sequence not in dropped)
    return replace(ledger, snapshots=left, listed_from=max(ledger.listed_from, max(dropped) + 1))
