"""Making the objects of a pack that are deltas, to learn their names and what they link to.

Trees of deltas are resolved depth first from what stands alone, each entry inflated once. Large packs
are shared out among processes, which write the names they find into memory they have in common.
Contents that are held for that are bounded: what had to be let go is made again, and what is larger
than `LARGE` is made in a file.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import mmap
import os
import pickle
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dulwich.pack import apply_delta

from mirror.git.failures import GitFailed
from mirror.git.packread import links_of
from mirror.git.packscan import COMMIT, NONE, TAG, TREE, WORDS, Entries, PackDamaged, inflated
from mirror.git.process import die_with_parent

# Contents that one process holds while deltas are resolved, in bytes.
HELD_MAX = 32 << 20
# Deltas whose result is larger are applied in files.
LARGE = 16 << 20
# Fewer entries than this are not worth another process.
SHARE_FROM = 20_000
# How many links are remembered as met, so that they are not written down again.
_LATELY = 300_000
_CHUNKS = 64

Content = bytes | mmap.mmap
# What one of several processes found: the names that deltas named as their base, and a file of links.
Found = tuple[list[bytes], Path]


class Resolver:
    """Resolves the deltas of the pack in `path`, whose scan is `entries`.

    `trees`: the links of trees are collected, too, and not those of commits and tags only.
    """

    def __init__(self, path: Path, entries: Entries, *, trees: bool) -> None:
        self._entries = entries
        self._path = path
        self._trees = trees
        self._first_child, self._next_child = array("I"), array("I")
        self._links = _LinkFile(path.parent)

    def close(self) -> None:
        """Let go of the files."""
        self._links.close()

    @property
    def links(self) -> BinaryIO:
        """The links that were found, twenty bytes each; some more than once."""
        return self._links.stream

    def resolve(self, *, processes: int) -> None:
        """Resolve all that is made from what is in the pack. Raises PackDamaged."""
        count = len(self._entries)
        self._first_child = array("I", [NONE]) * count
        self._next_child = array("I", [NONE]) * count
        for at, base in enumerate(self._entries.bases):
            if base != NONE:
                self._next_child[at] = self._first_child[base]
                self._first_child[base] = at
        roots = array("I", (at for at, kind in enumerate(self._entries.kinds) if self._is_root(at, kind)))
        self._run(roots, processes if count >= SHARE_FROM else 1)

    def resolve_from(self, added: Iterable[int], *, processes: int) -> None:
        """Resolve what is made from entries that were added at the end of the pack."""
        roots = array("I", added)
        while len(self._first_child) < len(self._entries):
            self._first_child.append(NONE)
            self._next_child.append(NONE)
        waiting = sum(map(len, self._entries.by_name.values()))
        self._run(roots, processes if waiting >= SHARE_FROM else 1)

    def _is_root(self, at: int, kind: int) -> bool:
        """Whether there is something to do at an entry that stands alone."""
        if kind not in WORDS:
            return False
        return kind in (COMMIT, TAG) or (kind == TREE and self._trees) or self._has_children(at)

    def _has_children(self, at: int) -> bool:
        return self._first_child[at] != NONE or (
            bool(self._entries.by_name) and self._entries.name(at) in self._entries.by_name
        )

    def _run(self, roots: array[int], processes: int) -> None:
        if processes < 2:
            with _Maker(self._path, self._entries, self, self._links) as maker:
                for root in roots:
                    maker.make(root)
                self._forget(maker.used)
            return
        with _Shared(self._entries) as shared:
            found = _in_processes(shared, roots, processes, self._part_of)
        for names, path in found:
            self._forget(names)
            with path.open("rb") as stream:
                self._links.copy(stream)
            path.unlink()

    def _part_of(self, chunks: Iterator[array[int]]) -> Found:
        """What one of several processes does."""
        links = _LinkFile(self._path.parent, keep=True)
        with _Maker(self._path, self._entries, self, links) as maker:
            for chunk in chunks:
                for root in chunk:
                    maker.make(root)
        links.close()
        return maker.used, links.path

    def _forget(self, names: Iterable[bytes]) -> None:
        for name in names:
            self._entries.by_name.pop(name, None)

    def children(self, at: int, name: bytes) -> tuple[int, list[int]]:
        """What is made from an entry: the first by place, and those that name it."""
        return self._first_child[at], self._entries.by_name.get(name, []) if self._entries.by_name else []

    def next_child(self, at: int) -> int:
        """The next entry that is made from the same one."""
        return self._next_child[at]

    def wants_links(self, kind: int) -> bool:
        """Whether the links of a kind of object are collected."""
        return kind in (COMMIT, TAG) or (kind == TREE and self._trees)


class _LinkFile:
    """Links that were met, on disk, with few repeats."""

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        descriptor, name = tempfile.mkstemp(prefix="tmp_pack_links_", dir=folder)
        self.path = Path(name)
        self.stream: BinaryIO = os.fdopen(descriptor, "w+b")
        if not keep:
            self.path.unlink()
        self._lately: set[bytes] = set()

    def add(self, links: set[bytes]) -> None:
        new = links - self._lately
        if new:
            if len(self._lately) > _LATELY:
                self._lately.clear()
            self._lately |= new
            self.stream.write(b"".join(new))

    def copy(self, stream: BinaryIO) -> None:
        while chunk := stream.read(1 << 20):
            self.stream.write(chunk)

    def close(self) -> None:
        self.stream.close()


class _Shared:
    """The names and kinds of entries in memory that child processes write to."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        count = len(entries)
        self._map = mmap.mmap(-1, max(1, 21 * count))
        self._map[: 20 * count] = entries.names
        self._map[20 * count : 21 * count] = bytes(entries.kinds)
        self.count = count

    def __enter__(self) -> _Shared:
        self._entries.names = _View(self._map, 0)  # type: ignore[assignment]
        self._entries.kinds = _View(self._map, 20 * self.count)  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.names = bytearray(self._map[: 20 * self.count])
        self._entries.kinds = bytearray(self._map[20 * self.count : 21 * self.count])
        self._map.close()


class _View:
    """A part of a map, indexed from its own beginning."""

    def __init__(self, shared: mmap.mmap, begin: int) -> None:
        self._shared, self._begin = shared, begin

    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, slice):
            return self._shared[self._begin + key.start : self._begin + key.stop]
        return self._shared[self._begin + key]

    def __setitem__(self, key: int | slice, value: int | bytes) -> None:
        if isinstance(key, slice):
            self._shared[self._begin + key.start : self._begin + key.stop] = value  # type: ignore[assignment]
        else:
            self._shared[self._begin + key] = value  # type: ignore[assignment]


def _in_processes(
    shared: _Shared,  # noqa: ARG001 - it must be there while they run
    roots: array[int],
    processes: int,
    work: Callable[[Iterator[array[int]]], Found],
) -> list[Found]:
    """Share `roots` out among child processes, which take the next chunk when they are done with one.

    They die with this process. Raises what one of them raised.
    """
    size = max(1, -(-len(roots) // (_CHUNKS * processes)))
    queue, fill = os.pipe()
    answers: list[tuple[int, int]] = []
    gc.freeze()  # collecting would copy the pages that are shared with the children
    try:
        for _ in range(processes):
            ours, theirs = os.pipe()
            child = os.fork()
            if child == 0:
                _serve(os.getppid(), queue, fill, theirs, roots, size, work)
            os.close(theirs)
            answers.append((child, ours))
    finally:
        gc.unfreeze()
        os.close(queue)
    with contextlib.suppress(BrokenPipeError):
        for begin in range(0, len(roots), size):
            os.write(fill, begin.to_bytes(4, "big"))
    os.close(fill)
    return [_answer(child, ours) for child, ours in answers]


def _serve(
    parent: int,
    queue: int,
    fill: int,
    answer: int,
    roots: array[int],
    size: int,
    work: Callable[[Iterator[array[int]]], Found],
) -> None:
    """The life of a child process; it does not return."""
    try:
        die_with_parent(parent)
        os.close(fill)

        def chunks() -> Iterator[array[int]]:
            while word := os.read(queue, 4):
                begin = int.from_bytes(word, "big")
                yield roots[begin : begin + size]

        try:
            result: object = work(chunks())
        except GitFailed as error:
            result = error
        except OSError as error:
            result = GitFailed(f"{error.strerror or error} ({error.filename or 'no file'})")
        except MemoryError:
            result = GitFailed("the worker ran out of memory")
        data = pickle.dumps(result)
        while data:
            data = data[os.write(answer, data) :]
    finally:
        os._exit(0)


def _answer(child: int, ours: int) -> Found:
    with os.fdopen(ours, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    if not data:
        raise GitFailed("a process that resolved deltas died; nothing was changed")
    result = pickle.loads(data)  # noqa: S301 - our own child
    if isinstance(result, Exception):
        raise result
    found: Found = result
    return found


@dataclass
class _Made:
    """An entry while others are made from it: its content (None once let go), and what is left to make."""

    at: int
    content: Content | None
    size: int
    child: int
    named: list[int]


class _Maker:
    """Makes the objects below one root after another."""

    def __init__(self, path: Path, entries: Entries, resolver: Resolver, links: _LinkFile) -> None:
        with path.open("rb") as stream:
            self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._folder = path.parent
        self._entries = entries
        self._resolver = resolver
        self._links = links
        self._held = 0
        self._stack: list[_Made] = []
        self._parents: dict[int, int] = {}  # of those made from a name, in the tree that is at work
        self.used: list[bytes] = []

    def __enter__(self) -> _Maker:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def make(self, root: int) -> None:
        """Make all that is made from `root`, and note its links."""
        kind = self._entries.kinds[root]
        name = self._entries.name(root)
        child, named = self._resolver.children(root, name)
        content: Content | None = None
        if child != NONE or named or self._resolver.wants_links(kind):
            content = self._inflate(root)
            self._follow(kind, content)
        if child == NONE and not named:
            return
        self._parents.clear()
        self._push(root, content, child, named, name)
        while self._stack:
            top = self._stack[-1]
            if top.child != NONE:
                at, top.child = top.child, self._resolver.next_child(top.child)
            elif top.named:
                at = top.named.pop()
                self._parents[at] = top.at
            else:
                self._pop()
                continue
            self._make(at, top, kind)

    def _make(self, at: int, parent: _Made, kind: int) -> None:
        if parent.content is None:
            parent.content = self._again(parent.at)
            self._held += parent.size
        content = self._apply(parent.content, at)
        digest = hashlib.sha1(b"%s %d\0" % (WORDS[kind], len(content)), usedforsecurity=False)
        digest.update(content)
        name = digest.digest()
        self._entries.names[20 * at : 20 * at + 20] = name
        self._entries.kinds[at] = kind
        self._follow(kind, content)
        child, named = self._resolver.children(at, name)
        if child != NONE or named:
            self._push(at, content, child, named, name)

    def _follow(self, kind: int, content: Content) -> None:
        if self._resolver.wants_links(kind):
            self._links.add(links_of(WORDS[kind], bytes(content)))

    def _push(self, at: int, content: Content | None, child: int, named: list[int], name: bytes) -> None:
        if named:
            self.used.append(name)
        size = len(content) if isinstance(content, bytes) else 0
        self._stack.append(_Made(at, content, size, child, list(named)))
        self._held += size
        for made in self._stack[:-1]:
            if self._held <= HELD_MAX:
                break
            if made.content is not None:
                self._held -= made.size
                made.content = None

    def _pop(self) -> None:
        made = self._stack.pop()
        if made.content is not None:
            self._held -= made.size

    def _again(self, at: int) -> Content:
        """Make again what was let go."""
        chain = [at]
        while (base := self._base(chain[-1])) is not None:
            chain.append(base)
        content = self._inflate(chain.pop())
        while chain:
            content = self._apply(content, chain.pop())
        return content

    def _base(self, at: int) -> int | None:
        base = self._entries.bases[at]
        return base if base != NONE else self._parents.get(at)

    def _inflate(self, at: int) -> Content:
        start, stop = self._entries.starts[at], self._entries.stop_of(at)
        size = self._entries.sizes[at]
        if size > LARGE:
            return self._in_file(inflated(zlib.decompressobj(), self._data[start:stop]))
        try:
            return zlib.decompress(self._data[start:stop], bufsize=size or 1)
        except zlib.error as error:
            raise PackDamaged(f"the object at {self._entries.offsets[at]} changed on disk") from error

    def _in_file(self, pieces: Iterable[bytes]) -> Content:
        """The pieces together, mapped from a file that has no name."""
        with tempfile.TemporaryFile(dir=self._folder) as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            if stream.tell() == 0:
                return b""
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def _apply(self, base: Content, at: int) -> Content:
        delta = self._inflate(at)
        offset = self._entries.offsets[at]
        size, target, begin = sizes_of(delta, offset)
        if size != len(base):
            raise PackDamaged(f"the delta at {offset} is made from something of another size")
        if target > LARGE or isinstance(base, mmap.mmap) or isinstance(delta, mmap.mmap):
            content = self._in_file(applied(base, delta, begin, offset))
        else:
            try:
                content = b"".join(apply_delta(base, delta))
            except Exception as error:
                raise PackDamaged(f"the delta at {offset} does not fit its base") from error
        if len(content) != target:
            raise PackDamaged(f"the delta at {offset} makes another size than it says")
        return content


def sizes_of(delta: Content, offset: int) -> tuple[int, int, int]:
    """The sizes of base and result that a delta states, and where its instructions begin."""
    at, sizes = 0, []
    for _ in range(2):
        size, shift = 0, 0
        while True:
            if at >= len(delta) or shift > 63:
                raise PackDamaged(f"the delta at {offset} is cut short")
            byte = delta[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        sizes.append(size)
    return sizes[0], sizes[1], at


def applied(base: Content, delta: Content, at: int, offset: int) -> Iterator[bytes]:
    """What the instructions of a delta from `at` on make of `base`, piece by piece."""
    end = len(delta)
    try:
        while at < end:
            code = delta[at]
            at += 1
            if code & 0x80:
                place = size = 0
                for bit in range(4):
                    if code & 1 << bit:
                        place |= delta[at] << 8 * bit
                        at += 1
                for bit in range(3):
                    if code & 0x10 << bit:
                        size |= delta[at] << 8 * bit
                        at += 1
                size = size or 0x10000
                if place + size > len(base):
                    raise PackDamaged(f"the delta at {offset} does not fit its base")
                yield base[place : place + size]
            elif code:
                if at + code > end:
                    raise PackDamaged(f"the delta at {offset} is cut short")
                yield delta[at : at + code]
                at += code
            else:
                raise PackDamaged(f"the delta at {offset} has an instruction that there is not")
    except IndexError:
        raise PackDamaged(f"the delta at {offset} is cut short") from None
