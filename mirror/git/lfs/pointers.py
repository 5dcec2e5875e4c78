"""Git LFS pointers: small blobs that stand for a large object, and finding them in a pack."""

from __future__ import annotations

import re
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from mirror.git.pack.format import PackDamaged, applied
from mirror.git.pack.reader import PackIndex, map_file

# git-lfs itself takes nothing longer for a pointer; the shortest is a little over 100 bytes.
POINTER_MAX = 1024
_POINTER_MIN = 100
SIZE_MAX = 1 << 62
# The current name of the format, and two that it had before.
_VERSIONS = (
    "https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2",
)  # fmt: skip
_PREFIX = b"version "
_EXTENSION = re.compile(r"ext-\d-\w+")
_OID = re.compile(r"sha256:([0-9a-f]{64})")
_COMMIT, _TREE, _BLOB, _TAG, _OFFSET_DELTA, _NAME_DELTA = 1, 2, 3, 4, 6, 7
_UNREADABLE = (PackDamaged, zlib.error, struct.error, IndexError, OverflowError)
# Contents of this many bytes are held while chains of deltas are resolved.
_HELD_MAX = 16 << 20
_HEAD = 200


class Pointer(NamedTuple):
    """A pointer: the blob that it is (hexadecimal), and the object that it stands for."""

    blob: str
    oid: str
    size: int


def parse_pointer(data: bytes) -> tuple[str, int] | None:
    """The object's sha256 and size that a blob points to, as git-lfs reads it; None where it is no
    pointer, or says that the object is empty: then git-lfs looks for none."""
    if not data.startswith(_PREFIX) or len(data) >= POINTER_MAX:
        return None
    try:
        lines = [line.rstrip("\r") for line in data.decode("utf-8").strip().split("\n")]
    except UnicodeDecodeError:
        return None
    found: dict[str, str] = {}
    for line in filter(None, lines):
        key, _, value = line.partition(" ")
        if key in found or not (key in ("version", "oid", "size") or _EXTENSION.fullmatch(key)):
            return None
        found[key] = value
    named = [key for key in found if not key.startswith("ext-")]
    oid = _OID.fullmatch(found.get("oid", ""))
    size = found.get("size", "")
    if named != ["version", "oid", "size"] or found["version"] not in _VERSIONS or oid is None:
        return None
    if not (size.isascii() and size.isdigit()) or len(size) > 19 or not 0 < int(size) <= SIZE_MAX:
        return None
    return oid[1], int(size)


def pointers_of_pack(pack: Path) -> list[Pointer]:
    """Every pointer in a pack that has its index beside it. Raises PackDamaged and OSError.

    Only blobs that are small are inflated, and of deltas the first bytes, which tell the size.
    """
    with closing(PackIndex(pack.with_suffix(".idx"))) as index, closing(_Scan(pack, index)) as scan:
        try:
            return list(scan.pointers())
        except _UNREADABLE as error:
            raise PackDamaged(f"{pack.name} cannot be read: {error}") from error


def pointers_of_loose(objects: Path) -> Iterator[Pointer]:
    """Every pointer among the loose objects; a mirror of ours has none unless somebody made them."""
    for path in sorted(objects.glob("[0-9a-f][0-9a-f]/*")):
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(path.read_bytes(), POINTER_MAX + 32)
        except (zlib.error, FileNotFoundError):
            continue
        head, sign, content = data.partition(b"\0")
        if sign and head.startswith(b"blob ") and (found := parse_pointer(content)) is not None:
            yield Pointer(path.parent.name + path.name, *found)


class _Scan:
    """A pack, entry by entry in its own order; an entry is its place in that order."""

    def __init__(self, pack: Path, index: PackIndex) -> None:
        self._index = index
        offsets = index.offsets()
        self._by_name = array("I", sorted(range(len(offsets)), key=offsets.__getitem__))
        self._offsets = array("Q", (offsets[at] for at in self._by_name))
        self._data = map_file(pack)
        self._names: dict[bytes, int] = {}
        self._held: dict[int, bytes] = {}
        self._held_bytes = 0

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()

    def pointers(self) -> Iterator[Pointer]:
        """Every pointer in it."""
        kinds = bytearray(len(self._offsets))
        for at in range(len(self._offsets)):
            kind, size, start = self._header(at)
            if kind in (_OFFSET_DELTA, _NAME_DELTA):
                if self._kind(at, kinds) != _BLOB:
                    continue
                size = self._result_size(self._base(at, kind, start)[1])
            else:
                kinds[at] = kind
                if kind != _BLOB:
                    continue
            if _POINTER_MIN <= size < POINTER_MAX and (found := parse_pointer(self._content(at))):
                yield Pointer(self._index.name(self._by_name[at]).hex(), *found)

    def _kind(self, at: int, kinds: bytearray) -> int:
        """What a chain of deltas makes; a base by offset stands before, one by name anywhere."""
        chain = []
        while not kinds[at]:
            kind, _, start = self._header(at)
            if kind not in (_OFFSET_DELTA, _NAME_DELTA):
                kinds[at] = kind
                break
            chain.append(at)
            if len(chain) > len(kinds):
                raise PackDamaged("deltas are made from each other")
            at = self._base(at, kind, start)[0]
        for one in chain:
            kinds[one] = kinds[at]
        return kinds[at]

    def _header(self, at: int) -> tuple[int, int, int]:
        """The kind and size of an entry, and where what follows begins."""
        data, place = self._data, self._offsets[at]
        byte = data[place]
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 0x80:
            place += 1
            byte = data[place]
            size |= (byte & 0x7F) << shift
            shift += 7
        return kind, size, place + 1

    def _base(self, at: int, kind: int, start: int) -> tuple[int, int]:
        """What a delta is made from, and where its compressed bytes begin."""
        data = self._data
        if kind == _NAME_DELTA:
            if not self._names:
                self._names = {self._index.name(one): at for at, one in enumerate(self._by_name)}
            base = self._names.get(data[start : start + 20])
            begin = start + 20
        else:
            byte = data[start]
            distance = byte & 0x7F
            while byte & 0x80:
                start += 1
                byte = data[start]
                distance = (distance + 1 << 7) | (byte & 0x7F)
            target = self._offsets[at] - distance
            place = bisect_left(self._offsets, target)
            base = place if place < at and self._offsets[place] == target else None
            begin = start + 1
        if base is None or base == at:
            raise PackDamaged("what a delta is made from is not there")
        return base, begin

    def _result_size(self, begin: int) -> int:
        """How long what a delta makes is, by its first bytes."""
        inflater = zlib.decompressobj()
        head = inflater.decompress(self._data[begin : begin + _HEAD], 20)
        while len(head) < 20 and not inflater.eof and begin < len(self._data):
            begin += _HEAD  # the tables of the compression alone can be longer than that
            head += inflater.decompress(self._data[begin : begin + _HEAD], 20)
        numbers, at = [], 0
        for _ in range(2):
            value, shift = 0, 0
            while True:
                byte = head[at]
                at += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            numbers.append(value)
        return numbers[1]

    def _content(self, at: int) -> bytes:
        """The content of an entry."""
        chain: list[tuple[int, int]] = []
        while (data := self._held.get(at)) is None:
            kind, size, start = self._header(at)
            if kind not in (_OFFSET_DELTA, _NAME_DELTA):
                data = self._inflate(at, start, size)
                self._hold(at, data)
                break
            base, begin = self._base(at, kind, start)
            chain.append((at, begin))
            at = base
        for one, begin in reversed(chain):
            data = applied(data, self._inflate(one, begin, self._header(one)[1]))
            self._hold(one, data)
        return data

    def _hold(self, at: int, data: bytes) -> None:
        if self._held_bytes > _HELD_MAX:
            self._held.clear()
            self._held_bytes = 0
        self._held[at] = data
        self._held_bytes += len(data)

    def _inflate(self, at: int, start: int, size: int) -> bytes:
        end = self._offsets[at + 1] if at + 1 < len(self._offsets) else len(self._data) - 20
        data = zlib.decompressobj().decompress(self._data[start:end], size + 1)
        if len(data) != size:
            raise PackDamaged("its bytes do not inflate to the size that it says")
        return data
