"""Which files a folder of the store consists of: all that a copy of it needs, and nothing that belongs to one
machine or one process."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mirror.git.mirrors.fetch_cache import FILE as CACHED_FETCH
from mirror.store.format import layout
from mirror.store.reading.folder_lookup import owned_folders

# What writers leave when they are killed, and git's locks.
_LEFTOVER = re.compile(r"(?:tmp_|tmp-|incoming-).*|.*\.(?:tmp|new|lock)|.*\.tmp-[0-9a-f]{8}")
# The names in a store; a person or another program may have put other files there.
_NAME = re.compile(r"[A-Za-z0-9._~+-]+")


class Stat(NamedTuple):
    """What tells whether a file is the one that was seen: every writer replaces files by new ones."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True)
class Contents:
    """The files of a folder by their paths in it, sorted, and its empty folders.

    `foreign` are paths of what is no file of a store: symbolic links, devices, other names.
    """

    files: dict[str, Stat] = field(default_factory=dict)
    empty_folders: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(one.size for one in self.files.values())

    def fingerprint(self) -> str:
        """What changes with any file."""
        digest = hashlib.sha256()
        for path, stat in self.files.items():
            digest.update(f"{path}\0{stat.size} {stat.mtime_ns} {stat.inode}\n".encode())
        for path in (*self.empty_folders, "", *self.foreign):
            digest.update(f"{path}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def places(root: Path) -> list[str]:
    """The paths in the store at `root` of all folders of workspaces and repositories, damaged ones too.
    Raises OSError where one cannot be listed."""
    found = []
    for workspace in owned_folders(root / layout.WORKSPACES):
        place = f"{layout.WORKSPACES}/{workspace}"
        found.append(place)
        repositories = f"{place}/{layout.REPOSITORIES}"
        found += [f"{repositories}/{name}" for name in owned_folders(root / repositories)]
    return found


def contents(folder: Path) -> Contents:
    """What the folder of a workspace (without its repositories) or of a repository consists of.

    Without the folder's lock, files may change meanwhile. Raises OSError.
    """
    files: dict[str, Stat] = {}
    empty: list[str] = []
    foreign: list[str] = []
    for path, entry in _walk(folder, ""):
        if entry is None:
            empty.append(path)
        elif not _NAME.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
            foreign.append(path)
        else:
            found = entry.stat(follow_symlinks=False)
            if path == layout.UNFINISHED_FILE and found.st_size == 0:
                continue  # no backup is unfinished; each one changes this file
            files[path] = Stat(found.st_size, found.st_mtime_ns, found.st_ino)
    return Contents(dict(sorted(files.items())), tuple(sorted(empty)), tuple(sorted(foreign)))


def _walk(folder: Path, path: str) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Every file below `folder` with its path; for an empty folder its path and None."""
    with os.scandir(folder) as listed:
        entries = list(listed)
    is_empty = True
    for entry in entries:
        inside = f"{path}/{entry.name}" if path else entry.name
        if _LEFTOVER.fullmatch(entry.name) or inside in (layout.LOCK_FILE, layout.LFS_PARTS):
            continue
        if not path and entry.name == layout.REPOSITORIES:
            continue
        if entry.name == CACHED_FETCH and path.endswith(".git"):
            continue  # what a server answered last: a cache that every other run writes
        is_empty = False
        if entry.is_dir(follow_symlinks=False) and _NAME.fullmatch(entry.name):
            yield from _walk(folder / entry.name, inside)
        else:
            yield inside, entry
    if is_empty and path:
        yield path, None
