"""Checking a published pack: every byte, every object, and that each link has its target.

A pack is mapped, never read whole. Some forty bytes are held for each object, and of links only those that
were met lately.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha1
from pathlib import Path

from mirror.git.failures import GitFailed
from mirror.git.objects import BLOB, TREE, TYPE_NAMES, hash_object
from mirror.git.pack.entries import NONE
from mirror.git.pack.format import HEADER_BYTES, Buffer, PackDamaged, inflate_pieces, read_pack_header
from mirror.git.pack.index import ObjectSet, PackIndex
from mirror.git.pack.limits import PARALLEL_MIN_ENTRIES
from mirror.git.pack.links import links_of, tree_link_list
from mirror.git.pack.reader import PackFile
from mirror.git.pack.resolver import DepthFirst, Node, index_children
from mirror.git.processes.fork import in_processes

# Contents that are kept while deltas are resolved, by all processes together, in bytes.
CHECK_CACHE_BYTES = 96 << 20
# An undeltified object on which no other depends and that is larger is hashed piece by piece.
PIECEWISE_MIN_BYTES = 16 << 20
# So many object ids are kept as they are; of more, those that were linked to lately.
KNOWN_MAX = 400_000

ReportProblem = Callable[[str, str | None], None]


class LinkChecker(ObjectSet):
    """The objects that there are, and those that are linked to and missing.

    `known` are ids that are there, or were reported as missing, and the empty one, which stands for a
    submodule: they need not be looked up again.
    """

    def __init__(self, known_max: int = KNOWN_MAX) -> None:
        super().__init__()
        self.missing: set[bytes] = set()
        self.known: set[bytes] = {b""}
        self._known_max = known_max

    def add_index(self, index: PackIndex) -> None:
        """See ObjectSet."""
        super().add_index(index)
        if len(self.known) + index.count <= self._known_max:
            oids = index.oids()
            self.known.update([oids[at : at + 20] for at in range(0, len(oids), 20)])

    def check(self, type_num: int, content: bytes) -> None:
        """Look up everything that an object needs."""
        links = tree_link_list(content) if type_num == TREE else links_of(type_num, content)
        if self.known.issuperset(links):
            return
        new = {one for one in links if one not in self.known}
        if len(self.known) > self._known_max:
            self.known = {b""}
        self.missing.update(one for one in new if one not in self)
        self.known |= new


class PackChecker(DepthFirst):
    """Checks a pack by its index, which must stay open. `report` takes each problem: a text, and the object
    id in hexadecimal. Raises PackDamaged where nothing of the pack can be read, and OSError."""

    reader: _CheckedFile

    def __init__(
        self,
        pack: Path,
        index: PackIndex,
        links: LinkChecker,
        report: ReportProblem,
        *,
        cache_bytes: int = CHECK_CACHE_BYTES,
        piecewise_min_bytes: int = PIECEWISE_MIN_BYTES,
        parallel_min_entries: int = PARALLEL_MIN_ENTRIES,
    ) -> None:
        super().__init__(_CheckedFile(pack, index), index_children(0, ()), cache_bytes)
        self._links, self._report = links, report
        self._piecewise_min_bytes = piecewise_min_bytes
        self._parallel_min_entries = parallel_min_entries
        self._oids = index.oids()
        self._type = 0  # of the root and of all that depends on it
        self._done = 0

    def close(self) -> None:
        """Unmap the pack."""
        self.reader.close()

    def check(self, *, processes: int = 1) -> int:
        """Read everything, with so many processes where that is faster; returns the number of objects."""
        reader, count = self.reader, len(self.reader)
        if read_pack_header(reader.data) != count:
            raise PackDamaged("pack and index disagree about the number of objects")
        if count and reader.offsets[0] != HEADER_BYTES:
            raise PackDamaged("the first object is not where the index says")
        for at in reader.damaged_entries():
            self._report("its bytes in the pack do not match their crc32", reader.oid(at).hex())
        roots = self._read_headers()
        is_large = processes > 1 and count >= self._parallel_min_entries
        if not is_large or not self._check_in_processes(roots, processes):
            self._check_all(roots)
        if self._done != count:
            raise PackDamaged(f"{count - self._done} objects depend on none that can be read")
        return count

    def _read_headers(self) -> array[int]:
        """Read the header of each entry; returns the undeltified ones."""
        unreadable = self.reader.read_headers()
        bases = self.reader.bases
        self.first_child, self.next_child = index_children(
            len(bases), ((at, base) for at, base in enumerate(bases) if base != NONE)
        )
        for at, error in unreadable:
            self.fail(at, error)
        types = self.reader.types
        return array("I", (at for at in range(len(bases)) if types[at] in TYPE_NAMES))

    def _check_all(self, roots: Iterable[int]) -> None:
        for root in roots:
            try:
                node = self._check_root(root)
            except PackDamaged as error:
                self.fail(root, error)
                continue
            if node is not None:
                self.descend(node)

    def _check_in_processes(self, roots: array[int], processes: int) -> bool:
        """Share the work out among child processes; False where one of them died, and nothing was done."""

        def check_some(chunks: Iterator[array[int]]) -> tuple[int, list[tuple[str, str | None]], set[bytes]]:
            reported: list[tuple[str, str | None]] = []
            self._done, self._report = 0, lambda text, oid: reported.append((text, oid))
            self._cache_bytes //= processes
            self._links.missing = set()
            for chunk in chunks:
                self._check_all(chunk)
            return self._done, reported, self._links.missing

        try:
            answers = in_processes(roots, processes, check_some)
        except GitFailed:
            return False
        for done, reported, missing in answers:
            self._done += done
            self._links.missing |= missing
            for text, oid in reported:
                self._report(text, oid)
        return True

    def _check_root(self, root: int) -> Node | None:
        """Check an undeltified object; returns it as a node where others depend on it."""
        self._type = self.reader.types[root]
        size, child = self.reader.sizes[root], self.first_child[root]
        if child == NONE and size > self._piecewise_min_bytes:
            digest = sha1(b"%s %d\0" % (TYPE_NAMES[self._type], size), usedforsecurity=False)
            for piece in self.reader.pieces(root):
                digest.update(piece)
            self._compare(root, digest.digest())
            return None
        content = self.reader.inflate(root)
        self._check_object(root, content)
        return Node(root, content, child) if child != NONE else None

    def resolve(self, at: int, _base: Node, base_content: Buffer, /) -> Node | None:
        """See DepthFirst."""
        content = self.reader.apply(base_content, self.reader.inflate(at), at)
        self._check_object(at, content)
        child = self.first_child[at]
        return Node(at, content, child) if child != NONE else None

    def _check_object(self, at: int, content: Buffer) -> None:
        """Compare an object with its id, and look up what it needs."""
        type_num = self._type
        if self._compare(at, hash_object(type_num, content)) and type_num != BLOB:
            assert isinstance(content, bytes)
            self._links.check(type_num, content)

    def _compare(self, at: int, oid: bytes) -> bool:
        self._done += 1
        place = 20 * self.reader.ranks[at]
        expected = self._oids[place : place + 20]
        if oid != expected:
            self._report("its content has another hash", expected.hex())
        return oid == expected

    def fail(self, at: int, error: PackDamaged, /) -> None:
        """Report an object that cannot be read, and all that depend on it."""
        todo = [(at, error.message)]
        while todo:
            one, problem = todo.pop()
            self._done += 1
            self._report(f"cannot be read: {problem}", self.reader.oid(one).hex())
            child = self.first_child[one]
            while child != NONE:
                todo.append((child, "its delta base cannot be read"))
                child = self.next_child[child]
            self.first_child[one] = NONE


class _CheckedFile(PackFile):
    """A pack of which every header was read once."""

    def __init__(self, pack: Path, index: PackIndex) -> None:
        super().__init__(pack, index)
        count = len(self)
        self.types = bytearray(count)  # zero: the header cannot be read
        self.bases = array("I", [NONE]) * count
        self.sizes, self.starts = array("Q", bytes(8 * count)), array("Q", bytes(8 * count))

    def read_headers(self) -> list[tuple[int, PackDamaged]]:
        """Read the header of each entry; returns those that are damaged, with why."""
        damaged = []
        for at in range(len(self)):
            try:
                self.types[at], self.sizes[at], self.bases[at], self.starts[at] = self.header(at)
            except PackDamaged as error:
                damaged.append((at, error))
        return damaged

    def locate(self, at: int) -> tuple[int, int, int]:
        return self.sizes[at], self.bases[at], self.starts[at]

    def pieces(self, at: int) -> Iterator[bytes]:
        """The content of an undeltified entry, piece by piece. Raises PackDamaged."""
        size, _, start = self.locate(at)
        return inflate_pieces(self.data, start, self.stop_of(at), size, self.offset_of(at))
