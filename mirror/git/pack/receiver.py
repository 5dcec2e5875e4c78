"""Receiving a pack from a server: nothing is published before all of it is checked. Refs move afterwards,
elsewhere.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import closing
from pathlib import Path

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID

from mirror.fs.durable import create_file, move, sync_stream
from mirror.git.failures import GitFailed
from mirror.git.objects import TYPE_NAMES, present
from mirror.git.pack.entries import EntryTable
from mirror.git.pack.format import PIECE_BYTES, PackDamaged, entry_header
from mirror.git.pack.index import oid_ranges, oids_in_range, write_index
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from mirror.git.pack.names import packs_without_index
from mirror.git.pack.publish import (
    discard_pack,
    new_pack_path,
    publish,
    seal,
    sweep_leftovers,
)
from mirror.git.pack.resolver import Resolver
from mirror.git.pack.scanner import PackScanner
from mirror.git.processes.fork import meanwhile


def sweep(repository: Path, limits: PackLimits = DEFAULT_LIMITS) -> None:
    """Clean up after an interrupted writer; the caller holds the writer's lock.

    Temporary files are removed. A pack that was published without its index gets one.
    """
    sweep_leftovers(repository)
    for pack in packs_without_index(repository / "objects" / "pack"):
        _index_pack(pack, limits)


def _index_pack(pack: Path, limits: PackLimits) -> None:
    """Write the index of a local pack that has none.

    The pack was published first and whole, and may hold the only copy of its objects, so it is never
    removed. A damaged one is logged and stays without index, as verify reports.
    """
    beside = new_pack_path(pack.parent).with_suffix(".idx")
    try:
        with open(os.devnull, "wb") as nowhere, closing(PackScanner(nowhere, pack.parent, limits)) as scanner:  # noqa: PTH123
            with pack.open("rb") as stream:
                while chunk := stream.read(PIECE_BYTES):
                    scanner.write(chunk)
            checksum, ref_bases = scanner.finish(), frozenset(scanner.entries.ref_deltas)
            with closing(Resolver(pack, scanner.entries, limits)) as resolver:
                resolver.resolve(processes=1)
            _check_all_resolved(scanner.entries, ref_bases, limits)
            write_index(beside, scanner.entries, checksum, limits)
        move(beside, pack.with_suffix(".idx"))
    except GitFailed as error:
        # What a log takes to import is a third of what a worker takes to start.
        from mirror.logs import get_logger

        problem = f"the local pack is damaged: {error.message}"
        get_logger("git").warning("git.pack_without_index", file=pack.name, problem=problem)
    finally:
        beside.unlink(missing_ok=True)


class PackReceiver:
    """A pack that is being received into the object folder `objects`. A context manager: a pack that was not
    published is removed at its end.

    `write` takes its bytes as they come; `publish` makes it part of the repository. Both raise PackDamaged,
    which says that it is the server's pack.
    """

    def __init__(self, objects: Path, limits: PackLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._folder = objects / "pack"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = new_pack_path(self._folder)
        self._stream = create_file(self._path)
        self._scanner = PackScanner(self._stream, self._folder, limits)
        self._resolver = Resolver(self._path, self._scanner.entries, limits)

    def __enter__(self) -> PackReceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._resolver.close()
        self._scanner.close()
        self._stream.close()
        discard_pack(self._path)

    @property
    def received(self) -> int:
        """How many bytes have arrived."""
        return self._scanner.received

    @property
    def objects(self) -> int:
        """How many objects have arrived."""
        return len(self._scanner.entries)

    @property
    def expected(self) -> int | None:
        """How many objects the pack has; None before its header has arrived."""
        return self._scanner.count

    def links(self) -> Iterator[bytes]:
        """See Resolver."""
        return self._resolver.links()

    def write(self, data: bytes) -> int:
        """Take the next bytes; returns how many there are."""
        try:
            before, size = len(self._scanner.entries), self._scanner.write(data)
            if len(self._scanner.entries) > before and self._resolver.can_resolve_ahead():
                self._stream.flush()
                self._resolver.resolve_ahead()
        except PackDamaged as error:
            raise _of_server(error) from error
        return size

    def publish(self, store: DiskObjectStore, *, processes: int, progress: Callable[[str], None]) -> int:
        """Check the whole pack, complete it if thin, and publish it with its index; returns how many objects
        arrived.

        Every object is hashed and every delta resolved, and each link of its commits, trees and tags must
        have its target in the pack or in `store`. Raises GitFailed where something is missing; then nothing
        is changed.
        """
        try:
            checksum = self._complete(store, processes, progress)
        except PackDamaged as error:
            raise _of_server(error) from error
        if checksum is None:
            return 0
        progress("checking links")
        is_large = processes > 1 and self._count >= self._limits.parallel_min_entries
        with meanwhile(lambda: self._check(store), in_child=is_large):
            write_index(self._path.with_suffix(".idx"), self._scanner.entries, checksum, self._limits)
        publish(self._path, checksum)
        return self._count

    def _complete(
        self, store: DiskObjectStore, processes: int, progress: Callable[[str], None]
    ) -> bytes | None:
        """Resolve all deltas, and append the bases that a thin pack lacks; returns the checksum, or None
        where the pack is empty."""
        checksum, entries = self._scanner.finish(), self._scanner.entries
        self._count, ref_bases = len(entries), frozenset(entries.ref_deltas)
        if self._count == 0:
            return None
        self._stream.flush()
        progress(f"resolving deltas of {self._count} objects")
        self._resolver.resolve(processes=processes)
        while entries.ref_deltas and self._append_bases(store):
            self._resolver.resolve(processes=processes)
        _check_all_resolved(entries, ref_bases, self._limits)
        if len(entries) > self._count:
            checksum = seal(self._stream, len(entries), entries.end)
        return checksum

    def _append_bases(self, store: DiskObjectStore) -> bool:
        """Append the objects of `store` that are delta bases of a thin pack; returns whether any are."""
        entries, before = self._scanner.entries, len(self._scanner.entries)
        self._stream.seek(entries.end)
        for oid in list(entries.ref_deltas):
            try:
                type_num, content = store.get_raw(ObjectID(oid.hex().encode("ascii")))
            except KeyError:
                continue
            header = entry_header(type_num, len(content))
            entry = header + zlib.compress(content)
            self._stream.write(entry)
            start = entries.end + len(header)
            at = entries.add(type_num, entries.end, start, len(content), zlib.crc32(entry), oid)
            entries.done[at] = 1
            entries.end += len(entry)
        self._stream.flush()
        return len(entries) > before

    def _check(self, store: DiskObjectStore) -> None:
        """Check that the pack may become part of the repository, and sync it."""
        _check_links(self._resolver.links, self._scanner.entries, store, self._limits)
        self._check_collisions(store)
        sync_stream(self._stream)

    def _check_collisions(self, store: DiskObjectStore) -> None:
        """An object that arrived under an id of `store` must be the same; only a SHA-1 collision is not.

        Objects that are too large for memory are not compared.
        """
        if not store.packs:
            return
        entries, step = self._scanner.entries, self._limits.names_per_chunk
        for begin in range(0, self._count, step):
            chunk = range(begin, min(begin + step, self._count))
            places = {ObjectID(entries.oid(at).hex().encode("ascii")): at for at in chunk}
            self._check_same(store, {oid: places[oid] for oid in present(store, places)})

    def _check_same(self, store: DiskObjectStore, places: Mapping[ObjectID, int]) -> None:
        for oid, at in places.items():
            if (content := self._resolver.content(at)) is None:
                continue
            if store.get_raw(oid) != (self._scanner.entries.types[at], content):
                raise GitFailed(
                    f"the server sent another object as {oid.decode('ascii')}, which the mirror has: "
                    "a collision of SHA-1; nothing was changed"
                )


def _of_server(error: PackDamaged) -> PackDamaged:
    return PackDamaged(f"the server's pack is damaged: {error.message}")


def _check_all_resolved(entries: EntryTable, ref_bases: Set[bytes], limits: PackLimits) -> None:
    """Every delta must be resolved, and each object that was a base of ref-deltas (`ref_bases`) must be there
    once: whoever looks for it by its id might otherwise find what depends on it."""
    unresolved = sum(1 for type_num in entries.types[: len(entries)] if type_num not in TYPE_NAMES)
    if unresolved:
        raise PackDamaged(f"the delta bases of {unresolved} entries are missing")
    if ref_bases:
        bases = [oid for _, oid in oids_in_range(entries, 0, 256, limits) if oid in ref_bases]
        if len(bases) > len(ref_bases):
            raise PackDamaged("a base of ref-deltas is in the pack more than once")


def _check_links(
    links: Callable[[], Iterator[bytes]], entries: EntryTable, store: DiskObjectStore, limits: PackLimits
) -> None:
    """Every link must have its target: in the pack, or in what was there before it."""
    for first, stop in oid_ranges(len(entries), limits):
        known = {oid for _, oid in oids_in_range(entries, first, stop, limits)}
        for chunk in links():
            found = {chunk[at : at + 20] for at in range(0, len(chunk), 20)}
            for oid in found - known:
                if first <= oid[0] < stop and ObjectID(oid.hex().encode("ascii")) not in store:
                    raise GitFailed(
                        f"the server left out {oid.hex()}, which other objects need; nothing was changed"
                    )
