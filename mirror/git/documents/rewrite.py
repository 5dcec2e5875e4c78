"""Rewriting the history of a repository of documents: to fewer snapshots, or without what was erased.

Whatever is done, new objects are durable before one write of packed-refs makes them the history, and
old ones go only after that: a kill at any point leaves the old history or the new one, whole.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dulwich.objects import Commit, Tag, Tree

from mirror.git.documents.repack import write_versions
from mirror.git.documents.repository import Documents, TreeEdit, tree_bytes
from mirror.git.objects import BLOB, COMMIT, TREE
from mirror.git.pack.index import PackIndex
from mirror.git.pack.names import packs_in, unkept_packs_in
from mirror.git.pack.publish import remove_packs
from mirror.git.pack.reader import PackFile
from mirror.git.pack.writer import PackWriter
from mirror.git.refs import read_all

_TAGS = "refs/tags/"


def _unchanged(_path: str, _data: bytes) -> bytes | None:
    return None


@dataclass(frozen=True)
class Change:
    """What is to become of documents.

    `document` gives a document's new bytes by its path and old bytes, or None where it stays as it
    is. `inside` tells whether that may change anything below a folder: those where it cannot are not
    read. `edits` gives, for a whole tree, documents to be set, or with None removed.
    """

    document: Callable[[str, bytes], bytes | None] = _unchanged
    inside: Callable[[str], bool] = lambda _: True
    edits: Callable[[str], Mapping[str, bytes | None]] | None = None


@dataclass(frozen=True)
class Rewriting:
    """A rewritten history that is written and not yet in force. `trees`: tag to its new tree."""

    refs: Mapping[str, str | None]
    trees: Mapping[str, str]


def rewrite(
    documents: Documents,
    snapshots: Sequence[tuple[str, str]],
    *,
    main: str,
    work: Sequence[str] = (),
    work_ref: str = "",
    change: Change | None = None,
) -> Rewriting:
    """Write a history of just `snapshots` (tag and commit, the oldest first), each as `change` makes it.

    `work` are the commits (the oldest first) that stand on the last snapshot under `work_ref`. Objects
    are written durably; `documents.set_refs(result.refs)` puts them in force.
    """
    pack = PackWriter(documents.path / "objects")
    try:
        changer = _Changer(documents, pack, change)
        refs: dict[str, str | None] = {}
        trees: dict[str, str] = {}
        parent: str | None = None
        for tag, commit in snapshots:
            tree = changer.changed(documents.tree_of(commit))
            parent = _commit(documents, pack, commit, tree, parent)
            refs[_TAGS + tag] = parent
            trees[tag] = tree
        refs[main] = parent
        for commit in work:
            parent = _commit(documents, pack, commit, changer.changed(documents.tree_of(commit)), parent)
        if work:
            refs[work_ref] = parent
        pack.publish()
    finally:
        pack.discard()
    documents.refresh()
    return Rewriting(refs, trees)


def _commit(documents: Documents, pack: PackWriter, old: str, tree: str, parent: str | None) -> str:
    """The commit `old` with another tree and parent; the same one where both are as they were."""
    if documents.tree_of(old) == tree and documents.parent_of(old) == parent:
        return old
    head, _, message = documents.blob(old).partition(b"\n\n")
    kept = [line for line in head.split(b"\n") if not line.startswith((b"tree ", b"parent "))]
    lines = [b"tree " + tree.encode("ascii")]
    if parent is not None:
        lines.append(b"parent " + parent.encode("ascii"))
    return pack.add(COMMIT, b"\n".join([*lines, *kept]) + b"\n\n" + message)


class _Changer:
    """Makes changed trees, each distinct one once."""

    def __init__(self, documents: Documents, pack: PackWriter, change: Change | None) -> None:
        self._documents = documents
        self._pack = pack
        self._change = change
        self._done: dict[tuple[str, str], str] = {}

    def changed(self, tree: str) -> str:
        """What becomes of a whole tree."""
        if self._change is None:
            return tree
        if self._change.edits is None:
            return self.tree(tree)
        edit = TreeEdit(self._documents, tree, self._pack)
        for path, data in self._change.edits(tree).items():
            if data is None:
                edit.remove(path)
            else:
                edit.put(path, data)
        return edit.build()

    def tree(self, tree: str, prefix: str = "") -> str:
        """The changed tree of the folder `prefix`."""
        change = self._change
        if change is None or not change.inside(prefix):
            return tree
        known = self._done.get((prefix, tree))
        if known is not None:
            return known
        level = self._documents.level(tree)
        changed = False
        for name, (mode, identifier) in list(level.items()):
            path = prefix + name.decode("utf-8", "surrogateescape")
            if stat.S_ISDIR(mode):
                new = self.tree(identifier, path + "/")
            else:
                data = change.document(path, self._documents.blob(identifier))
                new = identifier if data is None else self._pack.add(BLOB, data)
            if new != identifier:
                level[name] = (mode, new)
                changed = True
        result = self._pack.add(TREE, tree_bytes(level)) if changed else tree
        self._done[prefix, tree] = result
        return result


def distinct_documents(documents: Documents, trees: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each distinct document of several trees once: a path that it has, and its blob id."""
    seen: set[str] = set()
    todo = [(tree, "") for tree in trees]
    while todo:
        tree, prefix = todo.pop()
        if tree in seen:
            continue
        seen.add(tree)
        for name, (mode, identifier) in documents.level(tree).items():
            path = prefix + name.decode("utf-8", "surrogateescape")
            if stat.S_ISDIR(mode):
                todo.append((identifier, path + "/"))
            elif identifier not in seen:
                seen.add(identifier)
                yield path, identifier


def object_count(path: Path) -> int:
    """How many objects the repository holds, reachable or not (one in two packs counts twice)."""
    count = 0
    for pack in packs_in(path / "objects" / "pack"):
        with closing(PackIndex(pack.with_suffix(".idx"))) as index:
            count += index.count
    return count + sum(1 for _ in (path / "objects").glob("[0-9a-f][0-9a-f]/*"))


def reachable(documents: Documents) -> list[str]:
    """Every object that a ref of the repository reaches: commits first, then trees and documents."""
    found: dict[str, None] = {}
    todo = sorted(set(read_all(documents.path).values()))
    while todo:
        identifier = todo.pop()
        if identifier in found:
            continue
        found[identifier] = None
        thing = documents.thing(identifier)
        if isinstance(thing, Commit):
            todo += [thing.tree.decode("ascii"), *(parent.decode("ascii") for parent in thing.parents)]
        elif isinstance(thing, Tree):
            for entry in thing.iteritems():
                if stat.S_ISDIR(entry.mode):
                    todo.append(entry.sha.decode("ascii"))
                else:
                    found.setdefault(entry.sha.decode("ascii"))
        elif isinstance(thing, Tag):
            todo.append(thing.object[1].decode("ascii"))
    return list(found)


def compact(documents: Documents, wanted: Iterable[str]) -> None:
    """Keep the objects `wanted` in one new pack, and remove every other pack and loose object.

    Each object is hashed on its way, and written as a delta on its next version; the old packs are removed
    when the new one is durable. Raises GitFailed where an object is missing or damaged: nothing is removed
    then.
    """
    objects = documents.path / "objects"
    old = unkept_packs_in(objects / "pack")
    loose = list(objects.glob("[0-9a-f][0-9a-f]/*"))
    writer = PackWriter(objects)
    try:
        ids = list(wanted)
        write_versions(documents.store, writer, ids, ids)
        new = writer.publish()
    finally:
        writer.discard()
    remove_packs(objects / "pack", [pack for pack in old if pack.stem != new])
    for file in loose:
        file.unlink(missing_ok=True)
    documents.refresh()


def packed_sizes(path: Path) -> dict[str, int]:
    """How many bytes each packed object takes on disk, by id; to predict what a removal frees. Raises
    GitFailed where a pack is damaged."""
    sizes: dict[str, int] = {}
    for pack in packs_in(path / "objects" / "pack"):
        with closing(PackIndex(pack.with_suffix(".idx"))) as index, closing(PackFile(pack, index)) as file:
            sizes |= {oid.hex(): size for oid, size in file.extents()}
    return sizes
