"""Reading a pack once, while it arrives.

Each entry is inflated as its bytes come, to find where it ends; what stands alone is hashed at once,
and of what is made from something else is noted from what. Some fifty bytes are held for each entry,
and never the content of one that is large.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from mirror.git.failures import GitFailed

COMMIT, TREE, BLOB, TAG, OFFSET_DELTA, NAME_DELTA = 1, 2, 3, 4, 6, 7
WORDS = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
NONE = 0xFFFFFFFF
# No object of a repository is larger: what claims to be is an attack on memory or disk.
SIZE_MAX = 1 << 40
# What is larger is inflated as it comes; smaller entries wait until they are here as a whole.
WHOLE_MAX = 1 << 20
# So many bytes are gathered before they are looked at.
_GATHERED = 1 << 18
# The longest header: ten bytes for a size, twenty for the name of a base.
_HEADER_MAX = 32
_PIECE = 1 << 20


class _Inflater(Protocol):
    """What zlib's decompressor objects do."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


class PackDamaged(GitFailed):
    """The server's pack is not what its format says; nothing was published."""

    def __init__(self, text: str) -> None:
        super().__init__(f"the server's pack is damaged: {text}")


class Entries:
    """What is known of each entry of a pack, in the pack's order. Names of deltas come later."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        # Where the compressed bytes begin, and how many they are once inflated.
        self.starts = array("Q")
        self.sizes = array("Q")
        self.crcs = array("I")
        self.kinds = bytearray()
        self.names = bytearray()
        # The entry that each is made from; NONE where it stands alone or its base has only a name.
        self.bases = array("I")
        self.by_name: dict[bytes, list[int]] = {}
        self.end = 12

    def __len__(self) -> int:
        return len(self.offsets)

    def name(self, at: int) -> bytes:
        """The name of an entry, twenty bytes."""
        return bytes(self.names[20 * at : 20 * at + 20])

    def add(self, kind: int, offset: int, start: int, size: int, crc: int, name: bytes) -> None:
        """One more entry."""
        self.kinds.append(kind)
        self.offsets.append(offset)
        self.starts.append(start)
        self.sizes.append(size)
        self.crcs.append(crc)
        self.names += name
        self.bases.append(NONE)

    def stop_of(self, at: int) -> int:
        """Where an entry's bytes end."""
        return self.offsets[at + 1] if at + 1 < len(self.offsets) else self.end


class _Large:
    """An entry that is inflated as its bytes come."""

    def __init__(self, header: _Header, offset: int) -> None:
        self.header = header
        self.offset = offset
        self.inflater: _Inflater = zlib.decompressobj()
        self.done = 0
        self.crc = 0
        self.digest = hashlib.sha1(usedforsecurity=False)
        if header.kind in WORDS:
            self.digest.update(b"%s %d\0" % (WORDS[header.kind], header.size))

    def feed(self, data: bytes) -> None:
        for piece in inflated(self.inflater, data):
            self.done += len(piece)
            if self.done > self.header.size:
                raise PackDamaged(f"the object at {self.offset} is larger than it says")
            self.digest.update(piece)


class _Header:
    """The beginning of an entry: what it is, and how many bytes tell that."""

    __slots__ = ("back", "base", "kind", "length", "size")

    def __init__(self, kind: int, size: int, length: int, back: int, base: bytes) -> None:
        self.kind, self.size, self.length, self.back, self.base = kind, size, length, back, base


def inflated(inflater: _Inflater, data: bytes) -> Iterator[bytes]:
    """What `data` holds, in bounded pieces. Raises zlib.error."""
    while data and not inflater.eof:
        yield inflater.decompress(data, _PIECE)
        data = inflater.unconsumed_tail
    while not inflater.eof and (piece := inflater.decompress(b"", _PIECE)):
        yield piece


def parse_header(data: bytes, at: int, offset: int) -> _Header:
    """The entry header at `at`. Raises PackDamaged, and IndexError where `data` ends too soon."""
    begin, byte = at, data[at]
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        at += 1
        byte = data[at]
        size |= (byte & 0x7F) << shift
        shift += 7
        if size > SIZE_MAX or shift > 70:
            raise PackDamaged(f"the object at {offset} claims an absurd size")
    at += 1
    back, base = 0, b""
    if kind == OFFSET_DELTA:
        byte = data[at]
        back = byte & 0x7F
        while byte & 0x80:
            at += 1
            byte = data[at]
            back = (back + 1 << 7) | (byte & 0x7F)
            if back > offset:
                break
        at += 1
        if not 0 < back <= offset - 12:
            raise PackDamaged(f"the delta at {offset} is made from something outside of the pack")
    elif kind == NAME_DELTA:
        base = data[at : at + 20]
        if len(base) < 20:
            raise IndexError
        at += 20
    elif kind not in WORDS:
        raise PackDamaged(f"the object at {offset} is of no known kind ({kind})")
    return _Header(kind, size, at - begin, back, base)


class PackScan:
    """Takes the bytes of a pack, in pieces of any size, and writes them to `stream`.

    Raises PackDamaged as soon as something is wrong. After `finish`, `entries` is complete.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.entries = Entries()
        self.received = 0
        self._stream = stream
        self._buffer = bytearray()
        self._at = 0  # where in the pack the buffer begins
        self._count: int | None = None
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._large: _Large | None = None

    def write(self, data: bytes) -> int:
        """Take the next bytes."""
        self._stream.write(data)
        self.received += len(data)
        self._buffer += data
        if len(self._buffer) >= _GATHERED:
            self._scan(is_last=False)
        return len(data)

    def finish(self) -> bytes:
        """The end has come; returns the pack's checksum."""
        self._scan(is_last=True)
        if self._count is None or self._large is not None or len(self.entries) < self._count:
            raise PackDamaged(f"it ends after {len(self.entries)} of {self._count or 'its'} objects")
        trailer = bytes(self._buffer)
        if len(trailer) != 20:
            text = "something follows its end" if len(trailer) > 20 else "its checksum is cut short"
            raise PackDamaged(text)
        if trailer != self._digest.digest():
            raise PackDamaged("its bytes do not match its checksum")
        self._buffer.clear()
        return trailer

    @property
    def count(self) -> int:
        """How many objects it says it has; 0 where it has not said yet."""
        return self._count or 0

    def _scan(self, *, is_last: bool) -> None:
        data, at = bytes(self._buffer), 0
        if self._count is None:
            if len(data) < 12:
                return
            self._begin(data)
            at = 12
        assert self._count is not None
        entries, offset = self.entries, self._at
        try:
            while self._large is not None or len(entries) < self._count:
                if self._large is not None:
                    end = self._go_on(self._large, data, at)
                else:
                    if len(data) - at < _HEADER_MAX + 20 and not is_last:
                        break
                    end = self._entry(data, at, offset + at)
                if end is None:
                    break
                at = end
        except zlib.error as error:
            raise PackDamaged(f"the object at {offset + at} cannot be inflated") from error
        except IndexError:
            at = min(at, len(data))  # only at the end: the header is cut
        if self._large is None and len(entries) == self._count and len(data) - at > 20:
            raise PackDamaged("something follows its end")
        self._digest.update(memoryview(data)[:at])
        self._at = offset + at
        entries.end = self._at
        del self._buffer[:at]

    def _begin(self, data: bytes) -> None:
        version, count = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
        if data[:4] != b"PACK" or version not in (2, 3):
            raise PackDamaged("it is not a pack of version 2 or 3")
        self._count = count

    def _entry(self, data: bytes, at: int, offset: int) -> int | None:
        """Take the entry at `at`; returns where it ends, None where its end is not here yet."""
        header = parse_header(data, at, offset)
        if header.size > WHOLE_MAX:
            self._large = _Large(header, offset)
            self._large.crc = zlib.crc32(data[at : at + header.length])
            return at + header.length
        begin = at + header.length
        # Deflate makes nothing much larger than it was; a slice keeps the copy of the rest small.
        taken = data[begin : begin + header.size + (header.size >> 10) + 64]
        inflater = zlib.decompressobj()
        content = inflater.decompress(taken, header.size + 1)
        if not inflater.eof:
            inflater = zlib.decompressobj()
            taken = data[begin:]
            content = inflater.decompress(taken, header.size + 1)
        if len(content) > header.size:
            raise PackDamaged(f"the object at {offset} is larger than it says")
        if not inflater.eof:
            if len(taken) > 2 * WHOLE_MAX:
                raise PackDamaged(f"the object at {offset} does not end")
            return None
        if len(content) != header.size:
            raise PackDamaged(f"the object at {offset} is smaller than it says")
        end = begin + len(taken) - len(inflater.unused_data)
        if header.kind in WORDS:
            name = hashlib.sha1(b"%s %d\0" % (WORDS[header.kind], header.size), usedforsecurity=False)
            name.update(content)
            digest = name.digest()
        else:
            digest = bytes(20)
        self._add(header, offset, zlib.crc32(memoryview(data)[at:end]), digest)
        return end

    def _go_on(self, large: _Large, data: bytes, at: int) -> int | None:
        """Take what is here of a large entry; returns where it, or what is here of it, ends."""
        piece = data[at : at + _PIECE]
        if not piece:
            return None
        large.feed(piece)
        if not large.inflater.eof:
            large.crc = zlib.crc32(piece, large.crc)
            return at + len(piece)
        used = len(piece) - len(large.inflater.unused_data)
        large.crc = zlib.crc32(piece[:used], large.crc)
        if large.done != large.header.size:
            raise PackDamaged(f"the object at {large.offset} is smaller than it says")
        digest = large.digest.digest() if large.header.kind in WORDS else bytes(20)
        self._add(large.header, large.offset, large.crc, digest)
        self._large = None
        return at + used

    def _add(self, header: _Header, offset: int, crc: int, name: bytes) -> None:
        entries = self.entries
        at = len(entries)
        entries.add(header.kind, offset, offset + header.length, header.size, crc, name)
        if header.kind == OFFSET_DELTA:
            base = bisect_left(entries.offsets, offset - header.back)
            if entries.offsets[base] != offset - header.back:
                raise PackDamaged(f"the delta at {offset} is made from what is no object")
            entries.bases[at] = base
        elif header.kind == NAME_DELTA:
            entries.by_name.setdefault(header.base, []).append(at)
