"""Stored files: each hashed again, and each that a document points to there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mirror.model import Finding
from mirror.store.layout import FILES, lfs_object
from mirror.store.reader import RepositoryFolder, StoreDamaged, WorkspaceFolder
from mirror.verify.snapshots import Checked

_CHUNK = 1 << 20
# No name and no time: equal bytes give equal files.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_TRAILER = 8


@dataclass
class FilesChecked:
    """How many files were read, and what is wrong."""

    count: int = 0
    findings: list[Finding] = field(default_factory=list)


def check_files(folder: RepositoryFolder | WorkspaceFolder, checked: Checked) -> FilesChecked:
    """Re-hash every stored file and LFS object of a folder. Never raises for damage."""
    result = FilesChecked()
    name = folder.full_name

    def note(damage: StoreDamaged) -> None:
        result.findings.append(Finding(damage.file, damage.problem, name, severity="warning"))

    there: set[str] = set()
    for stored in folder.files(note):
        result.count += 1
        there.add(stored.sha256)
        wanted = checked.sizes.get(stored.sha256)
        problem = _fault(stored.path, stored.sha256, wanted, compressed=stored.compressed)
        if problem is not None:
            snapshots = tuple(sorted(set(checked.pointers.get(stored.sha256, ()))))
            result.findings.append(Finding(stored.file, problem, name, stored.sha256, snapshots))
    try:
        dropped = folder.dropped()
    except StoreDamaged as damage:
        note(damage)
        dropped = {}
    for sha256 in sorted(checked.pointers.keys() - there - dropped.keys()):
        text, place = "a file that a document points to is missing", f"{FILES}/{sha256[:2]}/{sha256}"
        _missing(folder, sha256, text, place, checked.pointers, result)
    _check_lfs(folder, checked, result)
    return result


def _check_lfs(folder: RepositoryFolder | WorkspaceFolder, checked: Checked, result: FilesChecked) -> None:
    there: set[str] = set()
    for path in folder.lfs_objects():
        result.count += 1
        there.add(path.name)
        problem = _fault(path, path.name, None, compressed=False)
        if problem is not None:
            snapshots = tuple(sorted(set(checked.lfs.get(path.name, ()))))
            file = folder.relative(path)
            result.findings.append(Finding(file, problem, folder.full_name, path.name, snapshots))
    for sha256 in sorted(checked.lfs.keys() - there):
        text = "an LFS object that a snapshot lists as held is missing"
        _missing(folder, sha256, text, lfs_object(sha256), checked.lfs, result)


def _missing(
    folder: RepositoryFolder | WorkspaceFolder,
    sha256: str,
    text: str,
    place: str,
    users: Mapping[str, tuple[str, ...]],
    result: FilesChecked,
) -> None:
    snapshots = tuple(sorted(set(users[sha256])))
    result.findings.append(Finding(folder.relative(place), text, folder.full_name, sha256, snapshots))


def _fault(path: Path, sha256: str, size: int | None, *, compressed: bool) -> str | None:
    """Why a file is not the one of this sha256 (and, where told, size), or None."""
    digest, read = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            for chunk in inflated(stream) if compressed else iter(lambda: stream.read(_CHUNK), b""):
                digest.update(chunk)
                read += len(chunk)
    except (OSError, ValueError, zlib.error) as error:
        return f"cannot be read: {error}"
    if digest.hexdigest() != sha256:
        return "its content has another sha256"
    return "its size is not what the document says" if size not in (None, read) else None


def inflated(stream: BinaryIO) -> Iterator[bytes]:
    """The plain bytes of a gzip file of ours, every compressed byte accounted for.

    Raises ValueError (or zlib.error) where a byte is not as it was written: the header is always the
    same, nothing follows the end, and the unused bits of the last byte are zero.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if not stream.read(len(_HEADER)).startswith(_HEADER):
        raise ValueError("its first bytes are not those of a file of this store")
    left = size - len(_HEADER) - _TRAILER - 1  # the last byte of the compressed data stands apart
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
        # Without its highest bit the byte means something else, unless the bit was never used.
        lower = bytes([last[0] & ~(1 << (last[0].bit_length() - 1))])
        with contextlib.suppress(zlib.error):
            if before.decompress(lower) == plain and before.eof:
                raise ValueError("unused bits of its last byte are set")


def _pieces(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """What `data` inflates to, in pieces: a small file may hold very much."""
    while data:
        plain = inflater.decompress(data, _CHUNK)
        data = inflater.unconsumed_tail
        if inflater.unused_data:
            raise ValueError("it goes on after its end")
        if plain:
            yield plain
