"""Which LFS objects a repository's refs reach, found by walking as little as possible.

Where there is no pointer in any pack nothing is walked. Else trees are walked from the refs, and what
was found is remembered by the names of the packs and the values of the refs: as long as refs are only
added, or replaced by what follows them, only what came in new packs is walked. Where a value went (its
commits were let go) all is walked again. The cache is a cache: lost or damaged, it is made again.
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
from mirror.git.pack.index import ObjectSet, PackIndex
from mirror.git.pack.names import packs_in
from mirror.git.refs import closed_after, open_repository, read_all
from mirror.git.walk import all_links, history, raw, walk
from mirror.git.workers.job import OnProgress, no_progress

# Below the repository: objects as git-lfs keeps them, and what we use_cache of the walk.
LFS = "lfs"
CACHE = f"{LFS}/pointers.cache"
# Up to version 0.4. It is no JSON: a checksum stands before it.
_FORMER_CACHE = f"{LFS}/pointers.json"

_SCHEMA = 2

# What a damaged pack or object may raise, in our readers and in dulwich's.
_UNREADABLE = (
    PackDamaged, ValueError, KeyError, IndexError, AssertionError, struct.error, zlib.error, ApplyDeltaError,
    ObjectFormatException, ChecksumMismatch,
)  # fmt: skip

ObjectSizes = Mapping[str, tuple[int, ...]]


@dataclass
class _Cache:
    """The pointers of each pack, and those that refs of these values were found to reach."""

    packs: dict[str, list[Pointer]] = field(default_factory=dict)
    tips: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)


def reachable_objects(
    path: Path,
    tips: Collection[str] | None = None,
    *,
    use_cache: bool = False,
    progress: OnProgress = no_progress,
) -> ObjectSizes:
    """Every LFS object that the refs of the repository at `path` reach, ours included; or that the
    hashes `tips` reach. By its sha256: the sizes that pointers give it, one where none of them lies.

    With `use_cache`, what was found is kept for the next time (all refs only). Raises GitFailed where
    the repository is damaged, and OSError.
    """
    cache = _read_cache(path)
    packs = {pack.stem: pack for pack in packs_in(path / "objects" / "pack")}
    known = {stem: cache.packs[stem] for stem in packs if stem in cache.packs}
    new = {stem: pack for stem, pack in sorted(packs.items()) if stem not in known}
    try:
        scanned = {stem: pointers_of_pack(pack) for stem, pack in new.items()}
        loose = list(pointers_of_loose(path / "objects"))
        pointers = {
            one.blob: one for several in (*known.values(), *scanned.values(), loose) for one in several
        }
        state = _Cache({**known, **scanned})
        if pointers:
            state.tips = set(read_all(path).values() if tips is None else tips)
            progress("looking for LFS objects")
            state.found = _reached(path, state.tips, pointers, cache, new.values(), is_all=tips is None)
    except _UNREADABLE as error:
        raise GitFailed(f"{path.name}: LFS objects could not be looked for: {error}") from error
    if use_cache and tips is None and (state != cache or not (path / CACHE).exists()):
        _write_cache(path, state)
    sizes: dict[str, set[int]] = {}
    for blob in state.found:
        sizes.setdefault(pointers[blob].oid, set()).add(pointers[blob].size)
    return {oid: tuple(sorted(several)) for oid, several in sorted(sizes.items())}


def drop_cache(path: Path) -> None:
    """Drop what is remembered of a repository: its packs are others now."""
    for name in (CACHE, _FORMER_CACHE):
        (path / name).unlink(missing_ok=True)


def _reached(
    path: Path,
    tips: set[str],
    pointers: Mapping[str, Pointer],
    cache: _Cache,
    new_packs: Iterable[Path],
    *,
    is_all: bool,
) -> set[str]:
    """The blobs of `pointers` that `tips` (the values of all refs, where `is_all`) reach."""
    with ExitStack() as stack:
        fresh = ObjectSet()
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
        if cache.packs and not any(cache.packs.values()):
            # What was there before reaches no pointer, whatever refs there were.
            return _walk(store, tips, wanted, lambda name: name in fresh)
        added = tips - cache.tips
        is_more = (
            is_all and cache.found <= pointers.keys() and all(bytes.fromhex(tip) in fresh for tip in added)
        )
        if cache.packs and is_more and _still_reached(store, tips, cache.tips - tips):
            return cache.found | _walk(store, added, wanted, lambda name: name in fresh)
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


def _read_cache(path: Path) -> _Cache:
    """What was remembered; nothing where that is not there, or not what was written."""
    try:
        head, _, data = (path / CACHE).read_bytes().partition(b"\n")
        if head.decode("ascii", "replace") != hashlib.sha256(data).hexdigest():
            return _Cache()
        content = json.loads(data)
        if content["schema"] != _SCHEMA:
            return _Cache()
        packs = {stem: [Pointer(*one) for one in several] for stem, several in content["packs"].items()}
        return _Cache(packs, set(content["tips"]), set(content["found"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _Cache()


def _write_cache(path: Path, cache: _Cache) -> None:
    content = {
        "schema": _SCHEMA,
        "packs": {stem: cache.packs[stem] for stem in sorted(cache.packs)},
        "tips": sorted(cache.tips),
        "found": sorted(cache.found),
    }
    data = json.dumps(content).encode("ascii")
    folder = path / LFS
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        sync_folder(path)
    write_file(path / CACHE, hashlib.sha256(data).hexdigest().encode("ascii") + b"\n" + data)
    (path / _FORMER_CACHE).unlink(missing_ok=True)
