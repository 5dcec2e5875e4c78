"""Reading a pack once, while it arrives.

Each entry is inflated as its bytes come, to find where it ends; what stands alone is hashed at once,
and of what is made from something else is noted from what. Sixty bytes or so are held for each entry,
in files once they are many, and never the content of one that is large.
"""

from __future__ import annotations

import mmap
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import BinaryIO, Protocol

from isal import isal_zlib

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
# Nothing follows the last entry but the pack's checksum.
TRAILER = 20
_PIECE = 1 << 20
# The first byte of a zlib stream with the largest window that there is.
_ZLIB_FIRST_MAX = 0x78
# Columns of more bytes are kept in files, so that the kernel can let go of them.
IN_MEMORY_MAX = 8 << 20
# For so many entries there is room at once; a pack that claims more must first deliver.
_ROOM = 1 << 22


# Its stubs call it an instance.
UNINFLATABLE: type[Exception] = isal_zlib.error  # type: ignore[assignment]


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
    """What is known of each entry of a pack, in the pack's order. Names of deltas come later.

    The columns are memory that forked processes share, or files in `folder` that have no name.
    """

    # Of each column the format of its numbers, as `memoryview` names them, and their bytes.
    _COLUMNS = (
        ("offsets", "Q", 8),
        ("starts", "Q", 8),  # where the compressed bytes begin
        ("sizes", "Q", 8),  # how many they are once inflated
        ("crcs", "I", 4),
        ("bases", "I", 4),  # the entry that each is made from; NONE: it stands alone, or its base is a name
        ("kinds", "B", 1),
        ("done", "B", 1),  # 1: its links were noted
        ("names", "B", 20),
    )
    offsets: memoryview
    starts: memoryview
    sizes: memoryview
    crcs: memoryview
    bases: memoryview
    kinds: memoryview
    done: memoryview
    names: memoryview

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: dict[str, mmap.mmap] = {}
        self._room = 0
        self.count = 0
        self.end = 12
        self.by_name: dict[bytes, list[int]] = {}

    def __len__(self) -> int:
        return self.count

    def grow(self, claimed: int) -> None:
        """Make room for `claimed` entries, or for some more of them.

        Processes that were forked before do not share what comes.
        """
        room = min(max(claimed, 1), max(_ROOM, 2 * self._room))
        for name, code, width in self._COLUMNS:
            old = self._maps.get(name)
            new = self._map(room * width)
            if old is not None:
                getattr(self, name).release()
                new[: self.count * width] = old[: self.count * width]
                old.close()
            self._maps[name] = new
            setattr(self, name, memoryview(new).cast(code))  # type: ignore[call-overload]
        self._room = room

    def _map(self, size: int) -> mmap.mmap:
        if size <= IN_MEMORY_MAX:
            return mmap.mmap(-1, size)
        with tempfile.TemporaryFile(prefix="tmp_pack_", dir=self._folder) as stream:
            stream.truncate(size)
            return mmap.mmap(stream.fileno(), size)

    def close(self) -> None:
        """Let go of the columns."""
        for name, column in self._maps.items():
            getattr(self, name).release()
            column.close()
        self._maps.clear()

    def name(self, at: int) -> bytes:
        """The name of an entry, twenty bytes."""
        return bytes(self.names[20 * at : 20 * at + 20])

    def add(self, kind: int, offset: int, start: int, size: int, crc: int, name: bytes) -> int:
        """One more entry; returns its place."""
        at = self.count
        if at == self._room:
            self.grow(2 * self._room + 1)
        self.kinds[at] = kind
        self.offsets[at] = offset
        self.starts[at] = start
        self.sizes[at] = size
        self.crcs[at] = crc
        self.bases[at] = NONE
        self.names[20 * at : 20 * at + 20] = name
        self.count = at + 1
        return at

    @property
    def room(self) -> int:
        """For how many entries there is room."""
        return self._room

    def stop_of(self, at: int) -> int:
        """Where an entry's bytes end."""
        return self.offsets[at + 1] if at + 1 < self.count else self.end


class _Large:
    """An entry that is inflated as its bytes come."""

    def __init__(self, kind: int, size: int, offset: int, start: int, base: tuple[int, bytes]) -> None:
        self.kind, self.size, self.offset, self.start, self.base = kind, size, offset, start, base
        self.inflater: _Inflater = zlib.decompressobj()
        self.done = 0
        self.crc = 0
        self.digest = sha1(usedforsecurity=False)
        if kind in WORDS:
            self.digest.update(b"%s %d\0" % (WORDS[kind], size))

    def feed(self, data: bytes) -> None:
        for piece in inflated(self.inflater, data):
            self.done += len(piece)
            if self.done > self.size:
                raise PackDamaged(f"the object at {self.offset} is larger than it says")
            self.digest.update(piece)


def inflated(inflater: _Inflater, data: bytes) -> Iterator[bytes]:
    """What `data` holds, in bounded pieces. Raises zlib.error."""
    while data and not inflater.eof:
        yield inflater.decompress(data, _PIECE)
        data = inflater.unconsumed_tail
    while not inflater.eof and (piece := inflater.decompress(b"", _PIECE)):
        yield piece


class PackScan:
    """Takes the bytes of a pack, in pieces of any size, and writes them to `stream`.

    What it must keep in files goes to `folder`. Raises PackDamaged as soon as something is wrong.
    After `finish`, `entries` is complete.
    """

    def __init__(self, stream: BinaryIO, folder: Path) -> None:
        self.entries = Entries(folder)
        self.received = 0
        self._stream = stream
        self._buffer = bytearray()
        self._at = 0  # where in the pack the buffer begins
        self._look_from = _GATHERED  # so much in the buffer is worth another look
        self._count: int | None = None
        self._digest = sha1(usedforsecurity=False)
        self._large: _Large | None = None

    def close(self) -> None:
        """Let go of what is known of the entries."""
        self.entries.close()

    def write(self, data: bytes) -> int:
        """Take the next bytes."""
        self._stream.write(data)
        self.received += len(data)
        self._buffer += data
        if len(self._buffer) >= self._look_from:
            self._scan(is_last=False)
            # What is left was looked at in vain: not again for every few bytes more.
            self._look_from = len(self._buffer) + _GATHERED
        return len(data)

    def finish(self) -> bytes:
        """The end has come; returns the pack's checksum."""
        self._scan(is_last=True)
        if self._count is None or self._large is not None or len(self.entries) < self._count:
            raise PackDamaged(f"it ends after {len(self.entries)} of {self._count or 'its'} objects")
        trailer = bytes(self._buffer)
        if len(trailer) != TRAILER:
            text = "something follows its end" if len(trailer) > TRAILER else "its checksum is cut short"
            raise PackDamaged(text)
        if trailer != self._digest.digest():
            raise PackDamaged("its bytes do not match its checksum")
        self._buffer.clear()
        return trailer

    def _scan(self, *, is_last: bool) -> None:
        data, at = bytes(self._buffer), 0
        if self._count is None:
            if len(data) < 12:
                return
            self._begin(data)
            at = 12
        assert self._count is not None
        entries = self.entries
        while entries.count < self._count:
            before = at
            if self._large is not None:
                at = self._go_on(self._large, data, at)
            else:
                at = self._entries(data, at, is_last=is_last)
            if at == before:
                break
        if self._large is None and entries.count == self._count and len(data) - at > TRAILER:
            raise PackDamaged("something follows its end")
        self._digest.update(memoryview(data)[:at])
        self._at += at
        entries.end = self._at
        del self._buffer[:at]

    def _begin(self, data: bytes) -> None:
        version, count = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
        if data[:4] != b"PACK" or version not in (2, 3):
            raise PackDamaged("it is not a pack of version 2 or 3")
        self._count = count
        self.entries.grow(count)

    def _entries(self, data: bytes, at: int, *, is_last: bool) -> int:
        """Take the entries from `at` on that are here as a whole, up to a large one; returns where
        the first begins that is not."""
        assert self._count is not None
        entries, claimed, view = self.entries, self._count, memoryview(data)
        begin_of_data, end_of_data = self._at, len(data)
        new, crc32, words = isal_zlib.decompressobj, isal_zlib.crc32, WORDS
        nameless = bytes(20)
        last = end_of_data if is_last else end_of_data - _HEADER_MAX - TRAILER
        while entries.count < claimed and at < last:
            offset = begin_of_data + at
            try:
                kind, size, begin = entry_header(data, at, offset)
                back, base = 0, b""
                if kind == OFFSET_DELTA:
                    back, begin = distance(data, begin, offset)
                elif kind == NAME_DELTA:
                    base, begin = data[begin : begin + 20], begin + 20
                if data[begin] > _ZLIB_FIRST_MAX:  # ISA-L would take it, C git does not
                    raise PackDamaged(f"the object at {offset} cannot be inflated")
            except IndexError:
                break  # the end of the data, in the middle of a header
            if size > WHOLE_MAX:
                self._large = _Large(kind, size, offset, begin_of_data + begin, (back, base))
                self._large.crc = crc32(view[at:begin])
                return begin
            # Deflate makes nothing much larger than it was; a slice keeps the copy of the rest small.
            stop = begin + size + (size >> 10) + 64
            taken = view[begin:stop]
            inflater = new()
            try:
                content = inflater.decompress(taken, size + 1)
                if not inflater.eof and stop < end_of_data:
                    taken, inflater = view[begin:], new()
                    content = inflater.decompress(taken, size + 1)
            except UNINFLATABLE as error:
                raise PackDamaged(f"the object at {offset} cannot be inflated") from error
            if len(content) > size:
                raise PackDamaged(f"the object at {offset} is larger than it says")
            if not inflater.eof:
                if end_of_data - begin > 2 * WHOLE_MAX:
                    raise PackDamaged(f"the object at {offset} does not end")
                break
            if len(content) != size:
                raise PackDamaged(f"the object at {offset} is smaller than it says")
            end = begin + len(taken) - len(inflater.unused_data)
            if kind in words:
                digest = sha1(b"%s %d\0" % (words[kind], size), usedforsecurity=False)
                digest.update(content)
                name = digest.digest()
            else:
                name = nameless
            self._add(kind, offset, begin_of_data + begin, size, crc32(view[at:end]), name, back, base)
            at = end
        return at

    def _go_on(self, large: _Large, data: bytes, at: int) -> int:
        """Take what is here of a large entry; returns where it, or what is here of it, ends."""
        while piece := data[at : at + _PIECE]:
            try:
                large.feed(piece)
            except zlib.error as error:
                raise PackDamaged(f"the object at {large.offset} cannot be inflated") from error
            used = len(piece) - len(large.inflater.unused_data)
            large.crc = zlib.crc32(piece[:used], large.crc)
            at += used
            if large.inflater.eof:
                break
        else:
            return at
        if large.done != large.size:
            raise PackDamaged(f"the object at {large.offset} is smaller than it says")
        name = large.digest.digest() if large.kind in WORDS else bytes(20)
        self._add(large.kind, large.offset, large.start, large.size, large.crc, name, *large.base)
        self._large = None
        return at

    def _add(
        self, kind: int, offset: int, start: int, size: int, crc: int, name: bytes, back: int, base: bytes
    ) -> None:
        entries = self.entries
        if entries.count == entries.room:
            assert self._count is not None
            entries.grow(self._count)
        at = entries.add(kind, offset, start, size, crc, name)
        if kind == OFFSET_DELTA:
            place = bisect_left(entries.offsets, offset - back, 0, at)
            if entries.offsets[place] != offset - back:
                raise PackDamaged(f"the delta at {offset} is made from what is no object")
            entries.bases[at] = place
        elif kind == NAME_DELTA:
            entries.by_name.setdefault(base, []).append(at)


def entry_header(data: bytes, at: int, offset: int) -> tuple[int, int, int]:
    """Kind and size of the entry whose header is at `at`, and where what follows begins.

    Raises PackDamaged, and IndexError where `data` ends too soon.
    """
    byte = data[at]
    at += 1
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if size > SIZE_MAX or shift > 70:
            raise PackDamaged(f"the object at {offset} claims an absurd size")
    if kind not in WORDS and kind != OFFSET_DELTA and kind != NAME_DELTA:
        raise PackDamaged(f"the object at {offset} is of no known kind ({kind})")
    return kind, size, at


def distance(data: bytes, at: int, offset: int) -> tuple[int, int]:
    """How far before the delta at `offset` its base begins, and where what follows begins.

    Raises PackDamaged, and IndexError where `data` ends too soon.
    """
    byte = data[at]
    at += 1
    back = byte & 0x7F
    while byte & 0x80:
        byte = data[at]
        at += 1
        back = (back + 1 << 7) | (byte & 0x7F)
        if back > offset:
            break
    if not 0 < back <= offset - 12:
        raise PackDamaged(f"the delta at {offset} is made from something outside of the pack")
    return back, at
