"""The pack format (gitformat-pack(5)): the pack's header and trailer, entry headers, compressed content.

Everything that reads or writes packs does so with these functions, so one strictness holds for all: what C
git refuses raises PackDamaged.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from isal import isal_zlib

from mirror.git.failures import GitFailed
from mirror.git.objects import TYPE_NAMES

OFS_DELTA, REF_DELTA = 6, 7
HEADER_BYTES = 12
# Nothing follows the last entry but the pack's SHA-1.
TRAILER_BYTES = 20
# The longest entry header: ten bytes for a size, twenty for the object id of a delta base.
ENTRY_HEADER_MAX = 32
# A stated size above this is an attack on memory or disk: no real object is as large.
OBJECT_BYTES_MAX = 1 << 40
# Files are hashed, and large entries inflated, in pieces of so many bytes.
PIECE_BYTES = 1 << 20
# ISA-L inflates a third faster than zlib above about this size, and takes twice as long for tiny entries.
_ISAL_MIN = 2000
# The first byte of a zlib stream with the largest valid window. ISA-L accepts larger ones, C git does not.
_ZLIB_FIRST_MAX = 0x78

Buffer = bytes | mmap.mmap
# Its stubs call it an instance.
_ISAL_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]
INFLATE_ERRORS = (zlib.error, _ISAL_ERROR)


class PackDamaged(GitFailed):
    """A pack or its index violates the format; the message says where."""


class Inflater(Protocol):
    """A decompressor object of zlib or ISA-L."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int = 0, /) -> bytes: ...


def pack_header(count: int) -> bytes:
    """The header of a pack of `count` entries."""
    return b"PACK" + struct.pack(">LL", 2, count)


def read_pack_header(data: Buffer) -> int:
    """How many entries the pack that begins with `data` states. Raises PackDamaged."""
    if len(data) < HEADER_BYTES or data[:4] != b"PACK" or struct.unpack_from(">L", data, 4)[0] not in (2, 3):
        raise PackDamaged("not a pack of version 2 or 3")
    count: int = struct.unpack_from(">L", data, 8)[0]
    return count


def entry_header(type_num: int, size: int) -> bytes:
    """The header of an undeltified entry; of a delta its first part. `size`: bytes once inflated."""
    first = (type_num << 4) | (size & 0x0F)
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first = size & 0x7F
        size >>= 7
    out.append(first)
    return bytes(out)


def ofs_delta_header(size: int, distance: int) -> bytes:
    """The header of an ofs-delta of `size` bytes whose base begins `distance` bytes before it."""
    out = bytearray([distance & 0x7F])
    while distance := distance >> 7:
        distance -= 1
        out.insert(0, 0x80 | (distance & 0x7F))
    return entry_header(OFS_DELTA, size) + bytes(out)


def read_entry_header(data: Buffer, at: int, offset: int) -> tuple[int, int, int, bytes, int]:
    """Read the header at `at` in `data`, of the entry that begins at `offset` in its pack.

    Returns the type, the size once inflated, the delta base (of an ofs-delta its offset, else 0; of a
    ref-delta its object id, else empty), and where in `data` the compressed content begins. Raises
    PackDamaged, and IndexError where `data` ends too early.
    """
    byte = data[at]
    at += 1
    type_num, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if size > OBJECT_BYTES_MAX or shift > 70:
            raise PackDamaged(f"the entry at {offset} states an impossible size")
    if type_num in TYPE_NAMES:
        return type_num, size, 0, b"", at
    if type_num == OFS_DELTA:
        byte = data[at]
        at += 1
        distance = byte & 0x7F
        while byte & 0x80 and distance <= offset:
            byte = data[at]
            at += 1
            distance = (distance + 1 << 7) | (byte & 0x7F)
        if not 0 < distance <= offset - HEADER_BYTES:
            raise PackDamaged(f"the delta base of the entry at {offset} is outside of the pack")
        return type_num, size, offset - distance, b"", at
    if type_num == REF_DELTA:
        base = data[at : at + 20]
        if len(base) < 20:
            raise IndexError
        return type_num, size, 0, base, at + 20
    raise PackDamaged(f"the entry at {offset} is of unknown type ({type_num})")


def new_inflater(first_byte: int | None, size: int, offset: int) -> Inflater:
    """A decompressor for the entry at `offset`, whose compressed content begins with `first_byte` (None: it
    is empty) and inflates to `size` bytes. Raises PackDamaged."""
    if first_byte is None or first_byte > _ZLIB_FIRST_MAX:
        raise PackDamaged(f"the entry at {offset} cannot be inflated")
    return isal_zlib.decompressobj() if size > _ISAL_MIN else zlib.decompressobj()


def inflate(data: Buffer, start: int, stop: int, size: int, offset: int) -> bytes:
    """The content of the entry at `offset`, whose compressed content is exactly `data[start:stop]`.

    Raises PackDamaged unless it inflates to `size` bytes.
    """
    compressed = data[start:stop]
    inflater = new_inflater(compressed[0] if compressed else None, size, offset)
    try:
        content = inflater.decompress(compressed, size + 1)
    except INFLATE_ERRORS as error:
        raise PackDamaged(f"the entry at {offset} cannot be inflated") from error
    if len(content) != size or not inflater.eof or inflater.unused_data:
        raise PackDamaged(f"the entry at {offset} does not inflate to the size it states")
    return content


def inflate_pieces(data: Buffer, start: int, stop: int, size: int, offset: int) -> Iterator[bytes]:
    """As `inflate`, in pieces of at most PIECE_BYTES. At most `size` bytes and one piece are returned."""
    inflater, left = new_inflater(data[start] if start < stop else None, size, offset), size
    for at in range(start, stop, PIECE_BYTES):
        try:
            for piece in feed(inflater, data[at : min(at + PIECE_BYTES, stop)]):
                left -= len(piece)
                yield piece
        except INFLATE_ERRORS as error:
            raise PackDamaged(f"the entry at {offset} cannot be inflated") from error
        if left < 0 or inflater.eof:
            break
    if left or not inflater.eof:
        raise PackDamaged(f"the entry at {offset} does not inflate to the size it states")


def feed(inflater: Inflater, data: bytes, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """Inflate `data`, the next part of a stream, in pieces of at most `piece_bytes`."""
    while data and not inflater.eof:
        yield inflater.decompress(data, piece_bytes)
        data = inflater.unconsumed_tail
    while not inflater.eof and (piece := inflater.decompress(b"", piece_bytes)):
        yield piece


def map_file(path: Path) -> mmap.mmap:
    """A file, mapped for reading. Raises PackDamaged where it is empty, and OSError."""
    with path.open("rb") as stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file
            raise PackDamaged("the file is empty") from error


def hash_stream(stream: BinaryIO, size: int) -> bytes:
    """The SHA-1 of the next `size` bytes of `stream`."""
    digest = hashlib.sha1(usedforsecurity=False)
    while size > 0 and (chunk := stream.read(min(size, PIECE_BYTES))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()


def checksums(file: Path) -> tuple[bytes, bytes]:
    """The SHA-1 of all but the last 20 bytes of a pack, an index or another file of git's, and those last 20
    bytes, which state it. Raises OSError."""
    with file.open("rb") as stream:
        computed = hash_stream(stream, os.fstat(stream.fileno()).st_size - TRAILER_BYTES)
        return computed, stream.read(TRAILER_BYTES + 1)
