"""Writing the mass-loss brake; `brake.py`, which readers use, only reads it."""

from __future__ import annotations

from pathlib import Path

from mirror.store import layout
from mirror.store.brake import Brake
from mirror.store.disk import write_file
from mirror.store.seal import sealed


def write_brake(path: Path, brake: Brake) -> None:
    """Keep the brake in the folder at `path`. The caller holds the folder's lock."""
    write_file(path / layout.BRAKE_FILE, sealed(brake.to_json()))
