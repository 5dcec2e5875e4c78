"""Reading entries of a pack: their headers, their content, and the chain of deltas below it."""

from __future__ import annotations

import mmap
import tempfile
import zlib
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path

from mirror.git.pack.delta import SIZES_BYTES_MAX, apply_delta, apply_delta_in_pieces, delta_sizes
from mirror.git.pack.entries import NONE
from mirror.git.pack.format import (
    INFLATE_ERRORS,
    TRAILER_BYTES,
    Buffer,
    PackDamaged,
    inflate,
    inflate_pieces,
    map_file,
    new_inflater,
    read_entry_header,
)
from mirror.git.pack.index import PackIndex

# The compressed bytes that are tried first to learn the sizes of a delta.
_HEAD_BYTES = 200


class EntryReader(ABC):
    """Reads the content of a pack's entries. An entry is known by its place in the pack's own order.

    Contents of more than `spill_bytes` are mapped from unnamed files in `folder`, where one is given.
    """

    def __init__(self, data: mmap.mmap, folder: Path | None = None, spill_bytes: int = 0) -> None:
        self.data = data
        self._folder, self._spill_bytes = folder, spill_bytes

    def close(self) -> None:
        """Unmap the pack."""
        self.data.close()

    @abstractmethod
    def __len__(self) -> int:
        """How many entries there are."""

    @abstractmethod
    def offset_of(self, at: int) -> int:
        """Where an entry begins."""

    @abstractmethod
    def stop_of(self, at: int) -> int:
        """Where an entry ends."""

    @abstractmethod
    def locate(self, at: int) -> tuple[int, int, int]:
        """The size of an entry once inflated, the place of its delta base (NONE: undeltified), and where its
        compressed content begins. Raises PackDamaged."""

    def inflate(self, at: int) -> Buffer:
        """What an entry holds: an object, or a delta. Raises PackDamaged."""
        size, _, start = self.locate(at)
        stop, offset = self.stop_of(at), self.offset_of(at)
        if self._folder is not None and size > self._spill_bytes:
            return self._spill(inflate_pieces(self.data, start, stop, size, offset), size, offset)
        return inflate(self.data, start, stop, size, offset)

    def apply(self, base: Buffer, delta: Buffer, at: int) -> Buffer:
        """The result of `delta`, which the entry `at` holds. Raises PackDamaged."""
        offset = self.offset_of(at)
        if self._folder is None:
            assert isinstance(base, bytes) and isinstance(delta, bytes)
            return apply_delta(base, delta, offset)
        base_size, size, start = delta_sizes(delta, offset)
        if isinstance(base, bytes) and isinstance(delta, bytes) and size <= self._spill_bytes:
            return apply_delta(base, delta, offset)
        if base_size != len(base):
            raise PackDamaged(f"the delta at {offset} is invalid: its base is of another size")
        return self._spill(apply_delta_in_pieces(base, delta, start, offset), size, offset)

    def content(self, at: int) -> Buffer:
        """The content of the object that an entry holds or makes. Raises PackDamaged."""
        chain = [at]
        while (base := self.locate(chain[-1])[1]) != NONE:
            chain.append(base)
            if len(chain) > len(self):
                raise PackDamaged(f"the delta at {self.offset_of(at)} depends on itself")
        content = self.inflate(chain.pop())
        while chain:
            at = chain.pop()
            content = self.apply(content, self.inflate(at), at)
        return content

    def _spill(self, pieces: Iterable[bytes], size: int, offset: int) -> Buffer:
        """The pieces joined, which must be of `size`, mapped from an unnamed file."""
        with tempfile.TemporaryFile(prefix="tmp_pack_", dir=self._folder) as stream:
            for piece in pieces:
                stream.write(piece)
                if stream.tell() > size:
                    break
            stream.flush()
            if stream.tell() != size:
                raise PackDamaged(f"the delta at {offset} is invalid: its result is of another size")
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


class PackFile(EntryReader):
    """A published pack, read by its index, which must stay open.

    Raises PackDamaged and OSError. Some twelve bytes are held for each object.
    """

    def __init__(self, pack: Path, index: PackIndex) -> None:
        self.index = index
        offsets = index.offsets()
        self.ranks = array("I", sorted(range(len(offsets)), key=offsets.__getitem__))
        self.offsets = array("Q", (offsets[rank] for rank in self.ranks))
        self._places = array("I")  # by rank; filled when first needed
        super().__init__(map_file(pack))
        self._end = len(self.data) - TRAILER_BYTES

    def __len__(self) -> int:
        return len(self.offsets)

    def offset_of(self, at: int) -> int:
        """See EntryReader."""
        return self.offsets[at]

    def stop_of(self, at: int) -> int:
        """See EntryReader."""
        return self.offsets[at + 1] if at + 1 < len(self.offsets) else self._end

    def oid(self, at: int) -> bytes:
        """The object id (20 bytes) that the index gives an entry."""
        return self.index.oid(self.ranks[at])

    def header(self, at: int) -> tuple[int, int, int, int]:
        """The type of an entry, its size once inflated, the place of its delta base (NONE: undeltified), and
        where its compressed content begins. Raises PackDamaged."""
        offset = self.offsets[at]
        try:
            type_num, size, base_offset, base_oid, start = read_entry_header(self.data, offset, offset)
        except IndexError:
            raise PackDamaged(f"the entry at {offset} is truncated") from None
        base = NONE
        if base_offset:
            base = bisect_left(self.offsets, base_offset)
            if self.offsets[base] != base_offset:
                raise PackDamaged(f"the delta base offset of the entry at {offset} does not start an entry")
        elif base_oid:
            found = self.find(base_oid)
            if found is None:
                raise PackDamaged(f"the delta base of the entry at {offset} is not in the pack")
            base = found
        return type_num, size, base, start

    def find(self, oid: bytes) -> int | None:
        """The entry of an object; None where it is not in the pack."""
        rank = self.index.find(oid)
        return None if rank is None else self._place_of(rank)

    def _place_of(self, rank: int) -> int:
        """The entry of the object at `rank` in the index."""
        if not self._places:
            self._places = array("I", bytes(4 * len(self.ranks)))
            for at, one in enumerate(self.ranks):
                self._places[one] = at
        return self._places[rank]

    def locate(self, at: int) -> tuple[int, int, int]:
        """See EntryReader."""
        return self.header(at)[1:]

    def type_of(self, at: int) -> int:
        """The type of the object that an entry holds or makes. Raises PackDamaged."""
        for _ in range(len(self)):
            type_num, _, base, _ = self.header(at)
            if base == NONE:
                return type_num
            at = base
        raise PackDamaged(f"the delta at {self.offsets[at]} depends on itself")

    def result_size(self, at: int) -> int:
        """How large the object is that the delta `at` makes, by its first bytes. Raises PackDamaged."""
        size, _, start = self.locate(at)
        offset, stop = self.offsets[at], self.stop_of(at)
        inflater = new_inflater(self.data[start] if start < stop else None, size, offset)
        head = b""
        try:
            while len(head) < SIZES_BYTES_MAX and not inflater.eof and start < stop:
                head += inflater.decompress(
                    self.data[start : min(start + _HEAD_BYTES, stop)], SIZES_BYTES_MAX
                )
                start += _HEAD_BYTES
        except INFLATE_ERRORS as error:
            raise PackDamaged(f"the entry at {offset} cannot be inflated") from error
        return delta_sizes(head, offset)[1]

    def extents(self) -> Iterator[tuple[bytes, int]]:
        """For each entry its object id and how many bytes it takes in the pack, in the pack's order."""
        for at, offset in enumerate(self.offsets):
            yield self.oid(at), self.stop_of(at) - offset

    def damaged_entries(self) -> Iterator[int]:
        """The entries whose bytes do not match the crc32 in the index, each by its place."""
        crcs = self.index.crcs()
        with memoryview(self.data) as view:
            for at, offset in enumerate(self.offsets):
                with view[offset : self.stop_of(at)] as entry:
                    matches = zlib.crc32(entry) == crcs[self.ranks[at]] and bool(entry)
                if not matches:
                    yield at
