"""Reading a pack from end to end, each entry once, and seeing that every link has its target.

A pack is mapped, never read whole. Deltas are resolved depth first, from their base on, so that each
entry is inflated once; what is held for that is bounded, and what had to be let go is made again.
Some forty bytes are held for each object, and of links only those that were met lately.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import sys
import zlib
from array import array
from binascii import unhexlify
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from zlib import decompressobj

from mirror.git.failures import GitFailed
from mirror.git.objects import COMMIT_LINKS, TAG_LINK
from mirror.git.pack.format import PackDamaged, applied, read_distance, read_header
from mirror.git.pack.links import link_list, links_of_tree
from mirror.git.processes.fork import in_processes

# Contents that are held while deltas are resolved, in bytes.
HELD_MAX = 96 << 20
# A pack of fewer objects is not worth another process.
SHARE_FROM = 10_000
# An object that nothing is made from and that is larger is hashed piece by piece.
PIECEWISE = 16 << 20
_CHUNK = 1 << 20
# Of smaller contents a copy is quicker than a second call to hash them.
_JOINED_MAX = 8192
# So many names are held as they are; of more, those that were linked to lately.
_KNOWN_MAX = 400_000
_COMMIT, _TREE, _BLOB, _TAG, _OFFSET_DELTA, _NAME_DELTA = 1, 2, 3, 4, 6, 7
_NAMES = {_COMMIT: b"commit", _TREE: b"tree", _BLOB: b"blob", _TAG: b"tag"}
_NONE = 0xFFFFFFFF

Found = Callable[[str, str | None], None]


# What a damaged entry may raise on the way.
_UNREADABLE = (PackDamaged, zlib.error, struct.error, IndexError, OverflowError)


def links_of(kind: bytes, data: bytes | mmap.mmap) -> set[bytes]:
    """The names (20 bytes each) of the objects that an object of `kind` needs. Trees must be in memory."""
    if kind == b"tree":
        assert isinstance(data, bytes)
        return links_of_tree(data)
    if kind == b"commit" and (found := COMMIT_LINKS.match(data)):
        parents = found[2].split()[1::2]
        return set(map(unhexlify, (found[1], *parents)))
    if kind == b"tag" and (found := TAG_LINK.match(data)):
        return {unhexlify(found[1])}
    return set()


class Links:
    """Which objects there are, by 8 of their bytes in sorted arrays and the names in the indexes; and
    which are linked to and are not there. `known` are names that are there, or were reported as missing, and
    the empty one, which stands for a submodule: no need to look for them (again)."""

    def __init__(self) -> None:
        self.missing: set[bytes] = set()
        self.known: set[bytes] = {b""}
        self._loose: set[bytes] = set()
        self._indexes: list[tuple[array[int], PackIndex]] = []

    def add_index(self, index: PackIndex) -> None:
        """The objects of a pack are there. Raises PackDamaged."""
        self._indexes.append((index.prefixes(), index))
        if len(self.known) + index.count <= _KNOWN_MAX:
            names = index.names()
            self.known.update([names[at : at + 20] for at in range(0, len(names), 20)])

    def add_loose(self, name: bytes) -> None:
        """A loose object is there."""
        self._loose.add(name)

    def __contains__(self, name: bytes) -> bool:
        if name in self._loose:
            return True
        prefix = int.from_bytes(name[:8], "big")
        for prefixes, index in self._indexes:
            at = bisect_left(prefixes, prefix)
            while at < len(prefixes) and prefixes[at] == prefix:
                if index.name(at) == name:
                    return True
                at += 1
        return False

    def follow(self, kind: bytes, data: bytes) -> None:
        """Look for everything that an object needs."""
        links = link_list(data) if kind == b"tree" else links_of(kind, data)
        if self.known.issuperset(links):
            return
        new = {one for one in links if one not in self.known}
        if len(self.known) > _KNOWN_MAX:
            self.known = {b""}
        self.missing.update(one for one in new if one not in self)
        self.known |= new


class PackIndex:
    """A pack's index of version 2, mapped, until it is closed.

    Raises PackDamaged where it is not one, and OSError.
    """

    def __init__(self, path: Path) -> None:
        self._data = map_file(path)
        data = self._data
        if len(data) < 1072 or data[:8] != b"\xfftOc\x00\x00\x00\x02":
            raise PackDamaged("it is no index of version 2")
        self.count: int = struct.unpack_from(">L", data, 8 + 255 * 4)[0]
        self._names = 8 + 256 * 4
        self._crcs = self._names + 20 * self.count
        self._offsets = self._crcs + 4 * self.count
        self._large = self._offsets + 4 * self.count
        if len(data) < self._large + 40:
            raise PackDamaged("it is cut short")

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()

    @property
    def pack_checksum(self) -> bytes:
        """The checksum of the pack that it is the index of."""
        return self._data[-40:-20]

    def check(self) -> None:
        """Raise PackDamaged unless all of it is what its own checksum says."""
        digest = hashlib.sha1(usedforsecurity=False)
        with memoryview(self._data) as view:
            digest.update(view[:-20])
        if digest.digest() != self._data[-20:]:
            raise PackDamaged("its content does not match its checksum")

    def names(self) -> bytes:
        """All names, 20 bytes each, in order."""
        return self._data[self._names : self._crcs]

    def name(self, at: int) -> bytes:
        """The name of the object at place `at` of the sorted list."""
        return self._data[self._names + 20 * at : self._names + 20 * at + 20]

    def __contains__(self, name: bytes) -> bool:
        low = struct.unpack_from(">L", self._data, 8 + 4 * (name[0] - 1))[0] if name[0] else 0
        high = struct.unpack_from(">L", self._data, 8 + 4 * name[0])[0]
        while low < high:
            middle = (low + high) // 2
            if (found := self.name(middle)) == name:
                return True
            low, high = (middle + 1, high) if found < name else (low, middle)
        return False

    def crcs(self) -> array[int]:
        """The crc32 of each entry, in the order of names."""
        return _numbers("I", self._data[self._crcs : self._offsets])

    def offsets(self) -> array[int]:
        """Where in the pack each object is, in the order of names."""
        small = _numbers("I", self._data[self._offsets : self._large])
        large = array("Q")
        for value in small:
            if value & 0x80000000:
                at = self._large + 8 * (value & 0x7FFFFFFF)
                if at + 8 > len(self._data) - 40:
                    raise PackDamaged("an offset points outside of it")
                value = struct.unpack_from(">Q", self._data, at)[0]
            large.append(value)
        return large

    def prefixes(self) -> array[int]:
        """The first 8 bytes of each name, as sorted numbers."""
        names = self.names()
        found = [prefix for (prefix,) in struct.iter_unpack(">Q12x", names)]
        if found != sorted(found):
            raise PackDamaged("its names are not in order")
        return array("Q", found)


def _numbers(code: str, data: bytes) -> array[int]:
    found = array(code, data)
    if sys.byteorder == "little":
        found.byteswap()
    return found


def map_file(path: Path) -> mmap.mmap:
    """A file as mapped bytes. Raises PackDamaged where it is empty, and OSError."""
    with path.open("rb") as stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file
            raise PackDamaged("it is empty") from error


@dataclass(slots=True)
class _Content:
    """What an entry holds, while something is still to be made from it; None once it was let go."""

    data: bytes | None
    size: int


class PackReader:
    """Reads a pack by its index. `found` is told what is wrong: a text, and the object."""

    def __init__(self, pack: Path, index: PackIndex, links: Links, found: Found) -> None:
        self._index = index
        self._links = links
        self._found = found
        self._held, self._held_max = 0, HELD_MAX
        self._stack: list[tuple[int, _Content]] = []
        offsets = index.offsets()
        # From here on an entry is its place in the pack's own order.
        self._by_name = array("I", sorted(range(len(offsets)), key=offsets.__getitem__))
        self._offsets = array("Q", (offsets[at] for at in self._by_name))
        self._data = map_file(pack)
        self._ends = self._offsets[1:]
        self._ends.append(len(self._data) - 20)
        self._all_names = index.names()
        self._first_child = array("I", [_NONE]) * len(self._offsets)
        self._next_child = array("I", [_NONE]) * len(self._offsets)
        self._bases = array("I", [_NONE]) * len(self._offsets)
        # Of each entry: where its compressed bytes begin, and how many they are once inflated.
        self._starts = array("Q", bytes(8 * len(self._offsets)))
        self._sizes = array("Q", bytes(8 * len(self._offsets)))
        self._done = 0

    def close(self) -> None:
        """Let go of the files."""
        self._data.close()

    def read(self, *, processes: int = 1) -> int:
        """Read everything, with so many processes where it is worth it; returns how many objects there are.
        Raises PackDamaged."""
        count = len(self._offsets)
        if self._data[:4] != b"PACK" or struct.unpack_from(">LL", self._data, 4) not in (
            (2, count),
            (3, count),
        ):
            raise PackDamaged("pack and index disagree about the number of objects")
        if count and self._offsets[0] != 12:
            raise PackDamaged("its first object is not where the index says")
        self._check_crcs()
        roots, kinds = self._make_trees()
        if processes < 2 or count < SHARE_FROM or not self._read_shared(roots, kinds, processes):
            self._read_all(roots, kinds)
        if self._done != count:
            raise PackDamaged(f"{count - self._done} objects are made from none that can be read")
        return count

    def _read_all(self, roots: Iterable[int], kinds: bytes) -> None:
        for root in roots:
            self._resolve(root, kinds[root])

    def _read_shared(self, roots: array[int], kinds: bytes, processes: int) -> bool:
        """Share the work out among child processes; False where one of them died, and nothing was done."""

        def read_some(chunks: Iterator[array[int]]) -> tuple[int, list[tuple[str, str | None]], set[bytes]]:
            told: list[tuple[str, str | None]] = []
            self._done, self._found = 0, lambda text, name: told.append((text, name))
            self._held_max = HELD_MAX // processes
            self._links.missing = set()
            for chunk in chunks:
                self._read_all(chunk, kinds)
            return self._done, told, self._links.missing

        try:
            answers = in_processes(roots, processes, read_some)
        except GitFailed:
            return False
        for done, told, missing in answers:
            self._done += done
            self._links.missing |= missing
            for text, name in told:
                self._found(text, name)
        return True

    def _name(self, at: int) -> bytes:
        return self._index.name(self._by_name[at])

    def _tell(self, text: str, at: int) -> None:
        self._found(text, self._name(at).hex())

    def _check_crcs(self) -> None:
        crcs, view = self._index.crcs(), memoryview(self._data)
        try:
            for at, offset in enumerate(self._offsets):
                end = self._ends[at]
                if offset >= end or zlib.crc32(view[offset:end]) != crcs[self._by_name[at]]:
                    self._tell("its bytes in the pack are not those that were written", at)
        finally:
            view.release()

    def _make_trees(self) -> tuple[array[int], bytes]:
        """Find what is made from what; returns the entries that stand alone, and the kind of each entry."""
        places = {offset: at for at, offset in enumerate(self._offsets)}
        by_name: dict[bytes, int] | None = None
        roots, kinds = array("I"), bytearray(len(self._offsets))
        data, sizes, starts = self._data, self._sizes, self._starts
        for at, offset in enumerate(self._offsets):
            try:
                kind, size, start = read_header(data, offset)
                distance, begin = read_distance(data, start) if kind == _OFFSET_DELTA else (0, start)
                sizes[at], starts[at] = size, begin
            except _UNREADABLE as error:
                self._fail(at, str(error))
                continue
            if kind in _NAMES:
                roots.append(at)
                kinds[at] = kind
                continue
            if kind == _OFFSET_DELTA:
                base = places.get(offset - distance) if distance else None
            elif kind == _NAME_DELTA:
                if by_name is None:
                    by_name = {self._name(one): one for one in range(len(self._offsets))}
                base = by_name.get(self._data[start : start + 20])
                self._starts[at] += 20
            else:
                base = None
            if base is None:
                self._fail(at, "what it is made from is not in the pack")
                continue
            self._bases[at] = base
            self._next_child[at] = self._first_child[base]
            self._first_child[base] = at
        return roots, bytes(kinds)

    def _inflate(self, at: int) -> bytes:
        size, inflater = self._sizes[at], decompressobj()
        data = inflater.decompress(self._data[self._starts[at] : self._ends[at]], size + 1)
        if len(data) != size or not inflater.eof or inflater.unused_data:
            raise PackDamaged("its bytes do not inflate to the size that it says")
        return data

    def _pieces(self, at: int) -> Iterator[bytes]:
        """As `_inflate`, piece by piece."""
        size, end, inflater = self._sizes[at], self._ends[at], zlib.decompressobj()
        for place in range(self._starts[at], end, _CHUNK):
            data = self._data[place : min(place + _CHUNK, end)]
            while data and not inflater.eof:
                piece = inflater.decompress(data, _CHUNK)
                data = inflater.unconsumed_tail
                size -= len(piece)
                yield piece
        yield (piece := inflater.flush())
        if size != len(piece) or not inflater.eof:
            raise PackDamaged("its bytes do not inflate to the size that it says")

    def _resolve(self, root: int, kind: int) -> None:
        """Read an object that stands alone and all that is made from it."""
        word = _NAMES[kind]
        try:
            large = self._first_child[root] == _NONE and self._sizes[root] > PIECEWISE
            data = None if large else self._inflate(root)
            self._check(root, word, data)
        except _UNREADABLE as error:
            self._fail(root, str(error))
            return
        if data is None or self._first_child[root] == _NONE:
            return
        self._push(root, data)
        # All of it once for each of many small objects: what can be is looked up before.
        stack, first_child, next_child = self._stack, self._first_child, self._next_child
        inflate, check, push = self._inflate, self._check, self._push
        while stack:
            parent, content = stack[-1]
            child = first_child[parent]
            if child == _NONE:
                stack.pop()
                self._held -= content.size if content.data is not None else 0
                continue
            first_child[parent] = next_child[child]
            try:
                base = content.data if content.data is not None else self._again(parent)
                data = applied(base, inflate(child))
            except _UNREADABLE as error:
                self._fail(child, str(error))
                continue
            check(child, word, data)
            if first_child[child] != _NONE:
                push(child, data)

    def _push(self, at: int, data: bytes) -> None:
        self._stack.append((at, _Content(data, len(data))))
        self._held += len(data)
        for _, content in self._stack[:-1]:
            if self._held <= self._held_max:
                break
            if content.data is not None:
                content.data = None
                self._held -= content.size

    def _again(self, at: int) -> bytes:
        """Make again what was let go."""
        chain = [at]
        while self._bases[chain[-1]] != _NONE:
            chain.append(self._bases[chain[-1]])
        data = self._inflate(chain.pop())
        while chain:
            data = applied(data, self._inflate(chain.pop()))
        return data

    def _check(self, at: int, word: bytes, data: bytes | None) -> None:
        """Hash an object (None: piece by piece), and look for what it needs."""
        head = b"%s %d\0" % (word, self._sizes[at] if data is None else len(data))
        if data is None:
            digest = sha1(head, usedforsecurity=False)
            for piece in self._pieces(at):
                digest.update(piece)
        elif len(data) < _JOINED_MAX:
            digest = sha1(head + data, usedforsecurity=False)
        else:
            digest = sha1(head, usedforsecurity=False)
            digest.update(data)
        self._done += 1
        place = 20 * self._by_name[at]
        if digest.digest() != self._all_names[place : place + 20]:
            self._tell("its content has another hash", at)
        elif word != b"blob" and data is not None:
            self._links.follow(word, data)

    def _fail(self, at: int, text: str) -> None:
        """An object cannot be read, and so nothing that is made from it can."""
        todo = [(at, text)]
        while todo:
            one, problem = todo.pop()
            self._done += 1
            self._tell(f"cannot be read: {problem}", one)
            child = self._first_child[one]
            while child != _NONE:
                todo.append((child, "what it is made from cannot be read"))
                child = self._next_child[child]
            self._first_child[one] = _NONE
