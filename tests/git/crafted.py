"""Packs made byte by byte, and what C git does with them."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mirror.git.bare import create
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from mirror.git.pack.receiver import PackReceiver
from mirror.git.refs import closed_after, open_repository
from tests.git.backend import git

COMMIT, TREE, BLOB, TAG, OFFSET_DELTA, NAME_DELTA = 1, 2, 3, 4, 6, 7
WORDS = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}


def name_of(kind: int, data: bytes) -> bytes:
    """The id of an object, as twenty bytes."""
    return hashlib.sha1(b"%s %d\0" % (WORDS[kind], len(data)) + data).digest()


def header(kind: int, size: int) -> bytes:
    """The header of an entry."""
    out, size, byte = bytearray(), size >> 4, kind << 4 | size & 15
    while size:
        out.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    return bytes([*out, byte])


def number(value: int) -> bytes:
    """A size as deltas encode it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def back(distance: int) -> bytes:
    """The distance from a delta back to its base."""
    out = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        out.insert(0, distance & 0x7F | 0x80)
    return bytes(out)


def copy(place: int, size: int) -> bytes:
    """Delta instructions that copy `size` bytes of the base from offset `place`."""
    out = b""
    while size:
        part = min(size, 0xFFFFFF)
        code, operands = 0x80, b""
        for bit, byte in enumerate(place.to_bytes(4, "little") + part.to_bytes(3, "little")):
            if byte:
                code |= 1 << bit
                operands += bytes([byte])
        if part == 0x10000:
            code, operands = code & 0x8F, operands[:-1]
        out += bytes([code]) + operands
        place, size = place + part, size - part
    return out


def insert(data: bytes) -> bytes:
    """Delta instructions that insert `data`."""
    return b"".join(
        bytes([len(part)]) + part for part in (data[at : at + 127] for at in range(0, len(data), 127))
    )


def delta(base: int, result: int, *instructions: bytes) -> bytes:
    """A delta between objects of these sizes."""
    return number(base) + number(result) + b"".join(instructions)


class Crafted:
    """A pack, entry by entry. Each method that adds an entry returns its offset."""

    def __init__(self) -> None:
        self.data = bytearray(b"PACK\0\0\0\2\0\0\0\0")
        self.count = 0

    def raw(self, begin: bytes, content: bytes, level: int = -1) -> int:
        """Add an entry with this header `begin` and deflated data."""
        return self.stream(begin, zlib.compress(content, level))

    def stream(self, begin: bytes, deflated: bytes) -> int:
        """Add these bytes as an entry."""
        at = len(self.data)
        self.data += begin + deflated
        self.count += 1
        return at

    def whole(self, kind: int, content: bytes) -> int:
        """Add an undeltified object."""
        return self.raw(header(kind, len(content)), content)

    def offset_delta(self, base: int, content: bytes) -> int:
        """Add a delta against the entry at the offset `base`."""
        return self.raw(header(OFFSET_DELTA, len(content)) + back(len(self.data) - base), content)

    def name_delta(self, base: bytes, content: bytes) -> int:
        """Add a delta against the object `base`."""
        return self.raw(header(NAME_DELTA, len(content)) + base, content)

    def done(self, *, count: int | None = None, after: bytes = b"") -> bytes:
        """The bytes of the pack, whose header says that it has `count` entries."""
        self.data[8:12] = struct.pack(">L", self.count if count is None else count)
        return bytes(self.data) + hashlib.sha1(self.data).digest() + after


def in_pieces(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, and the rest in one piece."""
    at = 0
    for size in sizes:
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size
    if at < len(data):
        yield data[at:]


def receive(
    path: Path,
    data: bytes,
    sizes: Sequence[int] = (),
    *,
    processes: int = 1,
    limits: PackLimits = DEFAULT_LIMITS,
) -> tuple[int, set[bytes]]:
    """Give `data` to the mirror at `path` as a server would; returns the number of objects received, and the
    links found."""
    create(path)
    with closed_after(open_repository(path)) as repository, PackReceiver(path / "objects", limits) as pack:
        for piece in in_pieces(data, sizes):
            pack.write(piece)
        count = pack.publish(repository.object_store, processes=processes, progress=lambda _: None)
        found = b"".join(pack.links())
    return count, {found[at : at + 20] for at in range(0, len(found), 20)}


def files(path: Path) -> dict[str, bytes]:
    """All files below `path`."""
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def true_links(path: Path) -> set[bytes]:
    """Every link in the objects of the repository at `path`, as C git reads them."""
    links = set()
    listed = git("cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)", cwd=path)
    for kind, name in (line.split() for line in listed.splitlines()):
        if kind == "tree":
            rows = git("ls-tree", "-z", name, cwd=path).split("\0")
            links |= {row.split("\t")[0].split()[2] for row in rows if row and " commit " not in row[:15]}
        elif kind in ("commit", "tag"):
            head = git("cat-file", kind, name, cwd=path).split("\n\n")[0].split("\n")
            links |= {row.split()[1] for row in head if row.startswith(("tree ", "parent ", "object "))}
    return {bytes.fromhex(link) for link in links}


def is_refused_by_git(path: Path, data: bytes) -> bool:
    """Whether `git index-pack` refuses a pack."""
    with contextlib.suppress(AssertionError):
        git("init", "-q", "--bare", str(path))
        git("index-pack", "--stdin", cwd=path, stdin=data)
        return False
    return True
