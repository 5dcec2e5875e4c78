"""Writing the small files of a folder. The caller holds the folder's lock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mirror.fs.durable import write_file
from mirror.store.format import layout
from mirror.store.format.brake import Brake
from mirror.store.format.removals import Erasure, Pruned, erasures_json, read_erasures
from mirror.store.format.seal import sealed


def write_brake(folder: Path, brake: Brake) -> None:
    """Write the mass-loss brake."""
    write_file(folder / layout.BRAKE_FILE, sealed(brake.to_json()))


def write_pruned(folder: Path, pruned: Pruned) -> None:
    """Write which snapshots retention removed last."""
    write_file(folder / layout.PRUNED_FILE, sealed(pruned.to_json()))


def write_dropped(folder: Path, dropped: Mapping[str, str]) -> None:
    """Write which step logs retention removed: sha256 to time."""
    write_file(folder / layout.DROPPED_FILE, sealed({"schema": 1, "files": dict(dropped)}))


def write_erasure(root: Path, place: str, erasure: Erasure) -> None:
    """Add `erasure` to the list of erasures of the folder `place`, or replace the one of the same target."""
    others = [one for one in read_erasures(root, place) if one.target != erasure.target]
    write_file(root / place / layout.ERASURES_FILE, sealed(erasures_json([*others, erasure])))
