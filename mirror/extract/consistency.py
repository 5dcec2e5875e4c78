"""Telling damage from a prune, an erasure or a backup that is at work: readers take no lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mirror.errors import DamageFound
from mirror.store.format.layout import DROPPED_FILE, ERASURES_FILE, PRUNED_FILE
from mirror.store.reading.reader import RepositoryFolder, WorkspaceFolder

Folder = RepositoryFolder | WorkspaceFolder
T = TypeVar("T")
# So many times something is read again because a writer changed it meanwhile.
TRIES = 5

# Which file stood where: its number and the time it was written.
State = tuple[tuple[str, int, int], ...]


def version_of(folder: Folder) -> State:
    """What a writer changes before anything that it lets go goes: tags and refs, and the lists of what was
    let go. As long as it is the same, everything that a tag reaches is there."""
    files = [path / "packed-refs" for path in (folder.metadata.path, *folder.mirrors().values())]
    files += [folder.root / folder.place / name for name in (PRUNED_FILE, ERASURES_FILE, DROPPED_FILE)]
    return tuple(_mark(file) for file in files)


def _mark(file: Path) -> tuple[str, int, int]:
    try:
        found = file.stat()
    except OSError:
        return str(file), 0, 0
    return str(file), found.st_ino, found.st_mtime_ns


def read_consistently(folder: Folder, read: Callable[[], T]) -> T:
    """What `read` finds in the folder. Where it finds damage and a writer changed the folder meanwhile, it is
    done again: it must ask for the snapshots anew each time. Raises DamageFound where that is real."""
    for _ in range(TRIES):
        before = version_of(folder)
        try:
            return read()
        except DamageFound:
            if version_of(folder) == before:
                raise
    return read()
