"""Merging packs by copying: their entries go over byte for byte into one pack, each object once.

Packs are taken in the order given, and an object that several hold is taken from the first of them. A delta's
base is in the delta's own pack, so the copy of it that is taken comes from there or from a pack before; and
each base is written before what depends on it. So every delta points backwards, and none is part of a circle.
Where a chain of deltas would get too deep, an object is written undeltified.

Some fifty bytes are held for each object, and never the content of one that is copied.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from mirror.fs.durable import create_file, sync_stream
from mirror.git.failures import GitFailed
from mirror.git.objects import hash_object
from mirror.git.pack.entries import NONE
from mirror.git.pack.format import (
    TRAILER_BYTES,
    PackDamaged,
    entry_header,
    ofs_delta_header,
    pack_header,
    read_pack_header,
)
from mirror.git.pack.index import PackIndex, write_index
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from mirror.git.pack.publish import discard_pack, new_pack_path, publish
from mirror.git.pack.reader import PackFile

# The deepest chain of deltas, as C git's default is.
DEPTH_MAX = 50
# A delta whose result is larger is copied however deep its chain is.
UNDELTIFY_BYTES_MAX = 64 << 20


@dataclass(frozen=True)
class MergedPack:
    """The pack that was made: its name without suffix, how many objects it has, and its size in bytes."""

    name: str
    objects: int
    size: int


def merge_packs(
    packs: Sequence[Path],
    *,
    progress: Callable[[str], None] = lambda _: None,
    depth_max: int = DEPTH_MAX,
    limits: PackLimits = DEFAULT_LIMITS,
) -> MergedPack:
    """Write all objects of `packs`, of one folder, into a new pack beside them, durably. The old ones stay.

    Every entry is compared with the crc32 that the index of its pack has of it. `depth_max` is the deepest
    chain of deltas. Raises GitFailed where a pack is damaged, and OSError; then nothing is changed.
    """
    path = new_pack_path(packs[0].parent)
    try:
        with closing(_Target(path, _union(packs), depth_max)) as target:
            for number, pack in enumerate(packs):
                progress(f"merging pack {number + 1} of {len(packs)}")
                _copy(pack, number, target)
            checksum = target.finish()
        write_index(path.with_suffix(".idx"), target, checksum, limits)
        return MergedPack(publish(path, checksum), len(target), target.end + TRAILER_BYTES)
    finally:
        discard_pack(path)


@dataclass(frozen=True)
class _Union:
    """The ids of all objects, sorted; for each the number of the pack that it is taken from; and for each
    pack the ranks of its objects among all, in the order of its index."""

    oids: bytearray
    owners: array[int]
    ranks: list[array[int]]


def _union(packs: Sequence[Path]) -> _Union:
    tables = []
    for pack in packs:
        try:
            with closing(PackIndex(pack.with_suffix(".idx"))) as index:
                index.check()
                tables.append(index.oids())
        except PackDamaged as error:
            raise GitFailed(f"{pack.stem}.idx: {error}; nothing was changed") from error
    union = _Union(bytearray(), array("I"), [array("I") for _ in packs])
    places = [0] * len(packs)
    for first in range(256):
        found: dict[bytes, int] = {}
        spans = []
        for number, table in enumerate(tables):
            begin = end = places[number]
            while end < len(table) and table[end] == first:
                found.setdefault(table[end : end + 20], number)
                end += 20
            spans.append(range(begin, end, 20))
            places[number] = end
        ordered = sorted(found)
        ranks = {oid: len(union.owners) + at for at, oid in enumerate(ordered)}
        union.oids.extend(b"".join(ordered))
        union.owners.extend(found[oid] for oid in ordered)
        for number, (table, span) in enumerate(zip(tables, spans, strict=True)):
            union.ranks[number].extend(ranks[table[at : at + 20]] for at in span)
    return union


class _Target:
    """The pack that is being written. An object is known by its rank among all objects.

    `oids`, `offsets` and `crcs` are the columns of its index.
    """

    def __init__(self, path: Path, union: _Union, depth_max: int) -> None:
        count = len(union.owners)
        self.union, self.depth_max = union, depth_max
        self.oids = union.oids
        self.offsets = array("Q", bytes(8 * count))  # zero: not written yet
        self.crcs = array("I", bytes(4 * count))
        self.depths = array("H", bytes(2 * count))
        self.end = 0
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._file = create_file(path)
        self._put(pack_header(count))

    def __len__(self) -> int:
        return len(self.offsets)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def oid(self, rank: int) -> bytes:
        """The id (20 bytes) of an object."""
        return bytes(self.oids[20 * rank : 20 * rank + 20])

    def add(self, rank: int, depth: int, *pieces: bytes | memoryview) -> None:
        """Write an entry whose chain of deltas is `depth` long."""
        self.offsets[rank], self.depths[rank], crc = self.end, depth, 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            self._put(piece)
        self.crcs[rank] = crc

    def _put(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)
        self.end += len(data)

    def finish(self) -> bytes:
        """Write the checksum and sync the file; returns the checksum."""
        if not all(self.offsets):
            raise PackDamaged("an index names an object that its pack does not have")
        checksum = self._digest.digest()
        self._file.write(checksum)
        sync_stream(self._file)
        return checksum


def _copy(pack: Path, number: int, target: _Target) -> None:
    """Write what is taken from `pack`, the one of that `number`."""
    try:
        with ExitStack() as stack:
            index = stack.enter_context(closing(PackIndex(pack.with_suffix(".idx"))))
            source = _Source(stack.enter_context(closing(PackFile(pack, index))), number, target)
            source.check()
            source.copy()
    except PackDamaged as error:
        raise GitFailed(f"{pack.name} is damaged: {error}; nothing was changed") from error


class _Source:
    """A pack that is copied from. An entry is known by its place in the pack's own order."""

    def __init__(self, file: PackFile, number: int, target: _Target) -> None:
        self._file, self._number, self._target = file, number, target
        ranks = target.union.ranks[number]
        if not len(file) == len(ranks) == read_pack_header(file.data):
            raise PackDamaged("pack and index do not belong together")
        self._ranks = array("I", (ranks[rank] for rank in file.ranks))  # among all objects, by place

    def check(self) -> None:
        """Raise PackDamaged unless every entry matches the crc32 in the index, copied from here or not."""
        file = self._file
        if file.data[-20:] != file.index.pack_checksum:
            raise PackDamaged("pack and index do not belong together")
        for at in file.damaged_entries():
            raise PackDamaged(f"object {file.oid(at).hex()} does not match its crc32")

    def copy(self) -> None:
        """Write the objects that are taken from this pack, each after its delta base."""
        owners, written, number = self._target.union.owners, self._target.offsets, self._number
        with memoryview(self._file.data) as view:
            for at, rank in enumerate(self._ranks):
                if owners[rank] == number and not written[rank]:
                    for one, size, base, start in reversed(self._chain(at)):
                        self._write(one, size, base, start, view)

    def _chain(self, at: int) -> list[tuple[int, int, int, int]]:
        """An entry and the delta bases below it that are not written yet: of each its place, its size once
        inflated, the place of its delta base, and where its compressed content begins."""
        chain = []
        while True:
            size, base, start = self._file.locate(at)
            chain.append((at, size, base, start))
            if base == NONE or self._target.offsets[self._ranks[base]]:
                return chain
            if len(chain) > len(self._file):
                raise PackDamaged("deltas depend on each other in a circle")
            at = base

    def _write(self, at: int, size: int, base: int, start: int, view: memoryview) -> None:
        """Write an entry whose delta base, if it has one, is written."""
        file, target, rank = self._file, self._target, self._ranks[at]
        if base == NONE:
            with view[file.offset_of(at) : file.stop_of(at)] as entry:
                target.add(rank, 0, entry)
            return
        base_rank = self._ranks[base]
        depth = target.depths[base_rank] + 1
        if depth > target.depth_max and file.result_size(at) <= UNDELTIFY_BYTES_MAX:
            self._write_undeltified(at, rank)
            return
        header = ofs_delta_header(size, target.end - target.offsets[base_rank])
        with view[start : file.stop_of(at)] as compressed:
            target.add(rank, depth, header, compressed)

    def _write_undeltified(self, at: int, rank: int) -> None:
        type_num, content = self._file.type_of(at), self._file.content(at)
        assert isinstance(content, bytes)
        if hash_object(type_num, content) != self._target.oid(rank):
            raise PackDamaged(f"object {self._target.oid(rank).hex()} has another hash")
        self._target.add(rank, 0, entry_header(type_num, len(content)), zlib.compress(content))
