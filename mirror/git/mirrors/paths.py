"""What a commit has at a path: a file, or the names in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mirror.git.objects import COMMIT, TREE, RawObjects, peel, read, tree_of

_ENTRY = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_TYPE, _FOLDER, _SUBMODULE = 0o170000, 0o040000, 0o160000


@dataclass(frozen=True)
class Entry:
    """An entry of a folder: its name, its mode as git has it, and the object (for a submodule: the commit of
    another repository)."""

    name: bytes
    mode: int
    id: str

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.mode & _TYPE == _FOLDER

    @property
    def is_submodule(self) -> bool:
        """Whether it is a commit of another repository."""
        return self.mode & _TYPE == _SUBMODULE


@dataclass(frozen=True)
class AtPath:
    """`content` and `mode` of a file (of a symbolic link: where it points), or the entries of a folder,
    sorted by name."""

    content: bytes | None = None
    entries: tuple[Entry, ...] = ()
    mode: int = 0

    @property
    def names(self) -> tuple[bytes, ...]:
        """The names in a folder; those of folders end with a slash."""
        return _names(self.entries)


class NoSuchPath(Exception):
    """There is nothing at the path that can be shown: `name` is the part of it that is not there, and `near`
    are the names in the last folder on the way."""

    def __init__(self, reason: str, name: bytes, near: tuple[bytes, ...] = ()) -> None:
        super().__init__(reason)
        self.name, self.near = name, near


def at_path(objects: RawObjects, tip: str, path: bytes) -> AtPath:
    """What the commit or tag `tip` has at `path`; an empty path is its top folder.

    Raises NoSuchPath, and KeyError or ValueError where an object is missing or damaged.
    """
    top = peel(objects, tip)
    kind, content = read(objects, top)
    if kind == COMMIT:
        tree = tree_of(content)
        if tree is None:
            raise ValueError("the commit names no tree")
        kind, content = read(objects, tree)
    mode = 0
    for name in filter(None, path.split(b"/")):
        entries = entries_of(content) if kind == TREE else ()
        found = next((one for one in entries if one.name == name), None)
        if found is None:
            raise NoSuchPath("there is no such file", name, _names(entries))
        if found.is_submodule:
            raise NoSuchPath("a commit of another repository is there (a submodule)", name)
        mode = found.mode
        kind, content = read(objects, found.id)
    return AtPath(entries=entries_of(content)) if kind == TREE else AtPath(content, mode=mode)


def entries_of(tree: bytes) -> tuple[Entry, ...]:
    """The entries of a folder, sorted by name. Of two with one name, the first."""
    found: dict[bytes, Entry] = {}
    for mode, name, identifier in _ENTRY.findall(tree):
        found.setdefault(name, Entry(name, int(mode, 8), identifier.hex()))
    return tuple(found[name] for name in sorted(found))


def _names(entries: Iterable[Entry]) -> tuple[bytes, ...]:
    return tuple(one.name + (b"/" if one.is_folder else b"") for one in entries)
