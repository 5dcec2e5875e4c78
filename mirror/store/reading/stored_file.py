"""Stored files and LFS objects, and the only way to read one: every byte is checked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from mirror.store.format.failures import StoreDamaged

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 20
# The gzip header without a name and a time, so that equal bytes give equal files.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_TRAILER = 8


@dataclass(frozen=True)
class StoredFile:
    """A file named by the sha256 of its plain bytes: in `files/`, or an LFS object. `file` is its path
    relative to the store."""

    sha256: str
    file: str
    path: Path
    compressed: bool = False

    def open(self) -> BinaryIO:
        """A stream of the plain bytes; the caller closes it.

        Reading raises StoreDamaged where a byte has changed, at the end at the latest: trust nothing before
        the end is read. Raises FileNotFoundError.
        """
        stream = self.path.open("rb")
        return cast("BinaryIO", io.BufferedReader(_Checked(self.file, self.sha256, stream, self.compressed)))


class _Checked(io.RawIOBase):
    """The plain bytes of `stream`, hashed while they are read."""

    def __init__(self, file: str, sha256: str, stream: BinaryIO, compressed: bool) -> None:
        self._file = file
        self._sha256 = sha256
        self._stream = stream
        self._pieces = _inflated(stream) if compressed else iter(lambda: stream.read(_CHUNK), b"")
        self._digest = hashlib.sha256()
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As `io.RawIOBase.readinto`. Raises StoreDamaged."""
        while not self._left:
            piece = self._next()
            if piece is None:
                return 0
            self._left = memoryview(piece)
        into = memoryview(buffer).cast("B")
        size = min(len(into), len(self._left))
        into[:size], self._left = self._left[:size], self._left[size:]
        return size

    def _next(self) -> bytes | None:
        """The next piece; None after the last one, if the hash is right."""
        try:
            piece = next(self._pieces, None)
        except OSError as error:
            raise StoreDamaged(self._file, f"cannot be read: {error.strerror or error}") from error
        except (ValueError, zlib.error) as error:
            raise StoreDamaged(self._file, f"cannot be read: {error}") from error
        if piece is not None:
            self._digest.update(piece)
        elif self._digest.hexdigest() != self._sha256:
            raise StoreDamaged(self._file, "its content has another sha256")
        return piece


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    """The plain bytes of a gzip file that FileStore wrote; every compressed byte is checked.

    Raises ValueError or zlib.error where a byte has changed: the header is constant, nothing follows the end,
    and the unused bits of the last byte are zero.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if not stream.read(len(_HEADER)).startswith(_HEADER):
        raise ValueError("its first bytes are not those of a file of this store")
    left = size - len(_HEADER) - _TRAILER - 1  # the last byte of the compressed data is checked apart
    inflater, crc, length = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    while left > 0:
        data = stream.read(min(left, _CHUNK))
        if not data:
            raise ValueError("it ends too early")
        left -= len(data)
        for plain in _pieces(inflater, data):
            crc, length = zlib.crc32(plain, crc), length + len(plain)
            yield plain
    last = stream.read(1)
    if inflater.eof or not last:
        raise ValueError("it goes on after its end, or ends too early")
    before = inflater.copy()
    plain = inflater.decompress(last)
    yield plain
    crc, length = zlib.crc32(plain, crc), length + len(plain)
    if not inflater.eof or stream.read() != struct.pack("<LL", crc, length & 0xFFFFFFFF):
        raise ValueError("its end is not that of a file of this store")
    if last != b"\0":
        # If the byte gives the same result without its highest bit, the bit is an unused one.
        lower = bytes([last[0] & ~(1 << (last[0].bit_length() - 1))])
        with contextlib.suppress(zlib.error):
            if before.decompress(lower) == plain and before.eof:
                raise ValueError("unused bits of its last byte are set")


def _pieces(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """The plain bytes of `data`, in pieces: a small file may inflate to a very large one."""
    while data:
        plain = inflater.decompress(data, _CHUNK)
        data = inflater.unconsumed_tail
        if inflater.unused_data:
            raise ValueError("it goes on after its end")
        if plain:
            yield plain
