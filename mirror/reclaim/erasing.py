"""Removing something on purpose, from every snapshot that holds it.

The order makes it safe to be killed: the rewritten snapshots are durable, then the folder's list of
erasures tells what they became, then refs move to them in one step, and only then old bytes go.
Whoever next holds the folder's lock finishes what was begun.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mirror.fs.durable import write_file
from mirror.git.documents.repository import Documents
from mirror.git.documents.rewrite import Change, distinct_documents
from mirror.git.lfs.sync import LfsFindJob
from mirror.git.refs import KEEP, pin_name, read_all
from mirror.git.workers.pool import WorkerPool
from mirror.model import Head, Json, Refs, dumps, loads
from mirror.reclaim.pruning import (
    AnyWriter,
    Freed,
    free_space,
    in_order,
    kept_trees,
    remove_everything,
    remove_files,
    remove_mirror,
    remove_refs,
    rewritten,
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
from mirror.store.format.removals import Erasure, ErasureFilter, WithoutPeople, erasures_json
from mirror.store.format.seal import sealed
from mirror.store.reading.reader import RepositoryFolder, WorkspaceFolder
from mirror.store.reading.snapshots import damage_in


@dataclass(frozen=True)
class Result:
    """What came of an erasure: the finished erasure, and the bytes that were freed."""

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
    """Erase, or go on with an erasure that was begun; may be done again. Under the folder's lock.

    Raises StoreDamaged and GitFailed where what must be read is damaged.
    """
    folder = writer.folder
    if erasure.is_everything:
        _tell(writer, erasure)
        freed = Freed(documents=remove_everything(writer))
        writer.relist(erasure.run, "erased")
    else:
        with damage_in(folder.metadata.file):
            trees = kept_trees(writer)
            values = set() if erasure.ref is None else _values(writer.documents, trees, erasure.ref)
        needed = await _lfs_needed(writer, erasure, trees, values, workers, lock)
        with damage_in(folder.metadata.file):
            change = _change(writer.documents, erasure, without_people, needed)
            plan = rewritten(writer.documents, in_order(writer.documents), change)
            refs = {name: _refs_sha256(writer.documents, tree) for name, tree in plan.trees.items()}
            # What did not change needs no word; a second try adds to what the first one told.
            before = {one.id: one.tree for one in folder.metadata.snapshots()}
            changed = {name for name, tree in plan.trees.items() if before.get(name) != tree}
            erasure = replace(
                erasure,
                trees={**erasure.trees, **{name: plan.trees[name] for name in sorted(changed)}},
                refs={**erasure.refs, **{name: refs[name] for name in sorted(changed)}},
            )
            _tell(writer, erasure)
            writer.documents.set_refs(dict(plan.refs))
        writer.relist()
        freed = Freed(code=_remove_mirror_of(writer, erasure))
        gone: dict[str, set[str]] = {}
        if erasure.ref is not None:
            mirror, name = split_ref(erasure.ref)
            path = folder.mirrors().get(mirror)
            if path is not None:
                values |= {value for ref, value in read_all(path).items() if ref == name}
                remove_refs(path, lambda ref, _: ref == name)
            if needed is not None:
                objects = [*folder.lfs_objects(), *folder.lfs_parts()]
                remove_files([path for path in objects if path.stem not in needed])
            gone[mirror] = values
        freed += await free_space(writer, workers, lock, rewrite=True, gone=gone)
    erasure = replace(erasure, done=True)
    _tell(writer, erasure)
    return Result(erasure, freed)


def holds(writer: AnyWriter, erasure: Erasure, without_people: WithoutPeople) -> bool:
    """Whether something kept in the folder holds what is to be erased. Raises StoreDamaged."""
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


def people_in(folder: RepositoryFolder | WorkspaceFolder, names_of: Callable[[Json], set[str]]) -> set[str]:
    """What `names_of` finds in the documents of the folder's snapshots. Raises StoreDamaged."""
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
    """Go on with every erasure of the folder that was begun and not finished."""
    pending = [one for one in writer.folder.erasures() if not one.done]
    return [
        await erase(writer, one, workers=workers, lock=lock, without_people=without_people) for one in pending
    ]


def _tell(writer: AnyWriter, erasure: Erasure) -> None:
    """Write the folder's list of erasures, this one new or in place of what it said before."""
    others = [one for one in writer.folder.erasures() if one.target != erasure.target]
    content = erasures_json([*others, erasure])
    write_file(writer.path / layout.ERASURES_FILE, sealed(content))


def _refs_sha256(documents: Documents, tree: str) -> str | None:
    data = documents.read(tree, layout.REFS_DOCUMENT)
    return None if data is None else hashlib.sha256(data).hexdigest()


def _remove_mirror_of(writer: AnyWriter, erasure: Erasure) -> int:
    """Remove the mirror of what an erased document is about; returns the bytes freed."""
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
    """The LFS objects that are reached once the erased ref, which had `values`, is gone. None where that
    is not asked: nothing of LFS is there, or no ref is erased."""
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
            told = _told(documents, tree, MAIN_MIRROR)
            if told is not None:
                named |= {value for name, value in told.refs.refs.items() if name != ref}
                named |= {value for number, value in told.pins.items() if pin_name(number) != ref}
                if told.refs.head is not None and told.refs.head.kind == "detached":
                    named.add(told.refs.head.value.decode("ascii"))
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
    """What the erasure does to a snapshot's documents."""
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
        stone = dumps(erasure.tombstone)
        return Change(edits=lambda tree: _without_thing(documents, tree, target, mirror, stone))

    def document(path: str, data: bytes) -> bytes | None:
        if is_own_document(path) or (target is not None and path != target):
            return None
        value = loads(data)
        new = erased.applied(path, value)
        return None if new == value else dumps(new)

    def inside(prefix: str) -> bool:
        return target is None or target.startswith(prefix)

    return Change(document, inside)


def _without_thing(
    documents: Documents, tree: str, path: str, mirror: str, stone: bytes
) -> dict[str, bytes | None]:
    """A snapshot's documents as they are without a thing that has a mirror of its own."""
    edits = {
        one: data
        for one, data in _mirror_edits(documents, tree, mirror, None).items()
        if documents.find(tree, one) is not None
    }
    return {**edits, path: stone} if documents.find(tree, path) is not None else edits


def _without_ref(documents: Documents, tree: str, ref: bytes) -> dict[str, bytes | None]:
    """The documents of a snapshot's refs as they are without `ref` (one of upstream's, or a pin)."""
    mirror, name = split_ref(ref)
    told = _told(documents, tree, mirror)
    if told is None:
        return {}
    refs, head = told.refs.refs, told.refs.head
    left = {one: value for one, value in refs.items() if one != name}
    pins = {number: value for number, value in told.pins.items() if pin_name(number) != name}
    if len(left) == len(refs) and len(pins) == len(told.pins):
        return {}
    if head is not None and head.value == name:
        head = Head("unborn", name)
    return _mirror_edits(documents, tree, mirror, replace(told, refs=Refs(left, head), pins=pins))


def _mirror_edits(
    documents: Documents, tree: str, mirror: str, told: MirrorRefs | None
) -> dict[str, bytes | None]:
    return mirror_edits(
        mirror,
        told,
        lambda path: documents.read(tree, path),
        lambda folder: documents.paths(tree, folder),
    )


def _told(documents: Documents, tree: str, mirror: str) -> MirrorRefs | None:
    return mirror_from_documents(mirror, lambda path: documents.read(tree, path))


def _without_objects(documents: Documents, tree: str, needed: set[str]) -> dict[str, bytes | None]:
    """A snapshot's lists of LFS objects as they are with only those that are `needed`."""
    found: dict[str, bytes | None] = {}
    for path in documents.paths(tree, layout.LFS_DOCUMENTS):
        content = loads(documents.read(tree, path) or b"{}")
        left = {oid: one for oid, one in content.items() if oid in needed}
        if len(left) < len(content):
            found[path] = dumps(left) if left else None
    return found


def _values(documents: Documents, trees: Iterable[str], ref: bytes) -> set[str]:
    """Every hash that `ref` has in one of the trees."""
    values = set()
    mirror, name = split_ref(ref)
    for tree in trees:
        told = _told(documents, tree, mirror)
        if told is not None:
            named = {**told.refs.refs, **{pin_name(number): value for number, value in told.pins.items()}}
            if name in named:
                values.add(named[name])
    return values
