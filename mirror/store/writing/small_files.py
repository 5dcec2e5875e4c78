"""Writing the mass-loss brake; `brake.py`, which readers use, only reads it."""

from __future__ import annotations

from pathlib import Path

from mirror.fs.durable import write_file
from mirror.store.format import layout
from mirror.store.format.brake import Brake
from mirror.store.format.seal import sealed


def write_brake(path: Path, brake: Brake) -> None:
    """Keep the brake in the folder at `path`. The caller holds the folder's lock."""
    write_file(path / layout.BRAKE_FILE, sealed(brake.to_json()))
