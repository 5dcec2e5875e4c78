"""Object types, object ids, and the links of commits and tags, read as leniently as C git does.

dulwich parses a whole object and raises at an odd date, a header line without a space, a tag of an unknown
type. C git accepts all of these: it reads nothing but the links, which come first.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path
from typing import Protocol

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
TYPE_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
TYPE_NUMBERS = {name: number for number, name in TYPE_NAMES.items()}
# Below this size one call on header and content together is faster than two.
_ONE_CALL_MAX = 8192
# C git accepts object ids in capital letters, too.
COMMIT_LINKS = re.compile(rb"tree ([0-9a-fA-F]{40})\n((?:parent [0-9a-fA-F]{40}\n)*)")
TAG_LINK = re.compile(rb"object ([0-9a-fA-F]{40})\n")
_LOOSE_HEADER = re.compile(rb"([a-z]+) ([0-9]+)\0")


class RawObjects(Protocol):
    """An object store that returns objects unparsed."""

    def get_raw(self, name: ObjectID, /) -> tuple[int, bytes]:
        """The type (1 to 4) and the content of an object. Raises KeyError where it is missing."""
        ...


def hash_object(type_num: int, content: bytes | mmap.mmap) -> bytes:
    """The object id (20 bytes) of an object of this type and content."""
    header = b"%s %d\0" % (TYPE_NAMES[type_num], len(content))
    if len(content) < _ONE_CALL_MAX:
        return sha1(header + content[:], usedforsecurity=False).digest()
    digest = sha1(header, usedforsecurity=False)
    digest.update(content)
    return digest.digest()


def present(store: DiskObjectStore, ids: Iterable[ObjectID]) -> set[ObjectID]:
    """Those of `ids` that are in `store`. dulwich itself rescans the pack folder for each missing object."""
    packs = list(store.packs)
    has_loose = any(len(one.name) == 2 for one in Path(store.path).iterdir())
    return {
        one for one in ids if any(one in pack for pack in packs) or (has_loose and store.contains_loose(one))
    }


def read(store: RawObjects, name: str) -> tuple[int, bytes]:
    """The type and the content of the object `name` (40 hex digits). Raises KeyError where it is missing."""
    return store.get_raw(ObjectID(name.encode("ascii")))


def tree_of(commit: bytes) -> str | None:
    """The tree that the content of a commit names; None where it names none."""
    found = COMMIT_LINKS.match(commit)
    return found[1].decode("ascii").lower() if found else None


def parents_of(commit: bytes) -> list[str]:
    """The parents that the content of a commit names, the first parent first."""
    found = COMMIT_LINKS.match(commit)
    return [name.decode("ascii").lower() for name in found[2].split()[1::2]] if found else []


def target_of(tag: bytes) -> str | None:
    """The object that the content of an annotated tag names; None where it names none."""
    found = TAG_LINK.match(tag)
    return found[1].decode("ascii").lower() if found else None


def peel(store: RawObjects, name: str) -> str:
    """The object that remains once all annotated tags are dereferenced; `name` itself where it is no tag.

    Raises KeyError where an object on the way is missing.
    """
    while True:
        type_num, data = read(store, name)
        target = target_of(data) if type_num == TAG else None
        if target is None:
            return name
        name = target


def read_loose(file: Path) -> tuple[int, bytes]:
    """The type and the content of the loose object in `file`. Raises OSError, and ValueError where the file
    is damaged."""
    try:
        content = zlib.decompress(file.read_bytes())
    except zlib.error as error:
        raise ValueError(str(error)) from error
    header = _LOOSE_HEADER.match(content)
    if header is None or header[1] not in TYPE_NUMBERS or int(header[2]) != len(content) - header.end():
        raise ValueError("invalid header of a loose object")
    return TYPE_NUMBERS[header[1]], content[header.end() :]
