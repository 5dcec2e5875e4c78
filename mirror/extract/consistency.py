"""Reading a folder consistently while prune, erase or backup change it: readers take no lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mirror.errors import DamageFound
from mirror.store.format.layout import DROPPED_FILE, ERASURES_FILE, PRUNED_FILE
from mirror.store.reading.folders import AnyFolder

T = TypeVar("T")
# How often something is read again because a writer changed it meanwhile.
TRIES = 5

# Path, inode and modification time of each file that a writer changes first.
Version = tuple[tuple[str, int, int], ...]


def version_of(folder: AnyFolder) -> Version:
    """The version of a folder's tags, refs and lists of removals, which a writer changes before it removes
    anything. While the version is the same, everything that a tag reaches exists."""
    files = [path / "packed-refs" for path in (folder.metadata.path, *folder.mirrors().values())]
    files += [folder.root / folder.place / name for name in (PRUNED_FILE, ERASURES_FILE, DROPPED_FILE)]
    return tuple(_mark(file) for file in files)


def _mark(file: Path) -> tuple[str, int, int]:
    try:
        found = file.stat()
    except OSError:
        return str(file), 0, 0
    return str(file), found.st_ino, found.st_mtime_ns


def read_consistently(folder: AnyFolder, read: Callable[[], T]) -> T:
    """The result of `read`, which is called again if it raises DamageFound and a writer changed the folder
    meanwhile; so it must look up snapshots each time. Raises DamageFound where the damage is real."""
    for _ in range(TRIES):
        before = version_of(folder)
        try:
            return read()
        except DamageFound:
            if version_of(folder) == before:
                raise
    return read()
