"""The narrow door between pack bytes and objects that are safely on disk.

`PackWriter` is for objects that we make ourselves, `Reception` for a pack that a server sends. A pack
is published only when every byte was checked: pack first, then index, each fsynced and renamed, then
the folder fsynced. Refs come after, elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import struct
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Protocol

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import write_pack_index_v2

from mirror.fs.durable import sweep as sweep_files
from mirror.fs.durable import sync_folder
from mirror.git.failures import GitFailed
from mirror.git.pack import resolver as packresolve
from mirror.git.pack.format import distance, header
from mirror.git.pack.names import packs_without_index
from mirror.git.pack.resolver import Resolver
from mirror.git.pack.scanner import WORDS, Entries, PackDamaged, PackScan
from mirror.git.processes.fork import meanwhile

_TYPES = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_OFFSET_DELTA = 6
# So many names are held at once while links are checked or an index is sorted.
TOGETHER = 1 << 20
_AT_A_TIME = 1 << 16
# Offsets in a pack that are larger are kept apart in its index.
_SMALL_MAX = 0x7FFFFFFF
_LEFTOVERS = ("tmp_pack_", "tmp_obj_", "incoming-", "tmp-")


class PackWriter:
    """Writes objects that we make ourselves into one new pack.

    Memory holds 40 bytes or so for each object, never their content.
    """

    def __init__(self, objects: Path) -> None:
        self._folder = objects / "pack"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._beside()
        self._entries: dict[bytes, tuple[int, int]] = {}
        self._file: BinaryIO | None = None
        self._offset = 12

    def _beside(self) -> Path:
        return self._folder / f"tmp_pack_{secrets.token_hex(8)}"

    def add(self, kind: str, data: bytes) -> str:
        """Add an object of `kind` (commit, tree, blob, tag); returns its id."""
        digest = hashlib.sha1(b"%s %d\0" % (kind.encode("ascii"), len(data)), usedforsecurity=False)
        digest.update(data)
        identifier = digest.digest()
        if identifier in self._entries:
            return identifier.hex()
        if self._file is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(descriptor, "w+b")
            self._file.write(b"PACK" + struct.pack(">LL", 2, 0))
        self._write(identifier, header(_TYPES[kind], len(data)) + zlib.compress(data, 6))
        return identifier.hex()

    def add_delta(self, identifier: str, delta: bytes, base: str) -> None:
        """Add the object `identifier` as a delta against `base`, which was added before it."""
        name, (begin, _) = bytes.fromhex(identifier), self._entries[bytes.fromhex(base)]
        if name not in self._entries:
            head = header(_OFFSET_DELTA, len(delta)) + distance(self._offset - begin)
            self._write(name, head + zlib.compress(delta, 6))

    def has(self, identifier: str) -> bool:
        """Whether an object was added."""
        return bytes.fromhex(identifier) in self._entries

    def _write(self, identifier: bytes, entry: bytes) -> None:
        assert self._file is not None
        self._file.write(entry)
        self._entries[identifier] = (self._offset, zlib.crc32(entry))
        self._offset += len(entry)

    def publish(self) -> str:
        """Make the pack part of the repository, durably; returns its name without suffix.

        Nothing was added: nothing happens, and the name is empty.
        """
        if self._file is None:
            return ""
        stream = self._file
        stream.seek(8)
        stream.write(struct.pack(">L", len(self._entries)))
        stream.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
        stream.write(digest.digest())
        stream.flush()
        os.fsync(stream.fileno())
        stream.close()
        self._file = None
        entries = sorted((name, offset, crc) for name, (offset, crc) in self._entries.items())
        beside = self._path.with_suffix(".idx")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as index:
            write_pack_index_v2(index, entries, digest.digest())
            index.flush()
            os.fsync(index.fileno())
        final = self._folder / f"pack-{digest.hexdigest()}"
        self._path.rename(final.with_suffix(".pack"))
        beside.rename(final.with_suffix(".idx"))
        sync_folder(self._folder)
        self._path, self._entries, self._offset = self._beside(), {}, 12
        return final.name

    def discard(self) -> None:
        """Drop what was not published."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(".idx").unlink(missing_ok=True)


def sweep(repository: Path) -> None:
    """Make good what an interrupted writer left; the caller holds the writer's lock.

    What was on its way is removed. A pack whose index did not come any more gets it.
    """
    sweep_files(repository)
    for folder in (repository / "objects", repository / "objects" / "pack"):
        if folder.is_dir():
            for path in folder.iterdir():
                if path.name.startswith(_LEFTOVERS):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
    for pack in packs_without_index(repository / "objects" / "pack"):
        _index_again(pack)


def _index_again(pack: Path) -> None:
    """Give a pack its index. The pack came first and whole, and may be all there is of its objects, so
    it is never removed; left alone it would be no use to anybody, and verify would tell of it for ever.
    """
    beside = pack.with_name(f"tmp_pack_{secrets.token_hex(8)}.idx")
    try:
        with Path(os.devnull).open("wb") as nowhere, closing(PackScan(nowhere, pack.parent)) as scan:
            with pack.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    scan.write(chunk)
            checksum, named = scan.finish(), frozenset(scan.entries.by_name)
            with closing(Resolver(pack, scan.entries)) as resolver:
                resolver.resolve(processes=1)
            _check_all_made(scan.entries, named)
            write_index(beside, scan.entries, checksum)
        beside.rename(pack.with_suffix(".idx"))
        sync_folder(pack.parent)
    except GitFailed as error:
        # What a log takes to import is a third of what a worker takes to start.
        from mirror.logs import get_logger

        get_logger("git").warning("git.pack_without_index", file=pack.name, problem=error.message)
    finally:
        beside.unlink(missing_ok=True)


class Reception:
    """A pack on its way into the objects at `objects`. A context manager: what was not published is
    removed at its end.

    `write` takes its bytes as they come; `publish` makes it part of the repository.
    """

    def __init__(self, objects: Path) -> None:
        self._folder = objects / "pack"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._folder / f"tmp_pack_{secrets.token_hex(8)}"
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._stream = os.fdopen(descriptor, "w+b")
        self._scan = PackScan(self._stream, self._folder)
        self._resolver = Resolver(self._path, self._scan.entries)

    def __enter__(self) -> Reception:
        return self

    def __exit__(self, *_: object) -> None:
        self._resolver.close()
        self._scan.close()
        self._stream.close()
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(".idx").unlink(missing_ok=True)

    @property
    def received(self) -> int:
        """How many bytes came."""
        return self._scan.received

    def write(self, data: bytes) -> int:
        """Take the next bytes. Raises PackDamaged as soon as they cannot be a pack's."""
        before, size = len(self._scan.entries), self._scan.write(data)
        if len(self._scan.entries) > before and self._resolver.is_ready_to_go_ahead():
            self._stream.flush()
            self._resolver.go_ahead()
        return size

    def publish(self, store: DiskObjectStore, *, processes: int, tell: Callable[[str], None]) -> int:
        """Check the whole pack, complete it if thin, and publish it with its index; returns how many
        objects came.

        Every object is hashed and every delta resolved, and each link of its commits, trees and tags
        must have its target in the pack or in `store`. Raises PackDamaged, or GitFailed where something
        is missing; then nothing is changed.
        """
        checksum, entries = self._scan.finish(), self._scan.entries
        count, named = len(entries), frozenset(entries.by_name)
        if count == 0:
            return 0
        self._stream.flush()
        tell(f"resolving deltas of {count} objects")
        self._resolver.resolve(processes=processes)
        is_thin = False
        while entries.by_name and self._append_bases(store):
            is_thin = True
            self._resolver.resolve(processes=processes)
        _check_all_made(entries, named)
        if is_thin:
            checksum = self._seal()
        self._stream.flush()
        tell("checking links")
        beside = self._path.with_suffix(".idx")
        is_worth_it = processes > 1 and count >= packresolve.SHARE_FROM
        with meanwhile(lambda: self._check(store, count), in_child=is_worth_it):
            write_index(beside, entries, checksum)
        final = self._folder / f"pack-{checksum.hex()}"
        # The index is what makes git look for a pack, so it comes last.
        self._path.rename(final.with_suffix(".pack"))
        beside.rename(final.with_suffix(".idx"))
        sync_folder(self._folder)
        return count

    def _check(self, store: DiskObjectStore, count: int) -> None:
        """Whether it may become part of the repository; and that it is on the disk."""
        _check_links(self._resolver.links, self._scan.entries, store)
        self._check_collisions(store, count)
        os.fsync(self._stream.fileno())

    def _check_collisions(self, store: DiskObjectStore, count: int) -> None:
        """What came under a name that we hold must be what we hold; only its own hash could be made to lie.

        Of what is too large to be made in memory only the name is known.
        """
        if not store.packs:
            return
        entries = self._scan.entries
        for begin in range(0, count, _AT_A_TIME):
            end = min(begin + _AT_A_TIME, count)
            some = {ObjectID(entries.name(at).hex().encode("ascii")): at for at in range(begin, end)}
            self._check_same(store, {name: some[name] for name in present(store, some)})

    def _check_same(self, store: DiskObjectStore, places: Mapping[ObjectID, int]) -> None:
        entries = self._scan.entries
        for identifier, at in places.items():
            if (content := self._resolver.content(at)) is None:
                continue
            if store.get_raw(identifier) != (entries.kinds[at], content):
                raise GitFailed(
                    f"the server sent another object as {identifier.decode('ascii')}, which is held: "
                    "a collision of SHA-1; nothing was changed"
                )

    def _append_bases(self, store: DiskObjectStore) -> bool:
        """Append those objects of ours that deltas of a thin pack are made from; were there any?"""
        entries, before = self._scan.entries, len(self._scan.entries)
        self._stream.seek(entries.end)
        for name in list(entries.by_name):
            try:
                kind, data = store.get_raw(ObjectID(name.hex().encode("ascii")))
            except KeyError:
                continue
            head = header(kind, len(data))
            entry = head + zlib.compress(data)
            self._stream.write(entry)
            at = entries.add(kind, entries.end, entries.end + len(head), len(data), zlib.crc32(entry), name)
            entries.done[at] = 1
            entries.end += len(entry)
        self._stream.flush()
        return len(entries) > before

    def _seal(self) -> bytes:
        """Write the count and checksum of a pack that was completed."""
        stream, entries = self._stream, self._scan.entries
        stream.seek(8)
        stream.write(struct.pack(">L", len(entries)))
        stream.seek(0)
        digest, left = hashlib.sha1(usedforsecurity=False), entries.end
        while left and (chunk := stream.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        stream.write(digest.digest())
        stream.truncate()
        return digest.digest()


def present(store: DiskObjectStore, names: Iterable[ObjectID]) -> set[ObjectID]:
    """Those of `names` that are in `store`. dulwich looks for new packs for each that it does not find."""
    packs = list(store.packs)
    has_loose = any(len(one.name) == 2 for one in Path(store.path).iterdir())
    return {
        one
        for one in names
        if any(one in pack for pack in packs) or (has_loose and store.contains_loose(one))
    }


def _check_all_made(entries: Entries, named: Set[bytes]) -> None:
    """Every delta must be made, and those of a base that was `named` from one that is there but once: whoever
    looks for it by its name might find what was made from it."""
    left = sum(1 for kind in entries.kinds[: len(entries)] if kind not in WORDS)
    if left:
        raise PackDamaged(f"{left} of its deltas are made from objects that nobody has")
    if named:
        bases = [name for _, name in _names(entries, 0, 256) if name in named]
        if len(bases) > len(named):
            raise PackDamaged("what some of its deltas are made from comes more than once")


def _ranges(count: int) -> Iterator[tuple[int, int]]:
    """Ranges of a name's first byte, each with no more than `TOGETHER` of `count` names or so."""
    step = max(1, 256 * TOGETHER // max(count, TOGETHER))
    return ((first, min(first + step, 256)) for first in range(0, 256, step))


def _names(entries: Indexed, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """The places and names of the entries whose names' first byte is from `first` on and before `stop`."""
    count, is_every = len(entries), stop - first == 256
    for begin in range(0, count, _AT_A_TIME):
        names = bytes(entries.names[20 * begin : 20 * min(begin + _AT_A_TIME, count)])
        every = enumerate([names[at : at + 20] for at in range(0, len(names), 20)], start=begin)
        yield from every if is_every else (one for one in every if first <= one[1][0] < stop)


def _check_links(links: Callable[[], Iterator[bytes]], entries: Entries, store: DiskObjectStore) -> None:
    """Every link must have its target: in the pack that came, or in what was there before it."""
    for first, stop in _ranges(len(entries)):
        known = {name for _, name in _names(entries, first, stop)}
        for chunk in links():
            found = {chunk[at : at + 20] for at in range(0, len(chunk), 20)}
            for name in found - known:
                if first <= name[0] < stop and ObjectID(name.hex().encode("ascii")) not in store:
                    raise GitFailed(
                        f"the server left out {name.hex()}, which others need; nothing was changed"
                    )


class Indexed(Protocol):
    """What an index tells of each entry; `names` holds twenty bytes for each."""

    @property
    def names(self) -> bytearray | memoryview: ...
    @property
    def offsets(self) -> array[int] | memoryview: ...
    @property
    def crcs(self) -> array[int] | memoryview: ...
    def __len__(self) -> int: ...


def write_index(path: Path, entries: Indexed, checksum: bytes) -> None:
    """Write the index (version 2) of a pack to the new file `path`, and fsync it.

    It is what `git index-pack` would write, byte for byte.
    """
    count = len(entries)
    counts = Counter(bytes(entries.names[: 20 * count : 20]))
    fans = list(accumulate(counts[byte] for byte in range(256)))
    order = array("I")
    digest = hashlib.sha1(usedforsecurity=False)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:

        def put(data: bytes | bytearray) -> None:
            digest.update(data)
            stream.write(data)

        put(b"\xfftOc\x00\x00\x00\x02" + struct.pack(">256L", *fans))
        for first, stop in _ranges(count):
            names = dict(_names(entries, first, stop))
            part = sorted(names, key=names.__getitem__)
            order.extend(part)
            put(b"".join([names[at] for at in part]))
            del names, part
        parts = [order[at : at + _AT_A_TIME] for at in range(0, count, _AT_A_TIME)]
        crcs, offsets, large = entries.crcs, entries.offsets, array("Q")
        for some in parts:
            put(_big_endian(array("I", [crcs[at] for at in some])))
        for some in parts:
            small = array("I")
            for at in some:
                offset = offsets[at]
                if offset > _SMALL_MAX:
                    small.append(0x80000000 | len(large))
                    large.append(offset)
                else:
                    small.append(offset)
            put(_big_endian(small))
        put(_big_endian(large))
        put(checksum)
        stream.write(digest.digest())
        stream.flush()
        os.fsync(stream.fileno())


def _big_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()
