"""Scanning a pack once, while it arrives.

Each entry is inflated as its bytes come, to find where it ends. Undeltified objects are hashed at once; of a
delta its base is noted. The content of a large entry is never held.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from hashlib import sha1
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from mirror.git.objects import TYPE_NAMES, hash_object
from mirror.git.pack.entries import EntryTable
from mirror.git.pack.format import (
    ENTRY_HEADER_MAX,
    HEADER_BYTES,
    INFLATE_ERRORS,
    TRAILER_BYTES,
    PackDamaged,
    feed,
    new_inflater,
    read_entry_header,
    read_pack_header,
)
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits

_NO_OID = bytes(20)


class _LargeEntry:
    """An entry that is inflated as its bytes come."""

    def __init__(
        self, type_num: int, size: int, offset: int, start: int, base: tuple[int, bytes], first_byte: int
    ) -> None:
        self.type_num, self.size, self.offset, self.start, self.base = type_num, size, offset, start, base
        self.inflater = new_inflater(first_byte, size, offset)
        self.inflated = 0
        self.crc = 0
        self.digest = sha1(usedforsecurity=False)
        if type_num in TYPE_NAMES:
            self.digest.update(b"%s %d\0" % (TYPE_NAMES[type_num], size))

    def feed(self, data: bytes, piece_bytes: int) -> int:
        """Inflate the next bytes; returns how many of them belong to the entry. Raises PackDamaged."""
        try:
            for piece in feed(self.inflater, data, piece_bytes):
                self.inflated += len(piece)
                if self.inflated > self.size:
                    raise PackDamaged(f"the entry at {self.offset} is larger than it states")
                self.digest.update(piece)
        except INFLATE_ERRORS as error:
            raise PackDamaged(f"the entry at {self.offset} cannot be inflated") from error
        used = len(data) - len(self.inflater.unused_data)
        self.crc = zlib.crc32(data[:used], self.crc)
        if self.inflater.eof and self.inflated != self.size:
            raise PackDamaged(f"the entry at {self.offset} is smaller than it states")
        return used


class PackScanner:
    """Takes the bytes of a pack, in pieces of any size, and writes them to `stream`.

    Columns of the table of entries that are large go to files in `folder`. Raises PackDamaged as soon as
    something is wrong. After `finish`, `entries` is complete. `count` is how many there are to be, as the
    pack's header says; None before it has arrived.
    """

    def __init__(self, stream: BinaryIO, folder: Path, limits: PackLimits = DEFAULT_LIMITS) -> None:
        self.entries = EntryTable(folder, limits)
        self.received = 0
        self._stream, self._limits = stream, limits
        self._buffer = bytearray()
        self._begin = 0  # the offset in the pack at which the buffer begins
        self._scan_from = limits.gather_bytes  # how full the buffer is before the next attempt
        self.count: int | None = None
        self._digest = sha1(usedforsecurity=False)
        self._large: _LargeEntry | None = None

    def close(self) -> None:
        """Release the table of entries."""
        self.entries.close()

    def write(self, data: bytes) -> int:
        """Take the next bytes."""
        self._stream.write(data)
        self.received += len(data)
        self._buffer += data
        if len(self._buffer) >= self._scan_from:
            self._scan(is_last=False)
            # What is left is an incomplete entry: not inflated again for every few bytes more.
            self._scan_from = len(self._buffer) + self._limits.gather_bytes
        return len(data)

    def finish(self) -> bytes:
        """Take the end of the pack; returns its checksum."""
        self._scan(is_last=True)
        if self.count is None or self._large is not None or len(self.entries) < self.count:
            raise PackDamaged(f"it ends after {len(self.entries)} of {self.count or 'its'} objects")
        trailer = bytes(self._buffer)
        if len(trailer) < TRAILER_BYTES:
            raise PackDamaged("its checksum is truncated")
        if trailer != self._digest.digest():
            raise PackDamaged("its content does not match its checksum")
        self._buffer.clear()
        return trailer

    def _scan(self, *, is_last: bool) -> None:
        data, at = bytes(self._buffer), 0
        if self.count is None:
            if len(data) < HEADER_BYTES:
                return
            self.count = read_pack_header(data)
            self.entries.grow(self.count)
            at = HEADER_BYTES
        entries = self.entries
        while entries.count < self.count:
            before = at
            at = self._scan_large(data, at) if self._large else self._scan_entries(data, at, is_last=is_last)
            if at == before:
                break
        if self._large is None and entries.count == self.count and len(data) - at > TRAILER_BYTES:
            raise PackDamaged("data follows its end")
        self._digest.update(memoryview(data)[:at])
        self._begin += at
        # What has arrived of a large entry is not part of the one before it.
        entries.end = self._large.offset if self._large is not None else self._begin
        del self._buffer[:at]

    def _scan_entries(self, data: bytes, at: int, *, is_last: bool) -> int:
        """Add the entries from `at` on that are here as a whole, up to a large one; returns where the first
        begins that is not."""
        assert self.count is not None
        entries, view, crc32 = self.entries, memoryview(data), isal_zlib.crc32
        stream_min, end = self._limits.stream_min_bytes, len(data)
        last = end if is_last else end - ENTRY_HEADER_MAX - TRAILER_BYTES
        while entries.count < self.count and at < last:
            offset = self._begin + at
            try:
                type_num, size, base_offset, base_oid, start = read_entry_header(data, at, offset)
                first_byte = data[start]
            except IndexError:
                break  # the data ends within a header
            if size > stream_min:
                base = base_offset, base_oid
                self._large = _LargeEntry(type_num, size, offset, self._begin + start, base, first_byte)
                self._large.crc = crc32(view[at:start])
                return start
            found = _inflate_whole(view, start, size, offset, stream_min)
            if found is None:
                break
            content, stop = found
            oid = hash_object(type_num, content) if type_num in TYPE_NAMES else _NO_OID
            crc = crc32(view[at:stop])
            self._add(type_num, offset, self._begin + start, size, crc, oid, base_offset, base_oid)
            at = stop
        return at

    def _scan_large(self, data: bytes, at: int) -> int:
        """Take what is here of a large entry; returns where it, or what is here of it, ends."""
        large = self._large
        assert large is not None
        while piece := data[at : at + self._limits.piece_bytes]:
            at += large.feed(piece, self._limits.piece_bytes)
            if large.inflater.eof:
                break
        else:
            return at
        oid = large.digest.digest() if large.type_num in TYPE_NAMES else _NO_OID
        self._add(large.type_num, large.offset, large.start, large.size, large.crc, oid, *large.base)
        self._large = None
        return at

    def _add(
        self,
        type_num: int,
        offset: int,
        start: int,
        size: int,
        crc: int,
        oid: bytes,
        base_offset: int,
        base_oid: bytes,
    ) -> None:
        entries = self.entries
        if entries.count == entries.room:
            assert self.count is not None
            entries.grow(self.count)
        at = entries.add(type_num, offset, start, size, crc, oid)
        if base_offset:
            base = bisect_left(entries.offsets, base_offset, 0, at)
            if entries.offsets[base] != base_offset:
                raise PackDamaged(f"the delta base offset of the entry at {offset} does not start an entry")
            entries.bases[at] = base
        elif base_oid:
            entries.ref_deltas.setdefault(base_oid, []).append(at)


def _inflate_whole(
    view: memoryview, start: int, size: int, offset: int, stream_min: int
) -> tuple[bytes, int] | None:
    """Inflate the entry at `offset` whose compressed content begins at `start`; returns the content and where
    it stops, or None where it is not all here. Raises PackDamaged."""
    # Deflate hardly enlarges anything; a slice keeps the copy of the unused rest small.
    guess = start + size + (size >> 10) + 64
    for taken in (view[start:guess], view[start:]) if guess < len(view) else (view[start:],):
        inflater = new_inflater(taken[0], size, offset)
        try:
            content = inflater.decompress(taken, size + 1)
        except INFLATE_ERRORS as error:
            raise PackDamaged(f"the entry at {offset} cannot be inflated") from error
        if inflater.eof:
            break
    if len(content) > size:
        raise PackDamaged(f"the entry at {offset} is larger than it states")
    if not inflater.eof:
        if len(view) - start > 2 * stream_min:
            raise PackDamaged(f"the entry at {offset} does not end")
        return None
    if len(content) != size:
        raise PackDamaged(f"the entry at {offset} is smaller than it states")
    return content, start + len(taken) - len(inflater.unused_data)
