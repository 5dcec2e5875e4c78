"""What commits, tags and loose objects that other people made link to, read as leniently as C git does.

dulwich parses a whole object and raises at an odd date, a header line without a space, a tag of an unknown
type. C git takes all of these: it looks at nothing but the links, which stand first.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Protocol

from dulwich.objects import ObjectID

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
KINDS = {b"commit": COMMIT, b"tree": TREE, b"blob": BLOB, b"tag": TAG}
# C git reads names in capital letters, too.
COMMIT_LINKS = re.compile(rb"tree ([0-9a-fA-F]{40})\n((?:parent [0-9a-fA-F]{40}\n)*)")
TAG_LINK = re.compile(rb"object ([0-9a-fA-F]{40})\n")
_LOOSE_HEADER = re.compile(rb"([a-z]+) ([0-9]+)\0")


class RawObjects(Protocol):
    """An object store that hands out objects unparsed."""

    def get_raw(self, name: ObjectID, /) -> tuple[int, bytes]:
        """The kind (1 to 4) and the bytes of an object. Raises KeyError where it is not there."""
        ...


def read(store: RawObjects, name: str) -> tuple[int, bytes]:
    """The kind and the bytes of the object `name` (40 hex digits). Raises KeyError where it is not there."""
    return store.get_raw(ObjectID(name.encode("ascii")))


def tree_of(commit: bytes) -> str | None:
    """The tree that the bytes of a commit name; None where they name none."""
    found = COMMIT_LINKS.match(commit)
    return found[1].decode("ascii").lower() if found else None


def parents_of(commit: bytes) -> list[str]:
    """The parents that the bytes of a commit name, the first parent first."""
    found = COMMIT_LINKS.match(commit)
    return [name.decode("ascii").lower() for name in found[2].split()[1::2]] if found else []


def target_of(tag: bytes) -> str | None:
    """The object that the bytes of an annotated tag name; None where they name none."""
    found = TAG_LINK.match(tag)
    return found[1].decode("ascii").lower() if found else None


def peel(store: RawObjects, name: str) -> str:
    """The object that `name` leads to once all annotated tags are followed; `name` itself where it is none.

    Raises KeyError where an object on the way is not there.
    """
    while True:
        kind, data = read(store, name)
        target = target_of(data) if kind == TAG else None
        if target is None:
            return name
        name = target


def read_loose(file: Path) -> tuple[int, bytes]:
    """The kind and the bytes of the loose object in `file`. Raises OSError, and ValueError where the file is
    damaged."""
    try:
        content = zlib.decompress(file.read_bytes())
    except zlib.error as error:
        raise ValueError(str(error)) from error
    header = _LOOSE_HEADER.match(content)
    if header is None or header[1] not in KINDS or int(header[2]) != len(content) - header.end():
        raise ValueError("its header is not a loose object's")
    return KINDS[header[1]], content[header.end() :]
