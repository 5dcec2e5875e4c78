"""`state.json` of a folder: cursors, and the last snapshot.

A cache: without it everything is requested again. It counts only while the documents are as the file says:
their refs have the same values, or at least they are not older (somebody may restore an older copy).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mirror.fs.durable import write_file
from mirror.git.documents.repository import Documents
from mirror.git.refs import read_all
from mirror.logs import get_logger
from mirror.model import JsonObject, Part, Snapshot, dumps
from mirror.store.format import layout
from mirror.store.format.failures import Malformed, StoreDamaged
from mirror.store.format.small_files import read_small_file
from mirror.store.reading.documents import damage_in, read_snapshot
from mirror.store.reading.folders import AnyFolder
from mirror.store.writing.draft import checkpoints_since, tip_of

_log = get_logger("store")
_SCHEMA = 3


@dataclass(frozen=True)
class SnapshotResult:
    """The result of taking a snapshot.

    `changed` False: nothing changed, and `snapshot` is the previous one. `refs_sha256` is the sha256 of its
    `refs.json`, None where it has none; `ledger` is the sha256 of the folder's ledger.
    """

    snapshot: Snapshot
    changed: bool
    refs_sha256: str | None
    ledger: str | None = None


class StateFile:
    """The state file of one folder; the caller holds the folder's lock. `documents` opens the metadata."""

    def __init__(self, folder: AnyFolder, documents: Callable[[], Documents]) -> None:
        self._folder = folder
        self._path = folder.root / folder.place
        self._documents = documents
        # The content of the file, if the documents have not changed since it was written.
        self._current: JsonObject | None = None
        # The snapshot of this run, and its fingerprints.
        self._taken: tuple[SnapshotResult, JsonObject] | None = None

    def forget(self) -> None:
        """Forget what was read; the lock ends."""
        self._current = self._taken = None

    def remove(self) -> None:
        """Remove the file."""
        (self._path / layout.STATE_FILE).unlink(missing_ok=True)
        self._current = None

    def read(self) -> JsonObject:
        """The cursors that `write` stored; empty where the file is missing, damaged or ahead of the
        documents."""
        file = self._folder.relative(layout.STATE_FILE)
        if not (self._path / layout.STATE_FILE).exists():
            return {}
        try:
            data = read_small_file(self._folder.root, file, _checked)
            if data["refs"] == self._refs_digest():
                self._current = data
            elif (data["position"][0], data["position"][1]) > self._position():
                raise StoreDamaged(file, "it is ahead of the documents")
        except StoreDamaged as damage:
            _log.warning("store.state_ignored", file=file, problem=damage.problem)
            return {}
        state: JsonObject = copy.deepcopy(data["state"])
        return state

    def write(self, state: JsonObject) -> None:
        """Store cursors. No cursor may be ahead of the last checkpoint."""
        digest, last, current = self._refs_digest(), self.last, self._current
        if current is not None and current["refs"] == digest:
            if current["state"] == state and current["last"] == last and current["schema"] == _SCHEMA:
                return
            position = current["position"]
        else:
            position = list(self._position())
        data = {
            "schema": _SCHEMA,
            "position": position,
            "refs": digest,
            "last": last,
            "state": copy.deepcopy(state),
        }
        write_file(self._path / layout.STATE_FILE, dumps(data))
        self._current = data

    @property
    def last(self) -> JsonObject | None:
        """The last snapshot as the file holds it, so that a run without changes opens no documents."""
        if self._taken is not None:
            taken, fingerprints = self._taken
            facts = {"snapshot": taken.snapshot.to_json(), "tree": taken.snapshot.tree}
            return {**facts, "refs_sha256": taken.refs_sha256, "ledger": taken.ledger, "refs": fingerprints}
        last: JsonObject | None = self._current["last"] if self._current is not None else None
        return last

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprints at the last snapshot; version 0.3 stored a single text instead."""
        found = (self.last or {}).get("refs")
        return dict(found) if isinstance(found, dict) else {}

    def note(self, taken: SnapshotResult, fingerprints: Mapping[str, str]) -> None:
        """Remember the last snapshot for `write`."""
        self._taken = taken, dict(fingerprints)

    def unchanged(self, parts: Mapping[str, Part], fingerprints: Mapping[str, str]) -> SnapshotResult | None:
        """The last snapshot, if the file alone proves that nothing has changed since."""
        last = self.last
        if self._current is None or last is None or not fingerprints.items() <= self.fingerprints.items():
            return None
        if layout.WORK.encode() in read_all(self._path / layout.METADATA):
            return None  # an earlier run left checkpoints that are in no snapshot yet
        if last.get("ledger") is None or not self._folder.has(layout.LEDGER_FILE):
            return None  # the file is of an earlier version, or the ledger was lost
        snapshot = Snapshot.from_json(last["snapshot"], tree=last["tree"])
        if dict(snapshot.parts) != dict(parts) or snapshot.full_name != self._folder.full_name:
            return None
        return SnapshotResult(snapshot, changed=False, refs_sha256=last["refs_sha256"], ledger=last["ledger"])

    def _refs_digest(self) -> str:
        """A digest of the refs of the documents, to detect change."""
        metadata = self._path / layout.METADATA
        with damage_in(self._folder.metadata.file):
            refs = read_all(metadata) if metadata.exists() else {}
        text = "".join(f"{name!r} {value}\n" for name, value in sorted(refs.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def _position(self) -> tuple[int, int]:
        """The sequence of the last snapshot, and the number of checkpoints since."""
        documents = self._documents()
        with damage_in(self._folder.metadata.file):
            tip = tip_of(documents)
            sequence = 0 if tip is None else read_snapshot(documents, tip).sequence
            work = documents.head(layout.WORK)
            since = None if work is None else checkpoints_since(documents, work, tip)
        return sequence, since or 0


def _checked(data: JsonObject) -> JsonObject:
    match data:
        case {
            "schema": 2 | 3,
            "position": [int(), int()],
            "refs": str(),
            "last": dict() | None,
            "state": dict(),
        }:
            return data
    raise Malformed("it is not of the form that this version writes")
