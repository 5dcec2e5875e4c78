"""Which LFS objects a repository's refs reach, found by walking as little as possible.

Where there is no pointer in any pack nothing is walked. Else trees are walked from the refs, and what
was found is remembered by the names of the packs and the values of the refs: as long as refs are only
added, or replaced by what follows them, only what came in new packs is walked. Where a value went (its
commits were let go) all is walked again. The memory is a cache: lost or damaged, it is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.errors import ApplyDeltaError, ChecksumMismatch, ObjectFormatException
from dulwich.object_store import DiskObjectStore

from mirror.fs.durable import sync_folder, write_file
from mirror.git.failures import GitFailed
from mirror.git.lfs.pointers import Pointer, pointers_of_loose, pointers_of_pack
from mirror.git.pack.format import PackDamaged
from mirror.git.pack.names import packs_in
from mirror.git.pack.reader import Links, PackIndex
from mirror.git.refs import closed_after, open_repository, read_all
from mirror.git.walk import all_links, history, raw, walk
from mirror.git.workers.job import Tell

# Below the repository: objects as git-lfs keeps them, and what we remember of the walk.
LFS = "lfs"
MEMORY = f"{LFS}/pointers.cache"
# Up to version 0.4. It is no JSON: a checksum stands before it.
_FORMER_MEMORY = f"{LFS}/pointers.json"

_SCHEMA = 2

# What a damaged pack or object may raise, in our readers and in dulwich's.
_UNREADABLE = (
    PackDamaged, ValueError, KeyError, IndexError, AssertionError, struct.error, zlib.error, ApplyDeltaError,
    ObjectFormatException, ChecksumMismatch,
)  # fmt: skip

Found = Mapping[str, tuple[int, ...]]


@dataclass
class _Memory:
    """The pointers of each pack, and those that refs of these values were found to reach."""

    packs: dict[str, list[Pointer]] = field(default_factory=dict)
    tips: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)


def objects_reached(
    path: Path, tips: Collection[str] | None = None, *, remember: bool = False, tell: Tell = lambda _: None
) -> Found:
    """Every LFS object that the refs of the repository at `path` reach, ours included; or that the
    hashes `tips` reach. By its sha256: the sizes that pointers give it, one where none of them lies.

    With `remember`, what was found is kept for the next time (all refs only). Raises GitFailed where
    the repository is damaged, and OSError.
    """
    memory = _recall(path)
    packs = {pack.stem: pack for pack in packs_in(path / "objects" / "pack")}
    known = {stem: memory.packs[stem] for stem in packs if stem in memory.packs}
    new = {stem: pack for stem, pack in sorted(packs.items()) if stem not in known}
    try:
        scanned = {stem: pointers_of_pack(pack) for stem, pack in new.items()}
        loose = list(pointers_of_loose(path / "objects"))
        pointers = {
            one.blob: one for several in (*known.values(), *scanned.values(), loose) for one in several
        }
        state = _Memory({**known, **scanned})
        if pointers:
            state.tips = set(read_all(path).values() if tips is None else tips)
            tell("looking for LFS objects")
            state.found = _reached(path, state.tips, pointers, memory, new.values(), is_all=tips is None)
    except _UNREADABLE as error:
        raise GitFailed(f"{path.name}: LFS objects could not be looked for: {error}") from error
    if remember and tips is None and (state != memory or not (path / MEMORY).exists()):
        _remember(path, state)
    sizes: dict[str, set[int]] = {}
    for blob in state.found:
        sizes.setdefault(pointers[blob].oid, set()).add(pointers[blob].size)
    return {oid: tuple(sorted(several)) for oid, several in sorted(sizes.items())}


def forget(path: Path) -> None:
    """Drop what is remembered of a repository: its packs are others now."""
    for name in (MEMORY, _FORMER_MEMORY):
        (path / name).unlink(missing_ok=True)


def _reached(
    path: Path,
    tips: set[str],
    pointers: Mapping[str, Pointer],
    memory: _Memory,
    new_packs: Iterable[Path],
    *,
    is_all: bool,
) -> set[str]:
    """The blobs of `pointers` that `tips` (the values of all refs, where `is_all`) reach."""
    with ExitStack() as stack:
        fresh = Links()
        for pack in new_packs:
            index = PackIndex(pack.with_suffix(".idx"))
            stack.callback(index.close)
            fresh.add_index(index)
        for file in (path / "objects").glob("[0-9a-f][0-9a-f]/*"):
            with contextlib.suppress(ValueError):
                fresh.add_loose(bytes.fromhex(file.parent.name + file.name))
        repository = stack.enter_context(closed_after(open_repository(path)))
        store = repository.object_store
        wanted = {bytes.fromhex(blob) for blob in pointers}
        if memory.packs and not any(memory.packs.values()):
            # What was there before reaches no pointer, whatever refs there were.
            return _walk(store, tips, wanted, lambda name: name in fresh)
        added = tips - memory.tips
        is_more = (
            is_all and memory.found <= pointers.keys() and all(bytes.fromhex(tip) in fresh for tip in added)
        )
        if memory.packs and is_more and _still_reached(store, tips, memory.tips - tips):
            return memory.found | _walk(store, added, wanted, lambda name: name in fresh)
        return _walk(store, tips, wanted, lambda _: True)


def _walk(
    store: DiskObjectStore, tips: Iterable[str], wanted: set[bytes], is_new: Callable[[bytes], bool]
) -> set[str]:
    """The blobs among `wanted` that `tips` reach, without reading objects that are not new."""
    found: set[bytes] = set()

    def look(names: Iterable[bytes]) -> list[bytes]:
        """Note the names that are wanted; returns the others that are new."""
        others = []
        for name in names:
            if name in wanted:
                found.add(name)
            elif is_new(name):
                others.append(name)
        return others

    def links(kind: int, data: bytes) -> list[bytes]:
        blobs, others = all_links(kind, data)
        found.update(wanted.intersection(blobs))
        return look(others)

    for _ in walk(store, look(raw(sorted(tips))), links):
        pass
    return {name.hex() for name in found}


def _still_reached(store: DiskObjectStore, tips: Iterable[str], before: set[str]) -> bool:
    """Whether `tips` reach all the values that refs had `before`, by commits and tags alone: then they
    reach all that those did."""
    left = {bytes.fromhex(value) for value in before}
    for name in history(store, tips) if left else ():
        left.discard(name)
        if not left:
            break
    return not left


def _recall(path: Path) -> _Memory:
    """What was remembered; nothing where that is not there, or not what was written."""
    try:
        head, _, data = (path / MEMORY).read_bytes().partition(b"\n")
        if head.decode("ascii", "replace") != hashlib.sha256(data).hexdigest():
            return _Memory()
        content = json.loads(data)
        if content["schema"] != _SCHEMA:
            return _Memory()
        packs = {stem: [Pointer(*one) for one in several] for stem, several in content["packs"].items()}
        return _Memory(packs, set(content["tips"]), set(content["found"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _Memory()


def _remember(path: Path, memory: _Memory) -> None:
    content = {
        "schema": _SCHEMA,
        "packs": {stem: memory.packs[stem] for stem in sorted(memory.packs)},
        "tips": sorted(memory.tips),
        "found": sorted(memory.found),
    }
    data = json.dumps(content).encode("ascii")
    folder = path / LFS
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        sync_folder(path)
    write_file(path / MEMORY, hashlib.sha256(data).hexdigest().encode("ascii") + b"\n" + data)
    (path / _FORMER_MEMORY).unlink(missing_ok=True)
