"""Which LFS objects a repository's refs reach, with as little walking as possible.

Where no pack has a pointer, nothing is walked. Else the trees are walked from the refs, and the result is
cached by pack names and ref values. While refs are only added or fast-forwarded, only objects in new packs
are walked. Where a former ref value is not reachable any more, everything is walked again. A missing or
damaged cache is rebuilt.
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

# Below the repository: the folder of git-lfs, and the cache of the walk.
LFS = "lfs"
CACHE = f"{LFS}/pointers.cache"
# The cache of versions up to 0.4, which is replaced. Its first line is a checksum.
_FORMER_CACHE = f"{LFS}/pointers.json"

_SCHEMA = 2

# What our readers and dulwich's may raise for a damaged pack or object.
_UNREADABLE = (
    PackDamaged, ValueError, KeyError, IndexError, AssertionError, struct.error, zlib.error, ApplyDeltaError,
    ObjectFormatException, ChecksumMismatch,
)  # fmt: skip

ObjectSizes = Mapping[str, tuple[int, ...]]


@dataclass
class _Cache:
    """The pointers of each pack by its stem; the values of all refs; and the pointers that these reach."""

    packs: dict[str, list[Pointer]] = field(default_factory=dict)
    tips: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)


def reachable_objects(
    path: Path,
    tips: Collection[str] | None = None,
    *,
    save_cache: bool = False,
    progress: OnProgress = no_progress,
) -> ObjectSizes:
    """The LFS objects that the refs of the repository at `path` reach, those below `refs/mirror/` included;
    or those that the hashes `tips` reach. For each sha256 the sizes in its pointers: one, unless they differ.

    With `save_cache` the result is cached (for all refs only). Raises GitFailed where the repository is
    damaged, and OSError.
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
            progress("searching for LFS objects")
            state.found = _reached(path, state.tips, pointers, cache, new.values(), is_all=tips is None)
    except _UNREADABLE as error:
        raise GitFailed(f"{path.name}: the search for LFS objects failed: {error}") from error
    if save_cache and tips is None and (state != cache or not (path / CACHE).exists()):
        _write_cache(path, state)
    sizes: dict[str, set[int]] = {}
    for blob in state.found:
        sizes.setdefault(pointers[blob].oid, set()).add(pointers[blob].size)
    return {oid: tuple(sorted(several)) for oid, several in sorted(sizes.items())}


def drop_cache(path: Path) -> None:
    """Remove the cache of a repository whose packs were rewritten."""
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
            # The objects of the packs that were there before reach no pointer.
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

    def to_walk(names: Iterable[bytes]) -> list[bytes]:
        """Add the wanted names to `found`; returns the others that are new."""
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
        return to_walk(others)

    for _ in walk(store, to_walk(raw(sorted(tips))), links):
        pass
    return {name.hex() for name in found}


def _still_reached(store: DiskObjectStore, tips: Iterable[str], before: set[str]) -> bool:
    """Whether `tips` reach all former ref values `before` by commits and tags: then they reach all that those
    did."""
    left = {bytes.fromhex(value) for value in before}
    for name in history(store, tips) if left else ():
        left.discard(name)
        if not left:
            break
    return not left


def _read_cache(path: Path) -> _Cache:
    """The cache; an empty one where it is missing or damaged."""
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
