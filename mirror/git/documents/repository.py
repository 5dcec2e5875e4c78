"""A bare repository that holds documents with their history, whatever they mean.

`git clone` gives the documents as plain files, `git log -p` what changed. The objects of each commit
are written in one pack, which is fsynced before any ref names them.
"""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from dulwich.object_store import PackCapableObjectStore
from dulwich.objects import Commit, ObjectID, ShaFile, Tree
from dulwich.repo import Repo

from mirror.git import bare
from mirror.git.documents.sizes import stated_size
from mirror.git.failures import GitFailed
from mirror.git.objects import BLOB, COMMIT, TREE, hash_object
from mirror.git.pack.receiver import sweep
from mirror.git.pack.writer import PackWriter
from mirror.git.refs import close, open_repository, read_all, read_packed, write_packed

_AUTHOR = b"Mirror <mirror@localhost>"
_TAGS = b"refs/tags/"
_FILE = stat.S_IFREG | 0o644
_FOLDER = stat.S_IFDIR

# How many entries of trees that were read lately are kept.
_CACHED_ENTRIES_MAX = 20_000

# name -> (mode, id) of one level of a tree
_Level = dict[bytes, tuple[int, str]]


class Documents:
    """The documents in the bare repository at `path`. Close it when done; it is a context manager.

    Readers should trust only what a tag reaches.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._repo = _opened(path)
        # By tree id, so they never change.
        self._levels: OrderedDict[str, _Level] = OrderedDict()
        self._cached_entries = 0

    @classmethod
    def create(cls, path: Path) -> Documents:
        """Open the repository at `path`; create it if it does not exist."""
        bare.create(path)
        return cls(path)

    def __enter__(self) -> Documents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close files and memory maps."""
        close(self._repo)

    @property
    def store(self) -> PackCapableObjectStore:
        """dulwich's store of the objects."""
        return self._repo.object_store

    def refresh(self) -> None:
        """Reopen the repository, to see packs that were published since."""
        close(self._repo)
        self._repo = _opened(self.path)

    def packs(self) -> frozenset[str]:
        """The names of the indexes of all packs."""
        return frozenset(one.name for one in (self.path / "objects" / "pack").glob("pack-*.idx"))

    def tags(self) -> dict[str, str]:
        """Tag name to commit id."""
        return tags_of(self.path)

    def head(self, ref: str = "refs/heads/main") -> str | None:
        """The commit that `ref` names."""
        return read_all(self.path).get(ref.encode("utf-8"))

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree. Raises GitFailed where the commit is missing or damaged."""
        tree: bytes = self._commit(commit).tree
        return tree.decode("ascii")

    def parent_of(self, commit: str) -> str | None:
        """The first parent of a commit."""
        parents = self._commit(commit).parents
        return parents[0].decode("ascii") if parents else None

    def _commit(self, identifier: str) -> Commit:
        found = self.parsed(identifier)
        if not isinstance(found, Commit):
            raise GitFailed(f"{self.path.name}: {identifier} is not a commit")
        return found

    def parsed(self, identifier: str) -> ShaFile:
        """An object, parsed by dulwich. Raises GitFailed where it is missing or damaged."""
        kind, data = self.raw(identifier)
        return ShaFile.from_raw_string(kind, data)

    def size(self, identifier: str) -> int | None:
        """How many bytes reading an object takes, by its headers; None where that is not known."""
        return stated_size(self._repo.object_store, self.path / "objects", identifier)

    def raw(self, identifier: str) -> tuple[int, bytes]:
        """The type (git's number) and the content of an object, whose hash is checked. Raises GitFailed where
        it is missing or damaged."""
        try:
            kind, data = self._repo.object_store.get_raw(ObjectID(identifier.encode("ascii")))
        except KeyError:
            raise GitFailed(f"{self.path.name}: object {identifier} is missing") from None
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise GitFailed(f"{self.path.name}: object {identifier} is damaged: {error}") from error
        if hash_object(kind, data).hex() != identifier:
            raise GitFailed(f"{self.path.name}: object {identifier} is damaged: its content has another hash")
        return kind, data

    def level(self, tree: str) -> _Level:
        """The entries of one tree: name to mode and id."""
        return dict(self._level(tree))

    def _level(self, tree: str) -> _Level:
        """As `level`, not to be changed. Trees that were read lately are kept: each document is found through
        the same few folders."""
        known = self._levels.get(tree)
        if known is not None:
            self._levels.move_to_end(tree)
            return known
        found = self.parsed(tree)
        if not isinstance(found, Tree):
            raise GitFailed(f"{self.path.name}: {tree} is not a tree")
        level = {entry.path: (entry.mode, entry.sha.decode("ascii")) for entry in found.iteritems()}
        self._levels[tree] = level
        self._cached_entries += len(level)
        while self._cached_entries > _CACHED_ENTRIES_MAX:
            self._cached_entries -= len(self._levels.popitem(last=False)[1])
        return level

    def find(self, tree: str, path: str) -> tuple[int, str] | None:
        """Mode and id of the document or folder at `path` in a tree; None where there is none."""
        mode, identifier = _FOLDER, tree
        for part in path.encode("utf-8").split(b"/") if path else []:
            if not stat.S_ISDIR(mode):
                return None
            entry = self._level(identifier).get(part)
            if entry is None:
                return None
            mode, identifier = entry
        return mode, identifier

    def read(self, tree: str, path: str) -> bytes | None:
        """The bytes of the document at `path`, or None where there is none."""
        entry = self.find(tree, path)
        if entry is None or stat.S_ISDIR(entry[0]):
            return None
        return self.blob(entry[1])

    def blob(self, identifier: str) -> bytes:
        """The bytes of a document by its blob id."""
        return self.raw(identifier)[1]

    def paths(self, tree: str, prefix: str = "") -> Iterator[str]:
        """The documents below the folder `prefix` (or the document itself), sorted."""
        prefix = prefix.strip("/")
        entry = self.find(tree, prefix)
        if entry is None:
            return
        if not stat.S_ISDIR(entry[0]):
            yield prefix
            return
        yield from (path for path, _ in self._walk(entry[1], f"{prefix}/" if prefix else ""))

    def _walk(self, tree: str, prefix: str) -> Iterator[tuple[str, str]]:
        for name, (mode, identifier) in self._level(tree).items():
            path = prefix + name.decode("utf-8", "surrogateescape")
            if stat.S_ISDIR(mode):
                yield from self._walk(identifier, path + "/")
            else:
                yield path, identifier

    def blobs(self, tree: str) -> Iterator[tuple[str, str]]:
        """Every document of a tree with its blob id."""
        yield from self._walk(tree, "")

    def diff(self, old: str | None, new: str | None) -> Iterator[tuple[str, str | None, str | None]]:
        """The differences between two trees: path, old blob id, new blob id. Equal folders are not read."""
        yield from self._diff(old, new, "")

    def _diff(
        self, old: str | None, new: str | None, prefix: str
    ) -> Iterator[tuple[str, str | None, str | None]]:
        if old == new:
            return
        before = self._level(old) if old else {}
        after = self._level(new) if new else {}
        for name in sorted(before.keys() | after.keys()):
            one, two = before.get(name), after.get(name)
            if one == two:
                continue
            path = prefix + name.decode("utf-8", "surrogateescape")
            old_folder = one[1] if one and stat.S_ISDIR(one[0]) else None
            new_folder = two[1] if two and stat.S_ISDIR(two[0]) else None
            if old_folder or new_folder:
                yield from self._diff(old_folder, new_folder, path + "/")
            old_file = one[1] if one and not stat.S_ISDIR(one[0]) else None
            new_file = two[1] if two and not stat.S_ISDIR(two[0]) else None
            if old_file or new_file:
                yield path, old_file, new_file

    def edit(self, base: str | None) -> TreeEdit:
        """Start an edit of the tree `base` (None: the empty tree)."""
        return TreeEdit(self, base)

    def set_refs(self, changes: dict[str, str | None]) -> None:
        """Set refs, or remove those with None, in one durable step."""
        refs, peeled = read_packed(self.path)
        refs = {**refs, **read_all(self.path)}
        for name, value in changes.items():
            if value is None:
                refs.pop(name.encode("utf-8"), None)
            else:
                refs[name.encode("utf-8")] = value
        write_packed(self.path, refs, peeled)

    def sweep(self) -> None:
        """Clean up after an interrupted writer; the caller holds the lock."""
        sweep(self.path)


def _opened(path: Path) -> Repo:
    """The repository at `path`. Raises GitFailed where there is none that git would recognise."""
    try:
        return open_repository(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise GitFailed(f"{path.name} is not a git repository: {type(error).__name__}") from error


def tags_of(path: Path) -> dict[str, str]:
    """Tag name to commit id of the repository at `path`, which is not opened for that."""
    return {
        name[len(_TAGS) :].decode("utf-8", "replace"): value
        for name, value in read_all(path).items()
        if name.startswith(_TAGS)
    }


class TreeEdit:
    """An edit of the documents of a tree. Only folders that change are read and written.

    Documents are written to a pack on disk as they are put.
    """

    def __init__(self, documents: Documents, base: str | None, pack: PackWriter | None = None) -> None:
        self._documents = documents
        self._base = base
        self._pack = pack if pack is not None else PackWriter(documents.path / "objects")
        self._changed: dict[str, str | None] = {}
        self._content: dict[str, bytes] = {}
        self._pending_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """How many bytes of documents are kept in memory until they are published."""
        return self._pending_bytes

    def put(self, path: str, data: bytes) -> None:
        """Set the document at `path`."""
        if self.contains(path, data):
            return
        self._changed[path] = self._pack.add(BLOB, data)
        self._pending_bytes += len(data) - len(self._content.get(path, b""))
        self._content[path] = data

    def remove(self, path: str) -> None:
        """Remove the document at `path`, if there is one."""
        self._changed[path] = None
        self._pending_bytes -= len(self._content.pop(path, b""))

    def contains(self, path: str, data: bytes) -> bool:
        """Whether the document at `path`, as edited so far, is `data`. It is not read for that."""
        return self.blob_id(path) == hash_object(BLOB, data).hex()

    def blob_id(self, path: str) -> str | None:
        """The blob id of the document at `path` as edited so far."""
        if path in self._changed:
            return self._changed[path]
        if self._base is None:
            return None
        entry = self._documents.find(self._base, path)
        return None if entry is None or stat.S_ISDIR(entry[0]) else entry[1]

    def get(self, path: str) -> bytes | None:
        """The document at `path` as edited so far."""
        if path in self._changed:
            return self._content.get(path)
        return self._documents.read(self._base, path) if self._base is not None else None

    def paths(self, prefix: str = "") -> Iterator[str]:
        """The documents below the folder `prefix` as edited so far, sorted."""
        inside = f"{prefix.strip('/')}/" if prefix else ""
        found = set(self._documents.paths(self._base, prefix)) if self._base is not None else set()
        for path, blob in self._changed.items():
            if path.startswith(inside):
                (found.add if blob is not None else found.discard)(path)
        yield from sorted(found)

    def build(self) -> str:
        """Write all objects to the pack, unpublished; returns the id of the tree."""
        changes: dict[bytes, str | None] = {
            path.encode("utf-8"): blob for path, blob in self._changed.items()
        }
        tree = self._write_level(self._base, changes)
        return tree if tree is not None else self._pack.add(TREE, b"")

    def _publish(self, tree: str) -> None:
        self._pack.publish()
        self._documents.refresh()
        self._base, self._changed, self._content, self._pending_bytes = tree, {}, {}, 0

    def _write_level(self, tree: str | None, changes: dict[bytes, str | None]) -> str | None:
        """Write one folder with `changes` below it; None where nothing is left in it."""
        if not changes:
            return tree
        level = self._documents.level(tree) if tree is not None else {}
        below: dict[bytes, dict[bytes, str | None]] = {}
        for path, blob in changes.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = blob
            elif blob is not None:
                level[name] = (_FILE, blob)
            elif name in level and not stat.S_ISDIR(level[name][0]):
                del level[name]
        for name, inner in below.items():
            entry = level.get(name)
            old = entry[1] if entry is not None and stat.S_ISDIR(entry[0]) else None
            new = self._write_level(old, inner)
            if new is not None:
                level[name] = (_FOLDER, new)
            elif old is not None:
                del level[name]
        if not level:
            return None
        return self._pack.add(TREE, tree_bytes(level))

    def commit(self, *, ref: str, tag: str | None, message: str, when: datetime, parent: str | None) -> str:
        """Write everything, then set `ref` and the tag in one step; returns the commit's id.

        Objects are on disk and fsynced before any ref names them.
        """
        tree = self.build()
        seconds = int(when.astimezone(UTC).timestamp())
        who = b"%s %d +0000" % (_AUTHOR, seconds)
        lines = [b"tree " + tree.encode("ascii")]
        if parent is not None:
            lines.append(b"parent " + parent.encode("ascii"))
        lines += [b"author " + who, b"committer " + who, b"", message.encode("utf-8")]
        data = b"\n".join(lines)
        commit = self._pack.add(COMMIT, data if data.endswith(b"\n") else data + b"\n")
        self._publish(tree)
        changes: dict[str, str | None] = {ref: commit}
        if tag is not None:
            changes[f"refs/tags/{tag}"] = commit
        self._documents.set_refs(changes)
        return commit

    def discard(self) -> None:
        """Drop the edit."""
        self._pack.discard()


def tree_bytes(level: Mapping[bytes, tuple[int, str]]) -> bytes:
    """The content of a tree, in git's order: a folder sorts as if its name ended with a slash."""
    ordered = sorted(level.items(), key=lambda item: item[0] + (b"/" if stat.S_ISDIR(item[1][0]) else b""))
    return b"".join(
        b"%o %s\0" % (mode, name) + bytes.fromhex(identifier) for name, (mode, identifier) in ordered
    )
