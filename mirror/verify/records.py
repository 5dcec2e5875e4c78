"""What the run records say should be there, and whether they themselves are whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mirror.model import JsonObject, Outcome
from mirror.store.layout import BRAKE_FILE
from mirror.store.reader import Store, StoreDamaged

# Outcomes of a prune or an erasure after which a folder holds just what the entry says.
_JUDGED = (Outcome.PRUNED, Outcome.KEPT, Outcome.ERASED)


@dataclass
class Expected:
    """What run records say of one folder: the sha256 of its ledger, and the small files that it must have.

    Records of versions before the ledger tell of the snapshots themselves, and of their trees.
    """

    full_name: str
    ledger: str | None = None
    snapshots: set[str] = field(default_factory=set)
    trees: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    @property
    def tells_of_content(self) -> bool:
        """Whether any record says that the folder held something: others tell of failures alone."""
        return self.ledger is not None or bool(self.snapshots or self.files)


def check_runs(store: Store, on_damage: Callable[[StoreDamaged], None]) -> dict[str, Expected]:
    """Check the run records and their chain; returns what they say, by folder.

    The last record that speaks of a folder decides which snapshots are still kept.
    """
    expected: dict[str, Expected] = {}
    hashes: set[str] = set()
    previous: list[tuple[str, str]] = []
    for record in store.runs(None, on_damage):
        hashes.add(record.sha256)
        if record.previous is not None:
            previous.append((f"runs/{record.id}.json", record.previous))
        for entry in record.data.get("entries", []):
            if entry.get("folder"):
                known = expected.setdefault(entry["folder"], Expected(entry.get("full_name", "")))
                _learn(known, record.kind, entry)
        for place in record.data.get("facts", {}).get("brakes", ()):
            if place in expected:
                expected[place].files.add(BRAKE_FILE)
    for file, digest in previous:
        if digest not in hashes:
            on_damage(StoreDamaged(file, "the run record before it is missing or was changed"))
    return expected


def _learn(known: Expected, kind: str, entry: JsonObject) -> None:
    """Take up what one entry says of its folder."""
    known.full_name = entry.get("full_name", known.full_name)
    known.files.update(entry.get("facts", {}).get("files", ()))
    if entry.get("ledger") is not None:
        known.ledger = entry["ledger"]
        known.snapshots, known.trees = set(), {}
    elif known.ledger is None:
        _learn_snapshots(known, kind, entry)


def _learn_snapshots(known: Expected, kind: str, entry: JsonObject) -> None:
    """Take up what an entry of an older version says of a folder's snapshots."""
    # What was erased became other trees; what a snapshot was before does not count any more.
    known.trees.update(entry.get("trees", {}))
    lets_go = kind in ("prune", "erase") and entry.get("outcome") in _JUDGED
    if entry.get("snapshot") is not None or lets_go:
        known.snapshots = set(entry.get("snapshots", []))
    if entry.get("snapshot") is not None and entry.get("tree") is not None:
        known.trees[entry["snapshot"]] = entry["tree"]
