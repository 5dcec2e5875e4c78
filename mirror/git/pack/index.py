"""Pack indexes of version 2: reading them, and writing them as `git index-pack` does."""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from mirror.fs.durable import create_file, sync_stream
from mirror.git.pack.format import PackDamaged, map_file
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits

_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_FAN_OUT = len(_MAGIC)
_OIDS = _FAN_OUT + 256 * 4
# The checksums of pack and index.
_END = 40
# Larger offsets stand in a table of their own.
_SMALL_OFFSET_MAX = 0x7FFFFFFF
_IS_LARGE = 0x80000000


class PackIndex:
    """A mapped pack index, until it is closed. An object's rank is its place in the order of object ids.

    Raises PackDamaged where the file is no index of version 2, and OSError.
    """

    def __init__(self, path: Path) -> None:
        self._data = map_file(path)
        data = self._data
        if len(data) < _OIDS + _END or data[: len(_MAGIC)] != _MAGIC:
            raise PackDamaged("not an index of version 2")
        self.count: int = self._fan_out(255)
        self._crcs = _OIDS + 20 * self.count
        self._offsets = self._crcs + 4 * self.count
        self._large = self._offsets + 4 * self.count
        if len(data) < self._large + _END:
            raise PackDamaged("the index is truncated")

    def close(self) -> None:
        """Unmap the file."""
        self._data.close()

    def _fan_out(self, first: int) -> int:
        """How many object ids begin with a byte of at most `first`."""
        count: int = struct.unpack_from(">L", self._data, _FAN_OUT + 4 * first)[0]
        return count

    @property
    def pack_checksum(self) -> bytes:
        """The checksum of the pack that this is the index of."""
        return self._data[-40:-20]

    def check(self) -> None:
        """Raise PackDamaged unless the content matches the index's own checksum."""
        digest = hashlib.sha1(usedforsecurity=False)
        with memoryview(self._data) as view:
            digest.update(view[:-20])
        if digest.digest() != self._data[-20:]:
            raise PackDamaged("its content does not match its checksum")

    def oids(self) -> bytes:
        """All object ids, 20 bytes each, sorted."""
        return self._data[_OIDS : self._crcs]

    def oid(self, rank: int) -> bytes:
        """The object id (20 bytes) at `rank`."""
        return self._data[_OIDS + 20 * rank : _OIDS + 20 * rank + 20]

    def find(self, oid: bytes) -> int | None:
        """The rank of an object; None where it is not in the pack."""
        low, high = self._fan_out(oid[0] - 1) if oid[0] else 0, self._fan_out(oid[0])
        while low < high:
            middle = (low + high) // 2
            if (found := self.oid(middle)) == oid:
                return middle
            low, high = (middle + 1, high) if found < oid else (low, middle)
        return None

    def __contains__(self, oid: bytes) -> bool:
        return self.find(oid) is not None

    def crcs(self) -> array[int]:
        """The crc32 of each entry, by rank."""
        return _native(array("I", self._data[self._crcs : self._offsets]))

    def offsets(self) -> array[int]:
        """The offset of each entry in the pack, by rank. Raises PackDamaged."""
        large = array("Q")
        for value in _native(array("I", self._data[self._offsets : self._large])):
            if value & _IS_LARGE:
                at = self._large + 8 * (value & _SMALL_OFFSET_MAX)
                if at + 8 > len(self._data) - _END:
                    raise PackDamaged("an offset lies outside of the table of large offsets")
                value = struct.unpack_from(">Q", self._data, at)[0]
            large.append(value)
        return large

    def prefixes(self) -> array[int]:
        """The first 8 bytes of each object id, as sorted numbers. Raises PackDamaged."""
        found = [prefix for (prefix,) in struct.iter_unpack(">Q12x", self.oids())]
        if found != sorted(found):
            raise PackDamaged("its object ids are not sorted")
        return array("Q", found)


class ObjectSet:
    """Which objects are in some packs and among some loose objects."""

    def __init__(self) -> None:
        self._loose: set[bytes] = set()
        self._indexes: list[tuple[array[int], PackIndex]] = []

    def add_index(self, index: PackIndex) -> None:
        """Add the objects of a pack; its index must stay open. Raises PackDamaged."""
        self._indexes.append((index.prefixes(), index))

    def add_loose(self, oid: bytes) -> None:
        """Add a loose object."""
        self._loose.add(oid)

    def __contains__(self, oid: bytes) -> bool:
        if oid in self._loose:
            return True
        prefix = int.from_bytes(oid[:8], "big")
        for prefixes, index in self._indexes:
            rank = bisect_left(prefixes, prefix)
            while rank < len(prefixes) and prefixes[rank] == prefix:
                if index.oid(rank) == oid:
                    return True
                rank += 1
        return False


class Indexable(Protocol):
    """What an index says of each entry of a pack, in columns; `oids` has twenty bytes for each."""

    @property
    def oids(self) -> bytearray | memoryview: ...
    @property
    def offsets(self) -> array[int] | memoryview: ...
    @property
    def crcs(self) -> array[int] | memoryview: ...
    def __len__(self) -> int: ...


def oid_ranges(count: int, limits: PackLimits) -> Iterator[tuple[int, int]]:
    """Ranges of the first byte of object ids, each with about `limits.names_per_pass` of `count` at most."""
    step = max(1, 256 * limits.names_per_pass // max(count, limits.names_per_pass))
    return ((first, min(first + step, 256)) for first in range(0, 256, step))


def oids_in_range(
    entries: Indexable, first: int, stop: int, limits: PackLimits
) -> Iterator[tuple[int, bytes]]:
    """Place and object id of the entries whose object id begins with a byte from `first` to before `stop`."""
    count, is_all, step = len(entries), stop - first == 256, limits.names_per_chunk
    for begin in range(0, count, step):
        oids = bytes(entries.oids[20 * begin : 20 * min(begin + step, count)])
        chunk = enumerate([oids[at : at + 20] for at in range(0, len(oids), 20)], start=begin)
        yield from chunk if is_all else (one for one in chunk if first <= one[1][0] < stop)


def write_index(path: Path, entries: Indexable, checksum: bytes, limits: PackLimits = DEFAULT_LIMITS) -> None:
    """Write the index of a pack with this `checksum` to the new file `path`, and fsync it.

    It is what `git index-pack` would write, byte for byte.
    """
    count = len(entries)
    counts = Counter(bytes(entries.oids[: 20 * count : 20]))
    fan_out = list(accumulate(counts[byte] for byte in range(256)))
    order = array("I")
    digest = hashlib.sha1(usedforsecurity=False)
    with create_file(path) as stream:

        def put(data: bytes | bytearray) -> None:
            digest.update(data)
            stream.write(data)

        put(_MAGIC + struct.pack(">256L", *fan_out))
        for first, stop in oid_ranges(count, limits):
            oids = dict(oids_in_range(entries, first, stop, limits))
            ordered = sorted(oids, key=oids.__getitem__)
            order.extend(ordered)
            put(b"".join([oids[at] for at in ordered]))
            del oids, ordered
        step = limits.names_per_chunk
        chunks = [order[at : at + step] for at in range(0, count, step)]
        crcs, offsets, large = entries.crcs, entries.offsets, array("Q")
        for chunk in chunks:
            put(_native(array("I", [crcs[at] for at in chunk])).tobytes())
        for chunk in chunks:
            small = array("I")
            for at in chunk:
                offset = offsets[at]
                if offset > _SMALL_OFFSET_MAX:
                    small.append(_IS_LARGE | len(large))
                    large.append(offset)
                else:
                    small.append(offset)
            put(_native(small).tobytes())
        put(_native(large).tobytes())
        put(checksum)
        stream.write(digest.digest())
        sync_stream(stream)


def _native(numbers: array[int]) -> array[int]:
    """Swap between big-endian, as files have it, and the machine's order, in place."""
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
