"""Joining packs by copying: what they hold goes over byte for byte into one pack, each object once.

Packs are taken in the order given, and an object that several hold is taken from the first of them. A
delta's base is in the delta's own pack, so the copy of it that is taken comes from there or from a pack
before; and each is written before what is made from it. So every delta points backwards, and none can
point in a circle. Where a chain of deltas would get too long, an object is written whole.

Some fifty bytes are held for each object, and never the content of one that is copied.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from mirror.fs.durable import sync_folder
from mirror.git.failures import GitFailed
from mirror.git.pack.format import (
    PackDamaged,
    applied,
    distance,
    header,
    read_distance,
    read_header,
)
from mirror.git.pack.reader import PackIndex, map_file
from mirror.git.pack.receiver import write_index

# So many deltas follow each other at most, as C git does it. One that makes something larger than
# WHOLE_MAX is copied all the same.
DEPTH_MAX = 50
WHOLE_MAX = 64 << 20
_WORDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
_OFFSET_DELTA, _NAME_DELTA = 6, 7
_NONE = 0xFFFFFFFF
# What reading a damaged pack may raise.
_DAMAGED = (PackDamaged, zlib.error, struct.error, IndexError, ValueError)


@dataclass(frozen=True)
class Joined:
    """The pack that was made: its name without suffix, and how much is in it."""

    name: str
    objects: int
    size: int


def join(packs: Sequence[Path], *, tell: Callable[[str], None] = lambda _: None) -> Joined:
    """Write all that `packs`, of one folder, hold into a new pack beside them, durably.

    Every entry is compared with the checksum that the index of its pack has of it. The old packs stay.
    Raises GitFailed where one is damaged, and OSError; then nothing is changed.
    """
    folder = packs[0].parent
    beside = folder / f"tmp_pack_{secrets.token_hex(8)}"
    try:
        target = _Target(beside, _merged(packs))
        with closing(target):
            for number, pack in enumerate(packs):
                tell(f"joining pack {number + 1} of {len(packs)}")
                _copy(pack, number, target)
            checksum = target.finish()
        write_index(beside.with_suffix(".idx"), target, checksum)
        final = folder / f"pack-{checksum.hex()}"
        # The index is what makes readers look for a pack, so it comes last.
        beside.rename(final.with_suffix(".pack"))
        beside.with_suffix(".idx").rename(final.with_suffix(".idx"))
        sync_folder(folder)
        return Joined(final.name, len(target), target.end + 20)
    finally:
        beside.unlink(missing_ok=True)
        beside.with_suffix(".idx").unlink(missing_ok=True)


@dataclass(frozen=True)
class _Merged:
    """The names of all objects, in order; for each the pack it is taken from; and for each pack the
    places of its objects among the names."""

    names: bytearray
    owners: array[int]
    ranks: list[array[int]]


def _merged(packs: Sequence[Path]) -> _Merged:
    tables = []
    for pack in packs:
        try:
            with closing(PackIndex(pack.with_suffix(".idx"))) as index:
                index.check()
                tables.append(index.names())
        except _DAMAGED as error:
            raise GitFailed(f"{pack.stem}.idx: {error}; nothing was changed") from error
    merged = _Merged(bytearray(), array("I"), [array("I") for _ in packs])
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
        ranks = {name: len(merged.owners) + at for at, name in enumerate(ordered)}
        merged.names.extend(b"".join(ordered))
        merged.owners.extend(found[name] for name in ordered)
        for number, (table, span) in enumerate(zip(tables, spans, strict=True)):
            merged.ranks[number].extend(ranks[table[at : at + 20]] for at in span)
    return merged


class _Target:
    """The pack that is being written. An object is known by its place in the order of names.

    Its `names`, `offsets` and `crcs` are what an index is made of.
    """

    def __init__(self, path: Path, merged: _Merged) -> None:
        self.merged = merged
        self.names = merged.names
        self.offsets = array("Q", bytes(8 * len(merged.owners)))  # zero: not written yet
        self.crcs = array("I", bytes(4 * len(merged.owners)))
        self.depths = array("H", bytes(2 * len(merged.owners)))
        self.end = 0
        self._digest = hashlib.sha1(usedforsecurity=False)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._put(b"PACK" + struct.pack(">LL", 2, len(merged.owners)))

    def __len__(self) -> int:
        return len(self.offsets)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def find(self, name: bytes) -> int:
        """The place of an object. Raises PackDamaged where there is none of that name."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.names[20 * middle : 20 * middle + 20] < name:
                low = middle + 1
            else:
                high = middle
        if self.names[20 * low : 20 * low + 20] != name:
            raise PackDamaged("what a delta is made from is not in its pack")
        return low

    def add(self, rank: int, depth: int, *pieces: bytes | memoryview) -> None:
        """Write an entry."""
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
        """Make it durable; returns its checksum."""
        if not all(self.offsets):
            raise PackDamaged("an index names an object that its pack has not")
        checksum = self._digest.digest()
        self._file.write(checksum)
        self._file.flush()
        os.fsync(self._file.fileno())
        return checksum


def _copy(pack: Path, number: int, target: _Target) -> None:
    """Write what is taken from `pack`, the one of that `number`."""
    problem = ""
    with ExitStack() as stack:
        try:
            index = stack.enter_context(closing(PackIndex(pack.with_suffix(".idx"))))
            data = stack.enter_context(closing(map_file(pack)))
            source = _Source(data, index, number, target)
            source.check_crcs()
            for at in range(len(source.offsets)):
                if source.is_due(source.ranks[at]):
                    source.write(at)
        except _DAMAGED as error:
            problem = str(error) or type(error).__name__
    if problem:
        raise GitFailed(f"{pack.name} is damaged: {problem}; nothing was changed")


class _Source:
    """A pack that is copied from. An entry is known by its place in the pack's own order."""

    def __init__(self, data: mmap.mmap, index: PackIndex, number: int, target: _Target) -> None:
        self._data, self._number, self._target = data, number, target
        offsets, crcs, ranks = index.offsets(), index.crcs(), target.merged.ranks[number]
        order = sorted(range(len(offsets)), key=offsets.__getitem__)
        if data[:4] != b"PACK" or data[-20:] != index.pack_checksum or len(order) != len(ranks):
            raise PackDamaged("pack and index do not belong together")
        self.offsets = array("Q", (offsets[at] for at in order))
        self.ranks = array("I", (ranks[at] for at in order))
        self._crcs = array("I", (crcs[at] for at in order))
        self._places: dict[int, int] = {}  # of an object of this pack, its entry: made when first needed

    def check_crcs(self) -> None:
        """Raise PackDamaged unless each entry is what its index says; what another pack holds, too."""
        with memoryview(self._data) as view:
            for at, offset in enumerate(self.offsets):
                with view[offset : self._end(at)] as entry:
                    if zlib.crc32(entry) != self._crcs[at]:
                        rank = self.ranks[at]
                        name = self._target.names[20 * rank : 20 * rank + 20].hex()
                        raise PackDamaged(f"object {name} is not what was written")

    def is_due(self, rank: int) -> bool:
        """Whether an object is taken from this pack and not written yet."""
        return self._target.merged.owners[rank] == self._number and not self._target.offsets[rank]

    def write(self, at: int) -> None:
        """Write an entry, and before it what it is made from, as far as that is not there."""
        chain = [at]
        while (base := self._base(chain[-1])[0]) is not None and not self._target.offsets[base]:
            if len(chain) > len(self.offsets):
                raise PackDamaged("deltas are made from each other in a circle")
            chain.append(self._place(base))
        for one in reversed(chain):
            self._write(one)

    def _place(self, rank: int) -> int:
        """The entry of an object in this pack."""
        if not self._places:
            self._places = {one: at for at, one in enumerate(self.ranks)}
        if (at := self._places.get(rank)) is None:
            raise PackDamaged("what a delta is made from is not in its pack")
        return at

    def _end(self, at: int) -> int:
        return self.offsets[at + 1] if at + 1 < len(self.offsets) else len(self._data) - 20

    def _base(self, at: int) -> tuple[int | None, int, int]:
        """Which object an entry is made from, if any; how large what it holds is, and where it begins."""
        offset = self.offsets[at]
        kind, size, start = read_header(self._data, offset)
        if kind in _WORDS:
            return None, size, start
        if kind == _OFFSET_DELTA:
            back, begin = read_distance(self._data, start)
            place = bisect_left(self.offsets, offset - back)
            if back <= 0 or self.offsets[place] != offset - back:
                raise PackDamaged(f"the delta at {offset} is made from no entry")
            return self.ranks[place], size, begin
        if kind == _NAME_DELTA:
            return self._target.find(self._data[start : start + 20]), size, start + 20
        raise PackDamaged(f"the entry at {offset} is of no known kind")

    def _write(self, at: int) -> None:
        """Write an entry whose base, if it has one, is written."""
        target, offset, end, rank = self._target, self.offsets[at], self._end(at), self.ranks[at]
        with memoryview(self._data) as view, view[offset:end] as entry:
            base, size, begin = self._base(at)
            if base is None:
                target.add(rank, 0, entry)
                return
            depth = target.depths[base] + 1
            if depth > DEPTH_MAX and self._makes(at) <= WHOLE_MAX:
                kind, data = self._content(at)
                self._check(rank, kind, data)
                target.add(rank, 0, header(kind, len(data)), zlib.compress(data))
                return
            head = header(_OFFSET_DELTA, size) + distance(target.end - target.offsets[base])
            with entry[begin - offset :] as rest:
                target.add(rank, depth, head, rest)

    def _makes(self, at: int) -> int:
        """How large the object is that a delta makes."""
        _, _, begin = self._base(at)
        head = zlib.decompressobj().decompress(self._data[begin : min(begin + 1024, self._end(at))], 20)
        numbers, value, shift = [], 0, 0
        for byte in head:
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                numbers.append(value)
                value = shift = 0
        return numbers[1]

    def _content(self, at: int) -> tuple[int, bytes]:
        """The kind and bytes of an object, made from this pack alone."""
        deltas = []
        while True:
            base, size, begin = self._base(at)
            inflater = zlib.decompressobj()
            data = inflater.decompress(self._data[begin : self._end(at)], size + 1)
            if len(data) != size:
                raise PackDamaged(f"the entry at {self.offsets[at]} does not inflate to its size")
            if base is None:
                break
            deltas.append(data)
            if len(deltas) > len(self.offsets):
                raise PackDamaged("deltas are made from each other in a circle")
            at = self._place(base)
        kind, _, _ = read_header(self._data, self.offsets[at])
        while deltas:
            data = applied(data, deltas.pop())
        return kind, data

    def _check(self, rank: int, kind: int, data: bytes) -> None:
        name = bytes(self._target.names[20 * rank : 20 * rank + 20])
        digest = hashlib.sha1(b"%s %d\0" % (_WORDS[kind], len(data)), usedforsecurity=False)
        digest.update(data)
        if digest.digest() != name:
            raise PackDamaged(f"object {name.hex()} has another hash")
