"""Rewriting the history of a repository of documents: to fewer snapshots, or without erased documents.

New objects are durable before one write of packed-refs makes them the history, and old objects are removed
only after that: a kill at any point leaves either history, complete.
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
    """A change of documents.

    `document` returns the new content of a document, by its path and old content, or None where it does not
    change. `inside` returns whether anything below a folder may change; other folders are not read. `edits`
    returns, for a whole tree, the documents to set; None removes one.
    """

    document: Callable[[str, bytes], bytes | None] = _unchanged
    inside: Callable[[str], bool] = lambda _: True
    edits: Callable[[str], Mapping[str, bytes | None]] | None = None


@dataclass(frozen=True)
class RewrittenHistory:
    """A history that is written, and the refs that make it current. `trees`: tag to its new tree."""

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
) -> RewrittenHistory:
    """Write a history of only `snapshots` (tag and commit, the oldest first), with `change` applied to each.

    `work` are the commits (the oldest first) on top of the last snapshot, at `work_ref`. Objects are written
    durably; `documents.set_refs(result.refs)` makes them the history.
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
    return RewrittenHistory(refs, trees)


def _commit(documents: Documents, pack: PackWriter, old: str, tree: str, parent: str | None) -> str:
    """The commit `old` with this tree and parent; `old` itself where both are unchanged."""
    if documents.tree_of(old) == tree and documents.parent_of(old) == parent:
        return old
    head, _, message = documents.blob(old).partition(b"\n\n")
    kept = [line for line in head.split(b"\n") if not line.startswith((b"tree ", b"parent "))]
    lines = [b"tree " + tree.encode("ascii")]
    if parent is not None:
        lines.append(b"parent " + parent.encode("ascii"))
    return pack.add(COMMIT, b"\n".join([*lines, *kept]) + b"\n\n" + message)


class _Changer:
    """Applies a change to trees, once to each distinct one."""

    def __init__(self, documents: Documents, pack: PackWriter, change: Change | None) -> None:
        self._documents = documents
        self._pack = pack
        self._change = change
        self._done: dict[tuple[str, str], str] = {}

    def changed(self, tree: str) -> str:
        """The changed version of a whole tree."""
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
        """The changed version of `tree`, which is the folder `prefix`."""
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
    """Each distinct document of several trees: one of its paths, and its blob id."""
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
    """How many objects the repository has, reachable or not; one in two packs counts twice."""
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
        found_object = documents.parsed(identifier)
        if isinstance(found_object, Commit):
            todo += [found_object.tree.decode("ascii")]
            todo += [parent.decode("ascii") for parent in found_object.parents]
        elif isinstance(found_object, Tree):
            for entry in found_object.iteritems():
                if stat.S_ISDIR(entry.mode):
                    todo.append(entry.sha.decode("ascii"))
                else:
                    found.setdefault(entry.sha.decode("ascii"))
        elif isinstance(found_object, Tag):
            todo.append(found_object.object[1].decode("ascii"))
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
