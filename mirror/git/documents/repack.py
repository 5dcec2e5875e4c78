"""Keeping the packs of a repository of documents few and small.

Each snapshot and each checkpoint is a pack of its own. Every pack costs each reader two open files,
so a thousand of them would be more than a process may open. Where packs are joined, each document and
each folder is kept as what differs from its next version at the same path; the newest is whole. A pack
that has many objects is not joined again, so that neither time nor memory grows with what is there.
"""

from __future__ import annotations

import hashlib
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from dulwich.object_store import PackCapableObjectStore
from dulwich.objects import Commit, ObjectID, Tree
from dulwich.pack import create_delta, load_pack_index

from mirror.fs.durable import sync_folder
from mirror.git.failures import GitFailed
from mirror.git.pack.names import indexes_without_pack, packs_in
from mirror.git.pack.receiver import PackWriter
from mirror.git.refs import close, open_repository

PACKS_MAX = 50
# About so many objects are joined at a time; a pack of half as many is large.
OBJECTS_MAX = 20_000
# So many steps from the newest version at most, as C git does it.
DEPTH_MAX = 50
# What is larger is kept whole; of what was read lately so many bytes are held.
DELTA_BYTES_MAX = 16 << 20
HELD_MAX = 32 << 20
_COMMIT = 1
_KINDS = {_COMMIT: "commit", 2: "tree", 3: "blob", 4: "tag"}
# What else may stand beside a pack; all of it can be made again.
_BESIDE = (".rev", ".bitmap", ".mtimes")


def consolidate(path: Path) -> int:
    """Merge the small packs of the repository at `path` where it has more than PACKS_MAX of them.

    Returns how many packs were merged. Every object is read and hashed on the way, and the old
    packs go only after the new one is durable, so a kill at any point loses nothing. The caller
    holds the writer's lock; readers find each object in the old place or the new. Raises GitFailed
    where a pack is damaged: nothing is removed then.
    """
    folder = path / "objects" / "pack"
    for index in indexes_without_pack(folder):
        _remove(index.with_suffix(".pack"))  # the rest of a merge that was interrupted
    # A pack without an index is not ours to judge: it may be all that is left of its objects.
    packs = [
        _Pack(pack, pack.stat().st_size, objects)
        for pack in packs_in(folder)
        if not pack.with_suffix(".keep").exists() and (objects := _objects(pack)) <= OBJECTS_MAX // 2
    ]
    if len(packs) <= PACKS_MAX:
        return 0
    chosen = _choose(packs)
    new = _merge(path, chosen)
    if not new:
        return 0
    # C git's index over all packs would point to those that go; git works without it.
    (folder / "multi-pack-index").unlink(missing_ok=True)
    for pack in chosen:
        if pack.name != new:
            _remove(pack)
    sync_folder(folder)
    return len(chosen)


@dataclass(frozen=True)
class _Pack:
    """A pack that may be merged."""

    path: Path
    size: int
    objects: int


def _objects(pack: Path) -> int:
    """How many objects a pack says that it has. Raises GitFailed where it is not one."""
    with pack.open("rb") as stream:
        head = stream.read(12)
    if len(head) < 12 or head[:4] != b"PACK":
        raise GitFailed(f"{pack.name} is damaged: it does not begin as a pack does")
    return int.from_bytes(head[8:], "big")


def _remove(pack: Path) -> None:
    """Remove a pack and then what stands beside it: an index alone holds nothing and is told apart."""
    for suffix in (".pack", ".idx", *_BESIDE):
        pack.with_suffix(suffix).unlink(missing_ok=True)


def _choose(packs: list[_Pack]) -> list[Path]:
    """The smallest packs, as far as they are worth it: a big one is copied only when the small
    ones together come near its size, so that each byte is copied a few times in all its life."""
    chosen: list[Path] = []
    size = objects = 0
    for pack in sorted(packs, key=lambda one: (one.size, one.path)):
        if len(chosen) > PACKS_MAX // 2 and pack.size > 2 * size:
            break
        if len(chosen) > 1 and objects + pack.objects > OBJECTS_MAX:
            break
        chosen.append(pack.path)
        size, objects = size + pack.size, objects + pack.objects
    return chosen


def _merge(path: Path, packs: list[Path]) -> str:
    """Write the objects of `packs` into one new pack; returns its name."""
    writer = PackWriter(path / "objects")
    repository = open_repository(path)
    try:
        names: list[str] = []
        commits: list[str] = []
        for pack in packs:
            index = load_pack_index(str(pack.with_suffix(".idx")), repository.object_format)
            try:
                with pack.open("rb") as stream:
                    for binary, offset, _ in index.iterentries():
                        names.append(binary.hex())
                        stream.seek(offset)
                        if stream.read(1)[0] >> 4 & 7 == _COMMIT:  # we never keep one as a delta
                            commits.append(names[-1])
            finally:
                index.close()
        Joiner(repository.object_store, writer, names, commits).join()
        new = writer.publish()
    except (OSError, MemoryError, GitFailed):
        raise
    except Exception as error:
        raise GitFailed(f"{path.name}: a pack is damaged: {type(error).__name__}: {error}") from error
    finally:
        writer.discard()
        close(repository)
    return f"{new}.pack" if new else ""


class Joiner:
    """Writes the objects `names` into a pack, each as a delta against its next version where that is
    among them. Each is hashed on its way. `commits` are those that tell which version came after which;
    where they are not known, every object is looked at."""

    def __init__(
        self,
        store: PackCapableObjectStore,
        writer: PackWriter,
        names: list[str],
        commits: list[str] | None = None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._names = names
        self._commits = names if commits is None else commits
        self._among = set(names)
        self._next: dict[str, str] = {}  # an object to its next version at the same path
        self._depth: dict[str, int] = {}
        self._lately: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0

    def join(self) -> None:
        """Write them all. Raises GitFailed where one is missing or damaged."""
        self._find_versions()
        for name in self._names:
            chain = [name]
            while (newer := self._next.get(chain[-1])) and not self._writer.has(chain[-1]):
                if newer in chain:
                    break  # it was changed, and changed back
                chain.append(newer)
            for one in reversed(chain):
                self._add(one)

    def _add(self, name: str) -> None:
        if self._writer.has(name):
            return
        kind, data = self._read(name)
        base = self._next.get(name)
        depth = self._depth.get(base or "", 0) + 1
        if (
            base is not None
            and self._writer.has(base)
            and depth <= DEPTH_MAX
            and len(data) <= DELTA_BYTES_MAX
        ):
            base_kind, content = self._read(base)
            if base_kind == kind:
                delta = b"".join(create_delta(content, data))
                if len(delta) < len(data) // 2:
                    self._writer.add_delta(name, delta, base)
                    self._depth[name] = depth
                    return
        self._writer.add(_KINDS[kind], data)

    def _read(self, name: str) -> tuple[int, bytes]:
        """Kind and bytes of an object, hashed. Those read lately are held."""
        held = self._lately.get(name)
        if held is not None:
            return held[0], held[1:]
        problem = ""
        try:
            kind, data = self._store.get_raw(ObjectID(name.encode("ascii")))
        except KeyError:
            problem = "is missing"
        except (OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - damage raises anything
            problem = f"is damaged: {type(error).__name__}: {error}"
        if problem:
            # Not where it was met: that would hold on to dulwich's view of the pack, which could then
            # not be closed.
            raise GitFailed(f"object {name} {problem}")
        digest = hashlib.sha1(b"%s %d\0" % (_KINDS[kind].encode(), len(data)), usedforsecurity=False)
        digest.update(data)
        if digest.hexdigest() != name:
            raise GitFailed(f"object {name} is damaged")
        self._lately[name] = bytes([kind]) + data
        self._held += len(data)
        while self._held > HELD_MAX and len(self._lately) > 1:
            self._held -= len(self._lately.popitem(last=False)[1]) - 1
        return kind, data

    def _find_versions(self) -> None:
        """Which object took the place of which, commit by commit."""
        for name in self._commits:
            kind, data = self._read(name)
            if _KINDS[kind] != "commit":
                continue
            commit = Commit.from_string(data)
            for parent in commit.parents[:1]:
                if (text := parent.decode("ascii")) in self._among:
                    before = Commit.from_string(self._read(text)[1])
                    self._compare(before.tree.decode("ascii"), commit.tree.decode("ascii"))

    def _compare(self, old: str, new: str) -> None:
        """Two versions of a folder, and what is in them."""
        if old == new or old not in self._among or new not in self._among or old in self._next:
            return
        self._next[old] = new
        before, after = self._level(old), self._level(new)
        for name, (mode, value) in before.items():
            found = after.get(name)
            if found is None or found[1] == value:
                continue
            if stat.S_ISDIR(mode) and stat.S_ISDIR(found[0]):
                self._compare(value, found[1])
            elif value in self._among and found[1] in self._among:
                self._next.setdefault(value, found[1])

    def _level(self, name: str) -> dict[bytes, tuple[int, str]]:
        tree = Tree.from_string(self._read(name)[1])
        return {one.path: (one.mode, one.sha.decode("ascii")) for one in tree.iteritems()}
