"""What the run records say should be there, and whether they themselves are whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mirror.store.reader import Store, StoreDamaged


@dataclass
class Expected:
    """What run records say of one folder: its snapshots, each with tree and sha256 of its refs."""

    full_name: str
    snapshots: set[str] = field(default_factory=set)
    trees: dict[str, str] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)


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
            previous.append((f"runs/{record.id}", record.previous))
        for entry in record.data.get("entries", []):
            place = entry.get("folder")
            if not place:
                continue
            known = expected.setdefault(place, Expected(entry.get("full_name", "")))
            known.full_name = entry.get("full_name", known.full_name)
            if entry.get("snapshot") is not None:
                known.snapshots = set(entry.get("snapshots", []))
                if entry.get("tree") is not None:
                    known.trees[entry["snapshot"]] = entry["tree"]
                if entry.get("refs_sha256") is not None:
                    known.refs[entry["snapshot"]] = entry["refs_sha256"]
    for file, digest in previous:
        if digest not in hashes:
            on_damage(StoreDamaged(file, "the run record before it is missing or was changed"))
    return expected
