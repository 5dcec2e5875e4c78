"""Resolving deltas: depth first, so that each entry is inflated once.

`DepthFirst` is the traversal itself, for packs that arrive and packs that are checked. `Resolver` resolves
the deltas of a pack that arrives, to learn their object ids and links; large packs are shared out among
forked processes, which write what they find into columns that they have in common.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from mirror.git.objects import COMMIT, TAG, TREE, TYPE_NAMES, hash_object
from mirror.git.pack.delta import delta_sizes
from mirror.git.pack.entries import NONE, EntryTable
from mirror.git.pack.format import OFS_DELTA, Buffer, PackDamaged, map_file
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from mirror.git.pack.links import (
    EntryOffsets,
    links_and_offsets,
    links_of,
    new_links_and_offsets,
    tree_links_in_batches,
)
from mirror.git.pack.reader import EntryReader
from mirror.git.processes.fork import Child, in_processes

_LINKING = (COMMIT, TREE, TAG)


def index_children(count: int, deltas: Iterable[tuple[int, int]]) -> tuple[array[int], array[int]]:
    """Which entries have which as their delta base, as linked lists over `count` entries.

    `deltas` are pairs of an entry and its base. Returns, by base, the first entry that depends on it, and, by
    entry, the next one that depends on the same base; NONE ends a list.
    """
    first, following = array("I", [NONE]) * count, array("I", [NONE]) * count
    for at, base in deltas:
        following[at] = first[base]
        first[base] = at
    return first, following


class Node:
    """An entry while others depend on it: its content (None once dropped), the children that are left, and,
    of a tree, where its entries begin."""

    __slots__ = ("at", "child", "content", "offsets", "ref_deltas", "size")

    def __init__(
        self,
        at: int,
        content: Buffer,
        child: int,
        ref_deltas: list[int] | None = None,
        offsets: EntryOffsets | None = None,
    ) -> None:
        self.at, self.child, self.ref_deltas, self.offsets = at, child, ref_deltas, offsets
        self.content: Buffer | None = content
        # What is mapped from a file takes next to no memory.
        self.size = len(content) if isinstance(content, bytes) else 0
        if offsets is not None:
            self.size += len(offsets)


class DepthFirst(ABC):
    """Resolves all entries that depend on a root, depth first.

    Contents that more entries depend on are kept, up to `cache_bytes`; the oldest are dropped then, and made
    again when they are needed. `children` are those of `index_children`.
    """

    def __init__(
        self, reader: EntryReader, children: tuple[array[int], array[int]], cache_bytes: int
    ) -> None:
        self.reader = reader
        self.first_child, self.next_child = children
        self._cached, self._cache_bytes = 0, cache_bytes
        self._stack: list[Node] = []

    @abstractmethod
    def resolve(self, at: int, base: Node, base_content: Buffer, /) -> Node | None:
        """Process the entry `at`, a delta on `base`; returns it as a node where others depend on it. Raises
        PackDamaged, which goes to `fail`."""

    @abstractmethod
    def fail(self, at: int, error: PackDamaged, /) -> None:
        """Process an entry that cannot be read, because of `error`."""

    def descend(self, root: Node) -> None:
        """Resolve everything that depends on `root`, whose content is known."""
        self._push(root)
        stack, following = self._stack, self.next_child
        while stack:
            top = stack[-1]
            if top.child != NONE:
                at, top.child = top.child, following[top.child]
            elif top.ref_deltas:
                at = top.ref_deltas.pop()
            else:
                stack.pop()
                if top.content is not None:
                    self._cached -= top.size
                continue
            try:
                content = top.content
                if content is None:
                    content = top.content = self.reader.content(top.at)
                    self._cached += top.size
                node = self.resolve(at, top, content)
            except PackDamaged as error:
                self.fail(at, error)
                continue
            if node is not None:
                self._push(node)

    def _push(self, node: Node) -> None:
        self._stack.append(node)
        self._cached += node.size
        if self._cached > self._cache_bytes:
            for one in self._stack[:-1]:
                if self._cached <= self._cache_bytes:
                    break
                if one.content is not None:
                    self._cached -= one.size
                    one.content = None


class Resolver:
    """Resolves the deltas of the pack at `path`, whose table is `entries`, and records the links of its
    commits, trees and tags."""

    def __init__(self, path: Path, entries: EntryTable, limits: PackLimits = DEFAULT_LIMITS) -> None:
        self._path, self._entries, self._limits = path, entries, limits
        # An unnamed file; all processes append to it.
        self._links, name = tempfile.mkstemp(prefix="tmp_pack_", dir=path.parent)
        Path(name).unlink()
        fcntl.fcntl(self._links, fcntl.F_SETFL, os.O_APPEND)
        # Processes return the bases of the ref-deltas that they resolved.
        self._ahead: Child[list[bytes]] | None = None
        self._ahead_count = 0
        self._stop = mmap.mmap(-1, 1)  # its byte is set when the process that resolves ahead must end

    def close(self) -> None:
        """Close the files, and end the process that resolves ahead."""
        if self._ahead is not None:
            self._ahead.kill()
            self._ahead = None
        os.close(self._links)
        self._stop.close()

    def links(self) -> Iterator[bytes]:
        """The links that were found, 20 bytes each, many in each chunk; some are repeated."""
        at = 0
        while chunk := os.pread(self._links, 20 * self._limits.links_per_read, at):
            yield chunk
            at += len(chunk)

    def can_resolve_ahead(self) -> bool:
        """Whether enough has arrived since the last time, and no process works on that."""
        entries, least = self._entries, self._limits.ahead_min_entries
        # Each time all entries are looked at again, so the more there are the more must have arrived.
        if entries.ref_deltas or len(entries) < self._ahead_count * 5 // 4 + least:
            return False
        return self._ahead is None or self._ahead.is_over()

    def resolve_ahead(self) -> None:
        """Begin to resolve what has arrived in another process, while more arrives; the file must hold it.

        Most of what depends on an object comes soon after it. What comes later is for the next time.
        """
        if self._ahead is not None:
            self._finish(self._ahead)
        self._ahead_count = len(self._entries)
        self._ahead = Child(lambda: self._resolve_all(iter([self._roots()]), self._limits.cache_bytes // 2))

    def resolve(self, *, processes: int) -> None:
        """Resolve every delta whose base is in the pack and that is not resolved yet. Raises PackDamaged."""
        if self._ahead is not None:
            self._stop[0] = 1
            self._finish(self._ahead)
            self._stop[0] = 0
        roots, cache_bytes = self._roots(), self._limits.cache_bytes
        if processes < 2 or len(self._entries) < self._limits.parallel_min_entries:
            self._forget(self._resolve_all(iter([roots]), cache_bytes))
            return
        work = partial(self._resolve_all, cache_bytes=cache_bytes // processes)
        for bases in in_processes(roots, processes, work):
            self._forget(bases)

    def content(self, at: int) -> bytes | None:
        """The content of an entry that was resolved; None where it is too large for memory."""
        reader = _TableReader(self._path, self._entries, self._limits.spill_bytes)
        try:
            content = reader.content(at)
        finally:
            reader.close()
        return content if isinstance(content, bytes) else None

    def _finish(self, child: Child[list[bytes]]) -> None:
        self._ahead = None
        self._forget(child.answer())

    def _resolve_all(self, chunks: Iterator[array[int]], cache_bytes: int) -> list[bytes]:
        """Resolve everything below the roots in `chunks`, or until this process is to stop. Returns the bases
        of the ref-deltas that it resolved."""
        links = _LinkLog(self._links, self._limits.links_kept)
        reader = _TableReader(self._path, self._entries, self._limits.spill_bytes)
        work = _Indexing(reader, self._entries, self._children, links, cache_bytes, self._limits)
        try:
            for chunk in chunks:
                for root in chunk:
                    if self._stop[0]:
                        break
                    work.process(root)
        finally:
            reader.close()
        links.flush()
        return work.ref_bases

    def _roots(self) -> array[int]:
        """The entries that are resolved and on which others depend, or whose links are to be recorded."""
        entries, count = self._entries, len(self._entries)
        types, bases, ref_deltas = entries.types, entries.bases, entries.ref_deltas
        self._children = index_children(
            count, ((at, bases[at]) for at, one in enumerate(types[:count]) if one == OFS_DELTA)
        )
        first_child = self._children[0]
        roots = array("I")
        for at, (type_num, is_done) in enumerate(zip(types[:count], entries.done[:count], strict=True)):
            if type_num in TYPE_NAMES and (
                (type_num in _LINKING and not is_done)
                or first_child[at] != NONE
                or (ref_deltas and entries.oid(at) in ref_deltas)
            ):
                roots.append(at)
        return roots

    def _forget(self, bases: Iterable[bytes]) -> None:
        for oid in bases:
            self._entries.ref_deltas.pop(oid, None)


class _TableReader(EntryReader):
    """Reads the entries of a pack that is being received."""

    def __init__(self, path: Path, entries: EntryTable, spill_bytes: int) -> None:
        super().__init__(map_file(path), path.parent, spill_bytes)
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def offset_of(self, at: int) -> int:
        return self._entries.offsets[at]

    def stop_of(self, at: int) -> int:
        return self._entries.stop_of(at)

    def locate(self, at: int) -> tuple[int, int, int]:
        entries = self._entries
        return entries.sizes[at], entries.bases[at], entries.starts[at]


class _LinkLog:
    """Links that one process found, with few repeats, on their way to the end of a file."""

    def __init__(self, descriptor: int, kept: int) -> None:
        self._descriptor, self._kept = descriptor, kept
        self._links: set[bytes] = set()

    def add(self, links: set[bytes]) -> None:
        self._links |= links
        if len(self._links) > self._kept:
            self.flush()

    def flush(self) -> None:
        data = memoryview(b"".join(self._links))
        while data:
            data = data[os.write(self._descriptor, data) :]
        self._links.clear()


class _Indexing(DepthFirst):
    """Gives each entry its object id, and records its links."""

    def __init__(
        self,
        reader: EntryReader,
        entries: EntryTable,
        children: tuple[array[int], array[int]],
        links: _LinkLog,
        cache_bytes: int,
        limits: PackLimits,
    ) -> None:
        super().__init__(reader, children, cache_bytes)
        self._entries, self._links = entries, links
        self._marks_min_bytes = limits.tree_marks_min_bytes
        self._type = 0  # of the root and of all that depends on it
        self.ref_bases: list[bytes] = []

    def process(self, root: int) -> None:
        """Record the links of `root`, and resolve what depends on it."""
        entries = self._entries
        self._type = entries.types[root]
        content = self.reader.content(root)
        offsets = self._record_links(content)
        entries.done[root] = 1
        if (node := self._node(root, content, entries.oid(root), offsets)) is not None:
            self.descend(node)

    def fail(self, _at: int, error: PackDamaged, /) -> None:
        """See DepthFirst: one damaged entry makes the whole pack useless."""
        raise error

    def resolve(self, at: int, base: Node, base_content: Buffer, /) -> Node | None:
        """See DepthFirst."""
        entries = self._entries
        delta = self.reader.inflate(at)
        content = self.reader.apply(base_content, delta, at)
        oid = hash_object(self._type, content)
        entries.oids[20 * at : 20 * at + 20] = oid
        entries.bases[at] = base.at  # of a ref-delta it was not known yet
        if base.offsets is not None and isinstance(content, bytes):
            offsets = self._record_new_links(content, delta, entries.offsets[at], base.offsets)
        else:
            offsets = self._record_links(content)
        entries.types[at] = self._type
        entries.done[at] = 1
        return self._node(at, content, oid, offsets)

    def _node(self, at: int, content: Buffer, oid: bytes, offsets: EntryOffsets | None) -> Node | None:
        """The node of an entry on which others depend, else None."""
        child, waiting = self.first_child[at], self._entries.ref_deltas
        if child == NONE and not waiting:
            return None
        # Taken once: what depends on an object may be that object again.
        ref_deltas = waiting.pop(oid, None)
        if ref_deltas:
            self.ref_bases.append(oid)
        elif child == NONE:
            return None
        return Node(at, content, child, ref_deltas, offsets)

    def _record_links(self, content: Buffer) -> EntryOffsets | None:
        """Record the links of an object; returns where the entries of a tree begin, if its deltas need it."""
        type_num = self._type
        if type_num not in _LINKING:
            return None
        if type_num != TREE:
            self._links.add(links_of(type_num, content))
        elif isinstance(content, mmap.mmap):
            for links in tree_links_in_batches(content):
                self._links.add(links)
        elif len(content) >= self._marks_min_bytes:
            links, offsets = links_and_offsets(content)
            self._links.add(links)
            return offsets
        else:
            self._links.add(links_of(TREE, content))
        return None

    def _record_new_links(
        self, tree: bytes, delta: Buffer, offset: int, base: EntryOffsets
    ) -> EntryOffsets | None:
        """As `_record_links`, for a tree of which only what its base does not have is read."""
        links, offsets = new_links_and_offsets(tree, delta, delta_sizes(delta, offset)[2], base)
        if links is None:
            return self._record_links(tree)
        self._links.add(links)
        return offsets
