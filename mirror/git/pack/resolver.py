"""Making the objects of a pack that are deltas, to learn their names and what they link to.

What is made from one object that stands alone is made depth first, each entry inflated once. Large packs
are shared out among processes, which write the names they find into memory they have in common.
Contents that are held for that are bounded: what had to be let go is made again, and what is larger
than `LARGE` is made in a file.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import zlib
from array import array
from collections.abc import Iterable, Iterator
from hashlib import sha1
from pathlib import Path

from isal import isal_zlib

from mirror.git.pack import format as packentry
from mirror.git.pack.delta import Content, applied, sizes_of
from mirror.git.pack.links import SHORT, Marks, links_and_marks, links_of_large, new_links_and_marks
from mirror.git.pack.reader import links_of
from mirror.git.pack.scanner import (
    COMMIT,
    NONE,
    OFFSET_DELTA,
    TAG,
    TREE,
    UNINFLATABLE,
    WORDS,
    Entries,
    PackDamaged,
    inflated,
)
from mirror.git.processes.fork import Child, in_processes

# Contents that are held while deltas are resolved, by all processes together, in bytes.
HELD_MAX = 48 << 20
# Deltas whose result is larger are applied in files.
LARGE = 16 << 20
# Fewer entries than this are not worth another process.
SHARE_FROM = 10_000
# So many new entries are worth a process that goes ahead.
AHEAD_FROM = 5_000
# How many links are held at once: what is met again meanwhile is written down but once.
_MET_MAX = 100_000
# Links are read by so many bytes, twenty for each.
_LINKS_READ = 20 * 50_000
# Large entries are inflated from so many bytes at a time.
_PIECE = 1 << 20

_LINKING = (COMMIT, TREE, TAG)


class Resolver:
    """Resolves the deltas of the pack in `path`, whose scan is `entries`.

    Commits and tags link to others, trees too; `links` are those of all objects that were made.
    """

    def __init__(self, path: Path, entries: Entries) -> None:
        self._entries = entries
        self._path = path
        # A file that has no name any more; all processes append to it.
        self._links, name = tempfile.mkstemp(prefix="tmp_pack_", dir=path.parent)
        Path(name).unlink()
        fcntl.fcntl(self._links, fcntl.F_SETFL, os.O_APPEND)
        # What processes answer with: the names that deltas named as their base.
        self._ahead: Child[list[bytes]] | None = None
        self._ahead_until = 0
        self._stop = mmap.mmap(-1, 1)  # its byte is set when the process that goes ahead shall end

    def close(self) -> None:
        """Let go of the files, and of the process that goes ahead."""
        if self._ahead is not None:
            self._ahead.kill()
            self._ahead = None
        os.close(self._links)
        self._stop.close()

    def links(self) -> Iterator[bytes]:
        """The links that were found, twenty bytes each, many at a time; some more than once."""
        at = 0
        while chunk := os.pread(self._links, _LINKS_READ, at):
            yield chunk
            at += len(chunk)

    def is_ready_to_go_ahead(self) -> bool:
        """Whether enough has come since the last time, and nobody is at work on that."""
        entries = self._entries
        # Each time all entries are looked at again, so the more there are the more must have come.
        if entries.by_name or len(entries) < self._ahead_until * 5 // 4 + AHEAD_FROM:
            return False
        return self._ahead is None or self._ahead.is_over()

    def go_ahead(self) -> None:
        """Begin with what has come so far, in another process, while more comes; the file must hold it.

        Most of what is made from an object comes soon after it. What comes later is for the next time.
        """
        if self._ahead is not None:
            self._take(self._ahead)
        self._ahead_until = len(self._entries)

        def work() -> list[bytes]:
            return self._make_all(iter([self._roots()]), HELD_MAX // 2)

        self._ahead = Child(work)

    def resolve(self, *, processes: int) -> None:
        """Make all that is made from what is in the pack and is not made yet. Raises PackDamaged."""
        if self._ahead is not None:
            self._stop[0] = 1
            self._take(self._ahead)
            self._stop[0] = 0
        roots = self._roots()
        if processes < 2 or len(self._entries) < SHARE_FROM:
            self._forget(self._make_all(iter([roots]), HELD_MAX))
            return

        def work(chunks: Iterator[array[int]]) -> list[bytes]:
            return self._make_all(chunks, HELD_MAX // processes)

        for names in in_processes(roots, processes, work):
            self._forget(names)

    def content(self, at: int) -> bytes | None:
        """The content of an entry that was made; None where it is too large for memory."""
        with self._maker(_Links(self._links), HELD_MAX) as maker:
            content = maker.content(at)
        return content if isinstance(content, bytes) else None

    def _take(self, child: Child[list[bytes]]) -> None:
        self._ahead = None
        self._forget(child.answer())

    def _make_all(self, chunks: Iterator[array[int]], held_max: int) -> list[bytes]:
        """What this process, or each of several, does until it is done or told to stop."""
        found = _Links(self._links)
        with self._maker(found, held_max) as maker:
            for chunk in chunks:
                for root in chunk:
                    if self._stop[0]:
                        break
                    maker.make(root)
        found.flush()
        return maker.used

    def _roots(self) -> array[int]:
        """The entries that are made and from which others are to be, or whose links are to be noted."""
        entries, count = self._entries, len(self._entries)
        self._first_child = first = array("I", [NONE]) * count
        self._next_child = following = array("I", [NONE]) * count
        kinds, bases, names = entries.kinds, entries.bases, entries.by_name
        for at, kind in enumerate(kinds[:count]):
            if kind == OFFSET_DELTA:
                base = bases[at]
                following[at] = first[base]
                first[base] = at
        return array(
            "I",
            [
                at
                for at, (kind, is_done) in enumerate(zip(kinds[:count], entries.done[:count], strict=True))
                if kind in WORDS
                and (
                    (kind in _LINKING and not is_done)
                    or first[at] != NONE
                    or (names and entries.name(at) in names)
                )
            ],
        )

    def _maker(self, found: _Links, held_max: int) -> _Maker:
        return _Maker(self._path, self._entries, self._first_child, self._next_child, found, held_max)

    def _forget(self, names: Iterable[bytes]) -> None:
        for name in names:
            self._entries.by_name.pop(name, None)


class _Links:
    """Links that one process met, with few repeats, on their way to the end of a file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._met: set[bytes] = set()

    def add(self, found: set[bytes]) -> None:
        self._met |= found
        if len(self._met) > _MET_MAX:
            self.flush()

    def flush(self) -> None:
        data = memoryview(b"".join(self._met))
        while data:
            data = data[os.write(self._descriptor, data) :]
        self._met.clear()


class _Made:
    """An entry while others are made from it: its content (None once let go), what is left to make,
    and, of a tree, where its entries begin."""

    __slots__ = ("at", "child", "content", "marks", "named", "size")

    def __init__(
        self, at: int, content: Content | None, child: int, named: list[int], marks: Marks | None
    ) -> None:
        self.at, self.content, self.child, self.named, self.marks = at, content, child, named, marks
        # What is mapped from a file takes no memory to speak of.
        self.size = len(content) if isinstance(content, bytes) else 0
        if marks is not None:
            self.size += len(marks)


class _Maker:
    """Makes the objects below one root after another."""

    def __init__(
        self,
        path: Path,
        entries: Entries,
        first_child: array[int],
        next_child: array[int],
        found: _Links,
        held_max: int,
    ) -> None:
        with path.open("rb") as stream:
            self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._folder = path.parent
        self._entries = entries
        self._first_child, self._next_child = first_child, next_child
        self._found = found
        self._held, self._held_max = 0, held_max
        self._stack: list[_Made] = []
        self.used: list[bytes] = []

    def __enter__(self) -> _Maker:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def make(self, root: int) -> None:
        """Make all that is made from `root`, and note its links."""
        kind = self._entries.kinds[root]
        content = self.content(root)
        self._entries.done[root] = 1
        self._push(root, content, self._entries.name(root), self._follow(kind, content))
        stack, following, bases = self._stack, self._next_child, self._entries.bases
        while stack:
            top = stack[-1]
            if top.child != NONE:
                at, top.child = top.child, following[top.child]
            elif top.named:
                at = top.named.pop()
                bases[at] = top.at
            else:
                stack.pop()
                if top.content is not None:
                    self._held -= top.size
                continue
            self._make(at, top, kind)

    def _make(self, at: int, base: _Made, kind: int) -> None:
        """Make the entry `at` from its base."""
        entries = self._entries
        if base.content is None:
            base.content = self.content(base.at)
            self._held += base.size
        delta = self._inflate(at)
        offset = entries.offsets[at]
        _, size, begin = sizes_of(delta, offset)
        content = self._apply(base.content, delta, begin, size, offset)
        digest = sha1(b"%s %d\0" % (WORDS[kind], size), usedforsecurity=False)
        digest.update(content)
        name = digest.digest()
        entries.names[20 * at : 20 * at + 20] = name
        entries.kinds[at] = kind
        entries.done[at] = 1
        if kind == TREE and base.marks is not None and isinstance(content, bytes):
            marks: Marks | None = self._follow_changes(content, delta, begin, base.marks)
        else:
            marks = self._follow(kind, content)
        if self._first_child[at] != NONE or entries.by_name:
            self._push(at, content, name, marks)

    def _push(self, at: int, content: Content, name: bytes, marks: Marks | None) -> None:
        """Others are made from an entry: hold it until they are."""
        child, names = self._first_child[at], self._entries.by_name
        # Taken once: what is made from an object may be that object again.
        named = names.pop(name, []) if names else []
        if named:
            self.used.append(name)
        elif child == NONE:
            return
        made = _Made(at, content, child, named, marks)
        self._stack.append(made)
        self._held += made.size
        if self._held > self._held_max:
            self._let_go()

    def _let_go(self) -> None:
        for made in self._stack[:-1]:
            if self._held <= self._held_max:
                break
            if made.content is not None:
                self._held -= made.size
                made.content = None

    def _follow(self, kind: int, content: Content) -> Marks | None:
        """Note the links of an object; returns the marks of a tree where they may be of use."""
        if kind not in _LINKING:
            return None
        if kind == TREE and isinstance(content, mmap.mmap):
            for some in links_of_large(content):
                self._found.add(some)
        elif kind == TREE and isinstance(content, bytes) and len(content) >= SHORT:
            links, marks = links_and_marks(content)
            self._found.add(links)
            return marks
        else:
            self._found.add(links_of(WORDS[kind], content))
        return None

    def _follow_changes(self, tree: bytes, delta: Content, begin: int, base: Marks) -> Marks | None:
        """As `_follow`, for a tree of which only what its base has not is to be looked at."""
        links, marks = new_links_and_marks(tree, delta, begin, base)
        if links is None:
            return self._follow(TREE, tree)
        self._found.add(links)
        return marks

    def content(self, at: int) -> Content:
        """The content of an entry that is made, or whose base is."""
        chain, bases = [at], self._entries.bases
        while (base := bases[chain[-1]]) != NONE:
            chain.append(base)
            if len(chain) > len(self._entries):
                raise PackDamaged(f"the delta at {self._entries.offsets[at]} is made from itself")
        content = self._inflate(chain.pop())
        while chain:
            at = chain.pop()
            delta, offset = self._inflate(at), self._entries.offsets[at]
            _, size, begin = sizes_of(delta, offset)
            content = self._apply(content, delta, begin, size, offset)
        return content

    def _inflate(self, at: int) -> Content:
        entries = self._entries
        start, stop, size = entries.starts[at], entries.stop_of(at), entries.sizes[at]
        try:
            if size > LARGE:
                return self._in_file(self._inflated(start, stop), size, entries.offsets[at])
            return isal_zlib.decompress(self._data[start:stop], bufsize=size or 1)
        except (UNINFLATABLE, zlib.error) as error:
            raise PackDamaged(f"the object at {entries.offsets[at]} changed on disk") from error

    def _inflated(self, start: int, stop: int) -> Iterator[bytes]:
        inflater = zlib.decompressobj()
        for at in range(start, stop, _PIECE):
            yield from inflated(inflater, self._data[at : min(at + _PIECE, stop)])

    def _in_file(self, pieces: Iterable[bytes], size: int, offset: int) -> Content:
        """The pieces together, which must be of `size`, mapped from a file that has no name."""
        with tempfile.TemporaryFile(prefix="tmp_pack_", dir=self._folder) as stream:
            for piece in pieces:
                stream.write(piece)
                if stream.tell() > size:
                    break
            stream.flush()
            if stream.tell() != size:
                raise PackDamaged(f"the delta at {offset} makes another size than it says")
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""

    def _apply(self, base: Content, delta: Content, begin: int, size: int, offset: int) -> Content:
        if size > LARGE or not isinstance(base, bytes) or not isinstance(delta, bytes):
            if sizes_of(delta, offset)[0] != len(base):
                raise PackDamaged(f"the delta at {offset} is made from something of another size")
            return self._in_file(applied(base, delta, begin, offset), size, offset)
        try:
            # It holds both sizes against what is there.
            return packentry.applied(base, delta)
        except packentry.PackDamaged as error:
            raise PackDamaged(f"the delta at {offset} does not fit its base") from error
