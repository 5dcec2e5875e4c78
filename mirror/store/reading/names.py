"""The names in a store, read quickly and without checks, to be offered while somebody types. Nothing raises:
what cannot be read is not offered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mirror.store.format import layout


def places(store: Path) -> dict[str, str]:
    """The current names of workspaces and repositories, each with its folder in the store, as the last run
    left them in `index.json`."""
    index = _read(store / layout.INDEX_FILE)
    found: dict[str, str] = {}
    for kind, name in (("workspaces", "slug"), ("repositories", "full_name")):
        several = index.get(kind)
        for one in several if isinstance(several, list) else ():
            if (
                isinstance(one, dict)
                and isinstance(one.get(name), str)
                and isinstance(one.get("folder"), str)
            ):
                found[one[name]] = one["folder"]
    return found


def snapshot_ids(store: Path, place: str) -> list[str]:
    """The ids of the kept snapshots of the folder at `place`, the newest first."""
    several = _read(store / place / layout.LEDGER_FILE).get("snapshots")
    found = [
        str(one.get("id"))
        for one in (several if isinstance(several, list) else ())
        if isinstance(one, dict) and one.get("let_go") is None
    ]
    return found[::-1]


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
