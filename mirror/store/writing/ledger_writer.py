"""Keeping a folder's ledger in agreement with its snapshots. See `LedgerWriter`."""

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
from mirror.model import Snapshot, is_snapshot_id
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.ledger import Ledger, LedgerEntry, Removal, read_ledger
from mirror.store.format.seal import sealed
from mirror.store.reading.snapshots import read_snapshot

# So many snapshots that were let go are listed; of older ones only the sequence is known.
LET_GO_MAX = 1000
# So many earlier versions of the file are named in it: a run that was killed before its record, or one
# that is at work, leaves a ledger that no record names yet.
PREVIOUS_MAX = 64

_log = get_logger("store")


class LedgerWriter:
    """The ledger of the folder `place` of the store at `root`. Whoever uses it holds the folder's lock.

    `documents` opens the folder's metadata. `fault` says what was wrong with the ledger that was there, if
    it had to be made anew.
    """

    def __init__(self, root: Path, place: str, documents: Callable[[], Documents]) -> None:
        self._root = root
        self._place = place
        self._documents = documents
        self.fault: str | None = None

    def agree(self, confirmed: tuple[str, datetime] | None = None) -> Ledger:
        """Bring the ledger into agreement with the tags, which decide what is kept; returns it.

        `confirmed`: a snapshot, and when it was last found unchanged; told once a newer one has been taken.
        """
        before = self._read()
        ledger = self._agreed(before)
        if confirmed is not None and ledger.latest is not None and ledger.latest.id != confirmed[0]:
            ledger = _with_confirmed(ledger, *confirmed)
        return self._keep(before, ledger)

    def relist(self, let_go: Removal | None = None) -> Ledger:
        """List every snapshot anew, after they were rewritten; `let_go` is what became of those that have
        no tag any more."""
        before = self._read()
        return self._keep(before, self._agreed(before, rewritten=True, let_go=let_go))

    def let_go(self, ids: Collection[str], let_go: Removal) -> Ledger:
        """Tell that the snapshots `ids` go, before their tags do."""
        before = self._read()
        ledger = self._agreed(before)
        snapshots = tuple(
            replace(one, let_go=let_go) if one.id in ids and one.let_go is None else one
            for one in ledger.snapshots
        )
        return self._keep(before, replace(ledger, snapshots=snapshots))

    def _read(self) -> Ledger | None:
        """The ledger that is there; one that is damaged is set aside, and made anew."""
        try:
            return read_ledger(self._root, self._place)
        except StoreDamaged as damage:
            self.fault = f"{damage.file} was damaged and is made anew from the tags: {damage.problem}"
            _log.error("store.ledger_damaged", file=damage.file, problem=damage.problem)
            path = self._root / self._place / layout.LEDGER_FILE
            name = f"{self._place.rpartition('/')[2]}.{secrets.token_hex(4)}.{layout.LEDGER_FILE}"
            make_folder(self._root / layout.QUARANTINE)
            write_file(self._root / layout.QUARANTINE / name[-layout.NAME_MAX :], path.read_bytes())
            return None

    def lost(self) -> None:
        """Note that a ledger was there and is not any more."""
        file = f"{self._place}/{layout.LEDGER_FILE}"
        self.fault = f"{file} was missing and is made anew from the tags"
        _log.error("store.ledger_damaged", file=file, problem="it is missing")

    def _agreed(
        self, before: Ledger | None, *, rewritten: bool = False, let_go: Removal | None = None
    ) -> Ledger:
        tags = {name: commit for name, commit in self._documents().tags().items() if is_snapshot_id(name)}
        listed = {one.id: one for one in before.snapshots} if before is not None else {}
        taken: dict[str, Snapshot] = {}
        for tag, commit in tags.items():
            known = listed.get(tag)
            if known is None or rewritten:
                found = self._snapshot(commit)
                if found is not None:
                    taken[tag] = found[0]
                    listed[tag] = _listed(*found, known)
            elif known.let_go is not None:
                # A prune was killed before it removed the tag: the snapshot is kept until one decides again.
                listed[tag] = replace(known, let_go=None)
        for name, one in listed.items() if let_go is not None else ():
            if name not in tags and one.let_go is None:
                listed[name] = replace(one, let_go=let_go)
        snapshots = tuple(sorted(listed.values(), key=lambda one: (one.sequence, one.id)))
        newest = next((one.id for one in reversed(snapshots) if one.id in tags), None)
        latest = before.latest if before is not None else None
        if newest is None:
            latest = None
        elif latest is None or latest.id != newest or rewritten:
            latest = taken.get(newest) or self._snapshot_of(tags[newest])
        if before is None:
            return Ledger(snapshots, _whole_from(snapshots), latest)
        return replace(before, snapshots=snapshots, latest=latest)

    def _snapshot(self, commit: str) -> tuple[Snapshot, str | None] | None:
        """A snapshot and the sha256 of its refs.json; None where it is damaged, which verify tells."""
        try:
            documents = self._documents()
            snapshot = read_snapshot(documents, commit)
            data = documents.read(snapshot.tree, layout.REFS_DOCUMENT)
        except (GitFailed, ValueError, KeyError, OverflowError):
            return None
        return snapshot, None if data is None else hashlib.sha256(data).hexdigest()

    def _snapshot_of(self, commit: str) -> Snapshot | None:
        found = self._snapshot(commit)
        return None if found is None else found[0]

    def _keep(self, before: Ledger | None, ledger: Ledger) -> Ledger:
        """Write the ledger where it differs from what was there; returns it with its sha256."""
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


def _whole_from(snapshots: tuple[LedgerEntry, ...]) -> int:
    """From which sequence on there is no gap: a store of an older version lists no other snapshots."""
    expected = snapshots[-1].sequence if snapshots else 0
    for one in reversed(snapshots):
        if one.sequence != expected:
            break
        expected -= 1
    return expected + 1


def _shortened(ledger: Ledger) -> Ledger:
    """The ledger without the oldest of very many snapshots that were let go."""
    gone = [one.sequence for one in ledger.snapshots if one.let_go is not None]
    dropped = set(gone[:-LET_GO_MAX])
    if not dropped:
        return ledger
    left = tuple(one for one in ledger.snapshots if one.let_go is None or one.sequence not in dropped)
    return replace(ledger, snapshots=left, listed_from=max(ledger.listed_from, max(dropped) + 1))
