"""Erasing something from every snapshot that holds it.

Safe against a kill by its order: the rewritten snapshots are made durable; the folder's list of erasures
records them; the refs move to them in one step; only then are old bytes removed. The next holder of the
folder's lock finishes what a killed run began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mirror.git.documents.repository import Documents
from mirror.git.documents.rewrite import Change, distinct_documents
from mirror.git.lfs.sync import LfsFindJob
from mirror.git.refs import KEEP, pin_name, read_all
from mirror.git.workers.pool import WorkerPool
from mirror.model import Head, Json, Refs, dumps, loads
from mirror.reclaim.freeing import (
    Freed,
    free_space,
    kept_trees,
    remove_everything,
    remove_files,
    remove_mirror,
    remove_refs,
    rewrite_history,
)
from mirror.store.format import layout
from mirror.store.format.refs_document import (
    MAIN_MIRROR,
    MirrorRefs,
    is_own_document,
    mirror_edits,
    mirror_from_documents,
    mirror_of_document,
    split_ref,
)
from mirror.store.format.removals import Erasure, ErasureFilter, WithoutPeople
from mirror.store.reading.documents import damage_in, refs_sha256
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder
from mirror.store.writing.folder_writer import AnyWriter
from mirror.store.writing.small_files import write_erasure


@dataclass(frozen=True)
class Result:
    """The finished erasure, and the bytes that it freed."""

    erasure: Erasure
    freed: Freed


async def erase(
    writer: AnyWriter,
    erasure: Erasure,
    *,
    workers: WorkerPool,
    lock: int,
    without_people: WithoutPeople,
) -> Result:
    """Erase, or finish an erasure that was begun; may be repeated. The caller holds the folder's lock.

    `lock` is its descriptor. Raises StoreDamaged and GitFailed where something to read is damaged.
    """
    if erasure.is_everything:
        _record(writer, erasure)
        freed = Freed(documents=remove_everything(writer))
        writer.rebuild_ledger(erasure.run, "erased")
    else:
        with damage_in(writer.folder.metadata.file):
            trees = kept_trees(writer)
            values = set() if erasure.ref is None else _values(writer.documents, trees, erasure.ref)
        needed = await _lfs_needed(writer, erasure, trees, values, workers, lock)
        erasure = _rewrite_snapshots(writer, erasure, without_people, needed)
        freed = Freed(code=_remove_mirror_of(writer, erasure))
        gone = {} if erasure.ref is None else _remove_ref(writer, erasure.ref, values, needed)
        freed += await free_space(writer, workers, lock, rewrite=True, gone=gone)
    erasure = replace(erasure, done=True)
    _record(writer, erasure)
    return Result(erasure, freed)


def _rewrite_snapshots(
    writer: AnyWriter, erasure: Erasure, without_people: WithoutPeople, lfs_needed: set[str] | None
) -> Erasure:
    """Rewrite the snapshots, record them, and move the refs; returns the erasure as recorded."""
    folder, documents = writer.folder, writer.documents
    with damage_in(folder.metadata.file):
        plan = rewrite_history(documents, _change(documents, erasure, without_people, lfs_needed))
        before = {one.id: one.tree for one in folder.metadata.snapshots()}
        changed = {name: tree for name, tree in sorted(plan.trees.items()) if before.get(name) != tree}
        refs = {name: refs_sha256(documents, tree) for name, tree in changed.items()}
        # A second try adds to what the first one recorded.
        erasure = replace(erasure, trees={**erasure.trees, **changed}, refs={**erasure.refs, **refs})
        _record(writer, erasure)
        documents.set_refs(dict(plan.refs))
    writer.rebuild_ledger()
    return erasure


def _remove_ref(
    writer: AnyWriter, erased: bytes, values: set[str], lfs_needed: set[str] | None
) -> dict[str, set[str]]:
    """Remove an erased ref, and the LFS objects that are not needed; returns the hashes that go, by mirror.

    `values` are the values of the ref in the snapshots.
    """
    folder = writer.folder
    mirror, name = split_ref(erased)
    path = folder.mirrors().get(mirror)
    if path is not None:
        values = values | {value for ref, value in read_all(path).items() if ref == name}
        remove_refs(path, lambda ref, _: ref == name)
    if lfs_needed is not None:
        objects = [*folder.lfs_objects(), *folder.lfs_parts()]
        remove_files([one for one in objects if one.stem not in lfs_needed])
    return {mirror: values}


def holds(writer: AnyWriter, erasure: Erasure, without_people: WithoutPeople) -> bool:
    """Whether the folder holds the target of the erasure. Raises StoreDamaged."""
    if erasure.is_everything:
        return True
    documents, folder = writer.documents, writer.folder
    with damage_in(folder.metadata.file):
        trees = kept_trees(writer)
        if erasure.document is not None:
            mirrored = mirror_of_document(erasure.document) in folder.mirrors()
            return mirrored or any(documents.find(tree, erasure.document) is not None for tree in trees)
        if erasure.ref is not None:
            mirror, name = split_ref(erasure.ref)
            path = folder.mirrors().get(mirror)
            mirrored = path is not None and name in read_all(path)
            return mirrored or bool(_values(documents, trees, erasure.ref))
        change = _change(documents, erasure, without_people)
        return any(
            change.document(path, documents.blob(blob)) is not None
            for path, blob in distinct_documents(documents, trees)
        )


def people_in(folder: AnyFolder, names_of: Callable[[Json], set[str]]) -> set[str]:
    """The names that `names_of` finds in the documents of the folder's snapshots. Raises StoreDamaged."""
    found: set[str] = set()
    if folder.metadata.path.exists():
        with damage_in(folder.metadata.file), Documents(folder.metadata.path) as documents:
            trees = [one.tree for one in folder.metadata.snapshots()]
            for path, blob in distinct_documents(documents, trees):
                if not is_own_document(path):
                    found |= names_of(loads(documents.blob(blob)))
    return found


async def finish_erasures(
    writer: AnyWriter, *, workers: WorkerPool, lock: int, without_people: WithoutPeople
) -> list[Result]:
    """Finish every erasure of the folder that a killed run began."""
    pending = [one for one in writer.folder.erasures() if not one.done]
    return [
        await erase(writer, one, workers=workers, lock=lock, without_people=without_people) for one in pending
    ]


def _record(writer: AnyWriter, erasure: Erasure) -> None:
    write_erasure(writer.folder.root, writer.folder.place, erasure)


def _remove_mirror_of(writer: AnyWriter, erasure: Erasure) -> int:
    """Remove the mirror of an erased snippet; returns the bytes freed."""
    mirror = None if erasure.document is None else mirror_of_document(erasure.document)
    return 0 if mirror is None else remove_mirror(writer, mirror)


async def _lfs_needed(
    writer: AnyWriter,
    erasure: Erasure,
    trees: Iterable[str],
    values: set[str],
    workers: WorkerPool,
    lock: int,
) -> set[str] | None:
    """The LFS objects that are still reached without the erased ref, which had `values`. None where no ref of
    the code is erased, or there are no LFS objects."""
    folder, documents = writer.folder, writer.documents
    if erasure.ref is None or not isinstance(folder, RepositoryFolder) or not folder.code.exists():
        return None
    mirror, ref = split_ref(erasure.ref)
    if mirror != MAIN_MIRROR:
        return None
    named: set[str] = set()
    with damage_in(folder.metadata.file):
        listed = any(path for tree in trees for path in documents.paths(tree, layout.LFS_DOCUMENTS))
        if not listed and not any(folder.lfs_objects()) and not folder.lfs_parts():
            return None
        for tree in trees:
            recorded = _mirror_refs(documents, tree, MAIN_MIRROR)
            if recorded is not None:
                named |= {value for name, value in recorded.refs.refs.items() if name != ref}
                named |= {value for number, value in recorded.pins.items() if pin_name(number) != ref}
                if recorded.refs.head is not None and recorded.refs.head.kind == "detached":
                    named.add(recorded.refs.head.value.decode("ascii"))
    tips = {
        value
        for name, value in read_all(folder.code).items()
        if name != ref and not (name.startswith(KEEP) and value in values and value not in named)
    }
    found = await workers.run(LfsFindJob(str(folder.code), tuple(sorted(tips))), lock_fd=lock)
    return set(found.objects)


def _change(
    documents: Documents,
    erasure: Erasure,
    without_people: WithoutPeople,
    lfs_needed: set[str] | None = None,
) -> Change:
    """The change that the erasure makes to the documents of a snapshot."""
    target = erasure.document
    if erasure.ref is not None:
        ref = erasure.ref
        return Change(
            edits=lambda tree: {
                **_without_ref(documents, tree, ref),
                **({} if lfs_needed is None else _without_objects(documents, tree, lfs_needed)),
            }
        )
    erased = ErasureFilter([erasure], without_people)
    if target is not None and (mirror := mirror_of_document(target)) is not None:
        tombstone = dumps(erasure.tombstone)
        return Change(edits=lambda tree: _without_snippet(documents, tree, target, mirror, tombstone))

    def document(path: str, data: bytes) -> bytes | None:
        if is_own_document(path) or (target is not None and path != target):
            return None
        value = loads(data)
        new = erased.apply(path, value)
        return None if new == value else dumps(new)

    def inside(prefix: str) -> bool:
        return target is None or target.startswith(prefix)

    return Change(document, inside)


def _without_snippet(
    documents: Documents, tree: str, path: str, mirror: str, tombstone: bytes
) -> dict[str, bytes | None]:
    """The edits that remove a snippet's refs, and replace its document."""
    edits = {
        one: data
        for one, data in _mirror_edits(documents, tree, mirror, None).items()
        if documents.find(tree, one) is not None
    }
    return {**edits, path: tombstone} if documents.find(tree, path) is not None else edits


def _without_ref(documents: Documents, tree: str, ref: bytes) -> dict[str, bytes | None]:
    """The edits that remove `ref` (one of upstream's, or a pin) from a snapshot."""
    mirror, name = split_ref(ref)
    recorded = _mirror_refs(documents, tree, mirror)
    if recorded is None:
        return {}
    refs, head = recorded.refs.refs, recorded.refs.head
    left = {one: value for one, value in refs.items() if one != name}
    pins = {number: value for number, value in recorded.pins.items() if pin_name(number) != name}
    if len(left) == len(refs) and len(pins) == len(recorded.pins):
        return {}
    if head is not None and head.value == name:
        head = Head("unborn", name)
    return _mirror_edits(documents, tree, mirror, replace(recorded, refs=Refs(left, head), pins=pins))


def _mirror_edits(
    documents: Documents, tree: str, mirror: str, recorded: MirrorRefs | None
) -> dict[str, bytes | None]:
    return mirror_edits(
        mirror,
        recorded,
        lambda path: documents.read(tree, path),
        lambda folder: documents.paths(tree, folder),
    )


def _mirror_refs(documents: Documents, tree: str, mirror: str) -> MirrorRefs | None:
    return mirror_from_documents(mirror, lambda path: documents.read(tree, path))


def _without_objects(documents: Documents, tree: str, needed: set[str]) -> dict[str, bytes | None]:
    """The edits that remove LFS objects that are not `needed` from a snapshot's lists."""
    found: dict[str, bytes | None] = {}
    for path in documents.paths(tree, layout.LFS_DOCUMENTS):
        content = loads(documents.read(tree, path) or b"{}")
        left = {oid: one for oid, one in content.items() if oid in needed}
        if len(left) < len(content):
            found[path] = dumps(left) if left else None
    return found


def _values(documents: Documents, trees: Iterable[str], ref: bytes) -> set[str]:
    """The values of `ref` in `trees`."""
    values = set()
    mirror, name = split_ref(ref)
    for tree in trees:
        recorded = _mirror_refs(documents, tree, mirror)
        if recorded is not None:
            named = {
                **recorded.refs.refs,
                **{pin_name(number): value for number, value in recorded.pins.items()},
            }
            if name in named:
                values.add(named[name])
    return values
