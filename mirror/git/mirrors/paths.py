"""What a commit has at a path: a file, or the names in a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirror.git.objects import COMMIT, TREE, RawObjects, peel, read, tree_of

_ENTRY = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_TYPE, _FOLDER, _SUBMODULE = 0o170000, 0o040000, 0o160000


@dataclass(frozen=True)
class AtPath:
    """`content` of a file (of a symbolic link: where it points), or the sorted names in a folder, in which
    folders end with a slash."""

    content: bytes | None = None
    names: tuple[bytes, ...] = ()


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
    for name in filter(None, path.split(b"/")):
        entries = _entries(content) if kind == TREE else {}
        if name not in entries:
            raise NoSuchPath("there is no such file", name, _names(entries))
        mode, identifier = entries[name]
        if mode & _TYPE == _SUBMODULE:
            raise NoSuchPath("a commit of another repository is there (a submodule)", name)
        kind, content = read(objects, identifier)
    return AtPath(names=_names(_entries(content))) if kind == TREE else AtPath(content)


def _entries(tree: bytes) -> dict[bytes, tuple[int, str]]:
    """Mode and object id of each entry. Of two with one name, the first."""
    found: dict[bytes, tuple[int, str]] = {}
    for mode, name, identifier in _ENTRY.findall(tree):
        found.setdefault(name, (int(mode, 8), identifier.hex()))
    return found


def _names(entries: dict[bytes, tuple[int, str]]) -> tuple[bytes, ...]:
    return tuple(
        name + (b"/" if mode & _TYPE == _FOLDER else b"") for name, (mode, _) in sorted(entries.items())
    )
