"""How large an object is, before anybody reads it: a few bytes of a pack may stand for gigabytes."""

from __future__ import annotations

import zlib
from pathlib import Path

from dulwich.object_store import PackBasedObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import Pack

from mirror.git.failures import GitFailed
from mirror.git.pack.delta import SIZES_BYTES_MAX, delta_sizes
from mirror.git.pack.format import OFS_DELTA, REF_DELTA, read_entry_header

# The header of an entry, and enough behind it for the sizes that a delta begins with.
_HEAD_BYTES = 512
# No longer chain of deltas is followed.
_CHAIN_MAX = 5_000


def stated_size(store: PackBasedObjectStore, objects: Path, identifier: str) -> int | None:
    """How many bytes the object needs that is to be read, by what its headers state: it itself, or what its
    delta is made from, whichever is larger. `objects` is the folder of the store.

    None where that is not known: the object is missing or damaged, and reading it says so.
    """
    name = ObjectID(identifier.encode("ascii"))
    try:
        for pack in list(store.packs):
            offset = _offset(pack, name)
            if offset is not None:
                return _in_pack(pack, offset)
        return _loose(objects / identifier[:2] / identifier[2:])
    except (OSError, ValueError, IndexError, KeyError, zlib.error, GitFailed):
        return None


def _offset(pack: Pack, name: ObjectID) -> int | None:
    try:
        return pack.index.object_offset(name)
    except KeyError:
        return None


def _in_pack(pack: Pack, offset: int) -> int:
    largest = 0
    with Path(pack.data.path).open("rb") as stream:
        for _ in range(_CHAIN_MAX):
            stream.seek(offset)
            head = stream.read(_HEAD_BYTES)
            kind, size, base_offset, base, start = read_entry_header(head, 0, offset)
            if kind not in (OFS_DELTA, REF_DELTA):
                return max(largest, size)
            begin = zlib.decompressobj().decompress(head[start:], SIZES_BYTES_MAX)
            largest = max(largest, size, *delta_sizes(begin, offset)[:2])
            offset = base_offset or pack.index.object_offset(ObjectID(base.hex().encode("ascii")))
    return largest


def _loose(file: Path) -> int:
    with file.open("rb") as stream:
        head = zlib.decompressobj().decompress(stream.read(_HEAD_BYTES), 64)
    return int(head.partition(b"\0")[0].split(b" ")[1])
