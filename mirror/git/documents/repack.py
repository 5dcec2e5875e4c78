"""Keeping the packs of a repository of documents few and small.

Each snapshot and each checkpoint is a pack of its own. Every pack costs each reader two open files, so a
thousand of them would be more than a process may open. When packs are merged, each document and each folder
becomes a delta on its next version at the same path; the newest is undeltified. A pack with many objects is
not merged again, so neither time nor memory grows with the repository.
"""

from __future__ import annotations

import stat
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dulwich.object_store import PackCapableObjectStore
from dulwich.objects import Commit, ObjectID, Tree
from dulwich.pack import create_delta

from mirror.git.failures import GitFailed
from mirror.git.objects import COMMIT, hash_object
from mirror.git.pack.format import HEADER_BYTES, PackDamaged, read_pack_header
from mirror.git.pack.index import PackIndex
from mirror.git.pack.names import indexes_without_pack, unkept_packs_in
from mirror.git.pack.publish import remove_packs
from mirror.git.pack.reader import PackFile
from mirror.git.pack.writer import PackWriter
from mirror.git.refs import close, open_repository

PACKS_MAX = 50
# About so many objects are merged at a time; a pack of half as many is large.
OBJECTS_MAX = 20_000
# The deepest chain of deltas below the newest version, as C git's default is.
DEPTH_MAX = 50
# Larger objects are never deltas.
DELTA_BYTES_MAX = 16 << 20
# Objects that were read lately are kept, up to so many bytes.
CACHE_BYTES = 32 << 20


def consolidate(path: Path, *, packs_max: int = PACKS_MAX) -> int:
    """Merge the small packs of the repository at `path` where it has more than `packs_max` of them.

    Returns how many packs were merged. Every object is read and hashed on the way, and the old packs are
    removed only when the new one is durable, so a kill at any point loses nothing. The caller holds the
    writer's lock; readers find each object in the old place or the new. Raises GitFailed where a pack is
    damaged: nothing is removed then.
    """
    folder = path / "objects" / "pack"
    if lone := indexes_without_pack(folder):  # the rest of a merge that was interrupted
        remove_packs(folder, [index.with_suffix(".pack") for index in lone])
    # A pack without an index is left alone: it may hold the only copy of its objects.
    packs = [
        _Pack(pack, pack.stat().st_size, objects)
        for pack in unkept_packs_in(folder)
        if (objects := _object_count(pack)) <= OBJECTS_MAX // 2
    ]
    if len(packs) <= packs_max:
        return 0
    chosen = _choose(packs, packs_max)
    new = _merge(path, chosen)
    if not new:
        return 0
    remove_packs(folder, [pack for pack in chosen if pack.stem != new])
    return len(chosen)


@dataclass(frozen=True)
class _Pack:
    """A pack that may be merged."""

    path: Path
    size: int
    objects: int


def _object_count(pack: Path) -> int:
    """How many objects a pack states that it has. Raises GitFailed where it is not one."""
    with pack.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    try:
        return read_pack_header(head)
    except PackDamaged as error:
        raise GitFailed(f"{pack.name} is damaged: {error}") from error


def _choose(packs: list[_Pack], packs_max: int) -> list[Path]:
    """The smallest packs; a large one is copied only when the smaller ones together come near its size, so
    that each byte is copied a few times in all its life."""
    chosen: list[Path] = []
    size = objects = 0
    for pack in sorted(packs, key=lambda one: (one.size, one.path)):
        if len(chosen) > packs_max // 2 and pack.size > 2 * size:
            break
        if len(chosen) > 1 and objects + pack.objects > OBJECTS_MAX:
            break
        chosen.append(pack.path)
        size, objects = size + pack.size, objects + pack.objects
    return chosen


def _merge(path: Path, packs: list[Path]) -> str:
    """Write the objects of `packs` into one new pack; returns its name without suffix."""
    writer = PackWriter(path / "objects")
    repository = open_repository(path)
    try:
        ids: list[str] = []
        commits: list[str] = []
        for pack in packs:
            with (
                closing(PackIndex(pack.with_suffix(".idx"))) as index,
                closing(PackFile(pack, index)) as file,
            ):
                for at in range(len(file)):
                    ids.append(file.oid(at).hex())
                    if file.header(at)[0] == COMMIT:  # our commits are never deltas
                        commits.append(ids[-1])
        write_versions(repository.object_store, writer, ids, commits)
        return writer.publish()
    except (OSError, MemoryError):
        raise
    except PackDamaged as error:
        raise GitFailed(f"{path.name}: a pack is damaged: {error}") from error
    except GitFailed:
        raise
    except Exception as error:
        raise GitFailed(f"{path.name}: a pack is damaged: {type(error).__name__}: {error}") from error
    finally:
        writer.discard()
        close(repository)


def write_versions(
    store: PackCapableObjectStore, writer: PackWriter, ids: list[str], commits: list[str]
) -> None:
    """Write the objects `ids` into a pack, each as a delta on its next version where that is among them.

    `commits` has all commits, and may have other objects: commits show which version came after which. Each
    object is hashed on its way. Raises GitFailed where one is missing or damaged.
    """
    objects = _ObjectCache(store)
    _VersionWriter(objects, writer, _next_versions(objects, set(ids), commits)).write(ids)


class _ObjectCache:
    """Reads objects and hashes them. Those that were read lately are kept."""

    def __init__(self, store: PackCapableObjectStore) -> None:
        self._store = store
        self._recent: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._cached = 0

    def read(self, identifier: str) -> tuple[int, bytes]:
        """The type and the content of an object. Raises GitFailed where it is missing or damaged."""
        if (known := self._recent.get(identifier)) is not None:
            return known
        problem = ""
        try:
            type_num, content = self._store.get_raw(ObjectID(identifier.encode("ascii")))
        except KeyError:
            problem = "is missing"
        except (OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - damage raises anything
            problem = f"is damaged: {type(error).__name__}: {error}"
        if problem:
            # Raised here and not above: the traceback would hold dulwich's view of the pack, which could
            # then not be closed.
            raise GitFailed(f"object {identifier} {problem}")
        if hash_object(type_num, content).hex() != identifier:
            raise GitFailed(f"object {identifier} is damaged")
        self._recent[identifier] = type_num, content
        self._cached += len(content)
        while self._cached > CACHE_BYTES and len(self._recent) > 1:
            self._cached -= len(self._recent.popitem(last=False)[1][1])
        return type_num, content


def _next_versions(objects: _ObjectCache, ids: set[str], commits: list[str]) -> dict[str, str]:
    """Which of the objects `ids` was replaced by which, at the same path, commit by commit."""
    versions = _Versions(objects, ids)
    for identifier in commits:
        type_num, content = objects.read(identifier)
        if type_num != COMMIT:
            continue
        commit = Commit.from_string(content)
        for parent in commit.parents[:1]:
            if (text := parent.decode("ascii")) in ids:
                before = Commit.from_string(objects.read(text)[1])
                versions.compare(before.tree.decode("ascii"), commit.tree.decode("ascii"))
    return versions.following


class _Versions:
    """Compares versions of folders; `following` has the next version of each object that was replaced."""

    def __init__(self, objects: _ObjectCache, ids: set[str]) -> None:
        self._objects, self._ids = objects, ids
        self.following: dict[str, str] = {}

    def compare(self, old: str, new: str) -> None:
        """Compare two versions of a folder, and what is in them."""
        ids, following = self._ids, self.following
        if old == new or old not in ids or new not in ids or old in following:
            return
        following[old] = new
        after = self._level(new)
        for name, (mode, value) in self._level(old).items():
            new_mode, new_value = after.get(name, (mode, value))
            if new_value == value:
                continue
            if stat.S_ISDIR(mode) and stat.S_ISDIR(new_mode):
                self.compare(value, new_value)
            elif value in ids and new_value in ids:
                following.setdefault(value, new_value)

    def _level(self, tree: str) -> dict[bytes, tuple[int, str]]:
        entries = Tree.from_string(self._objects.read(tree)[1]).iteritems()
        return {one.path: (one.mode, one.sha.decode("ascii")) for one in entries}


class _VersionWriter:
    """Writes objects as deltas on their next versions; `following` has the next version of each."""

    def __init__(self, objects: _ObjectCache, writer: PackWriter, following: dict[str, str]) -> None:
        self._objects, self._writer, self._following = objects, writer, following
        self._depths: dict[str, int] = {}

    def write(self, ids: list[str]) -> None:
        """Write all objects, each after its next version."""
        for identifier in ids:
            chain = [identifier]
            while (newer := self._following.get(chain[-1])) and not self._writer.has(chain[-1]):
                if newer in chain:
                    break  # it was changed, and changed back
                chain.append(newer)
            for one in reversed(chain):
                if not self._writer.has(one):
                    self._write(one)

    def _write(self, identifier: str) -> None:
        type_num, content = self._objects.read(identifier)
        base = self._following.get(identifier)
        if base is not None and self._writer.has(base) and len(content) <= DELTA_BYTES_MAX:
            depth = self._depths.get(base, 0) + 1
            base_type, base_content = self._objects.read(base)
            if depth <= DEPTH_MAX and base_type == type_num:
                delta = b"".join(create_delta(base_content, content))
                if len(delta) < len(content) // 2:
                    self._writer.add_delta(identifier, delta, base)
                    self._depths[identifier] = depth
                    return
        self._writer.add(type_num, content)
