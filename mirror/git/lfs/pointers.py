"""Git LFS pointers: small blobs that stand for a large object, and finding them in a pack."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from mirror.git.objects import BLOB
from mirror.git.pack.entries import NONE
from mirror.git.pack.format import PackDamaged
from mirror.git.pack.index import PackIndex
from mirror.git.pack.reader import PackFile

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
# Contents of so many bytes are kept while chains of deltas are resolved.
_CACHE_BYTES = 16 << 20


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
    with closing(PackIndex(pack.with_suffix(".idx"))) as index, closing(PackFile(pack, index)) as file:
        try:
            return list(_Scan(file).pointers())
        except PackDamaged as error:
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
    """Finds the pointers of a pack, entry by entry in its own order."""

    def __init__(self, file: PackFile) -> None:
        self._file = file
        self._cache: dict[int, bytes] = {}
        self._cached = 0

    def pointers(self) -> Iterator[Pointer]:
        """Every pointer in the pack. Raises PackDamaged."""
        file, types = self._file, bytearray(len(self._file))
        for at in range(len(file)):
            type_num, size, base, _ = file.header(at)
            if base != NONE:  # most bases come before what depends on them
                type_num = types[base] or self._type(base, types)
            types[at] = type_num
            if type_num != BLOB:
                continue
            if base != NONE:
                size = file.result_size(at)
            if _POINTER_MIN <= size < POINTER_MAX and (found := parse_pointer(self._content(at))):
                yield Pointer(file.oid(at).hex(), *found)

    def _type(self, at: int, types: bytearray) -> int:
        """The type of the object that an entry holds or makes; `types` are those known so far."""
        chain = []
        while not types[at]:
            type_num, _, base, _ = self._file.header(at)
            if base == NONE:
                types[at] = type_num
                break
            chain.append(at)
            if len(chain) > len(types):
                raise PackDamaged("deltas depend on each other in a circle")
            at = base
        for one in chain:
            types[one] = types[at]
        return types[at]

    def _content(self, at: int) -> bytes:
        """The content of the object that an entry holds or makes, kept for the deltas that depend on it."""
        chain = []
        while (content := self._cache.get(at)) is None:
            chain.append(at)
            if (base := self._file.locate(at)[1]) == NONE:
                break
            at = base
        for one in reversed(chain):
            data = self._file.inflate(one)
            made = data if content is None else self._file.apply(content, data, one)
            assert isinstance(made, bytes)
            content = made
            self._keep(one, content)
        assert content is not None
        return content

    def _keep(self, at: int, content: bytes) -> None:
        if self._cached > _CACHE_BYTES:
            self._cache.clear()
            self._cached = 0
        self._cache[at] = content
        self._cached += len(content)
