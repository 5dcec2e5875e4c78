"""Marks of the files that say how a store is: where no mark changed, nothing was written meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from mirror.store.format import layout
from mirror.store.reading.folder_lookup import folder_names

# Inode, size and time of change of a file, or None where there is none.
Mark = tuple[int, int, int] | None
# What changes with each snapshot, name, loss, erasure and fetch of a folder.
_FILES = (
    layout.WORKSPACE_FILE, layout.REPOSITORY_FILE, layout.LEDGER_FILE, layout.BRAKE_FILE, layout.PRUNED_FILE,
    f"{layout.METADATA}/packed-refs", f"{layout.CODE}/packed-refs",
)  # fmt: skip
# What changes when bytes arrive or go.
_CONTENTS = (
    f"{layout.CODE}/objects/pack",
    f"{layout.METADATA}/objects/pack",
    f"{layout.METADATA}/objects",
    layout.FILES,
    "",
)


def mark_of(path: str | Path) -> Mark:
    """The mark of one file or folder."""
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of times for each page
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def folder_mark(folder: str) -> tuple[Mark, ...]:
    """The marks of the folder of a repository or workspace."""
    return tuple([mark_of(f"{folder}/{name}") for name in _FILES])


def contents_mark(folder: str) -> tuple[Mark, ...]:
    """The marks of what changes when the bytes of such a folder do."""
    return (*folder_mark(folder), *[mark_of(f"{folder}/{name}") for name in _CONTENTS])


def store_mark(root: Path) -> tuple[object, ...]:
    """The marks of a whole store: of its run records, and of each folder."""
    base = f"{root}/{layout.WORKSPACES}"
    found: list[object] = [mark_of(f"{root}/{layout.STORE_FILE}"), mark_of(f"{root}/{layout.RUNS}")]
    for workspace in folder_names(Path(base)):
        home = f"{base}/{workspace}"
        found.append((workspace, folder_mark(home)))
        names = folder_names(Path(home, layout.REPOSITORIES))
        found += [(name, folder_mark(f"{home}/{layout.REPOSITORIES}/{name}")) for name in names]
    return tuple(found)
