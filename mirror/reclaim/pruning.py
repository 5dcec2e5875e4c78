"""Letting go: tags at once, then the bytes that no kept snapshot needs.

Each step leaves a store that readers and the next run accept, and may be done again: what was begun
is told by a file that is written before the first tag goes, and marked as done after the last byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from mirror.fs.durable import sync_folder, write_file
from mirror.git.documents.repository import Documents
from mirror.git.documents.rewrite import (
    Change,
    Rewriting,
    compact,
    distinct_documents,
    object_count,
    packed_sizes,
    reachable,
    rewrite,
)
from mirror.git.mirrors.gc import DiskUsageJob, GcJob
from mirror.git.pack.receiver import sweep
from mirror.git.refs import (
    KEEP,
    OURS,
    PULL_REQUESTS,
    WORK,
    packed_fault,
    pin_name,
    read_all,
    read_head,
    read_packed,
    read_refs,
    write_packed,
)
from mirror.git.workers.pool import WorkerPool
from mirror.model import Json, JsonObject, Snapshot, is_snapshot_id, loads, pointers, time_text
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.lfs_document import knows_lfs
from mirror.store.format.removals import Pruned
from mirror.store.format.seal import sealed
from mirror.store.reading.reader import RepositoryFolder, WorkspaceFolder
from mirror.store.reading.snapshots import damage_in
from mirror.store.writing.draft import checkpoints_since, tip_of
from mirror.store.writing.folder_writer import FolderWriter

AnyFolder = RepositoryFolder | WorkspaceFolder
AnyWriter = FolderWriter[RepositoryFolder] | FolderWriter[WorkspaceFolder]


@dataclass(frozen=True)
class Freed:
    """Bytes that were (or would be) freed on the disk. `code` None: C git is needed to free or to
    estimate_freed them, and is not installed. `still_held` are refs that reach something that was to go."""

    documents: int = 0
    files: int = 0
    code: int | None = 0
    still_held: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """As results and run records hold it."""
        return {"documents": self.documents, "files": self.files, "code": self.code, "total": self.total}

    @property
    def total(self) -> int:
        """All that is known."""
        return self.documents + self.files + (self.code or 0)

    def __add__(self, other: Freed) -> Freed:
        code = None if self.code is None or other.code is None else self.code + other.code
        held = (*self.still_held, *other.still_held)
        return Freed(self.documents + other.documents, self.files + other.files, code, held)


@dataclass
class ListedFiles:
    """The files and LFS objects that documents list; for each file what was noted of its documents."""

    files: dict[str, list[datetime | None]] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)


def begin_pruning(writer: AnyWriter, run: str, drop: Collection[str]) -> None:
    """Tell that the snapshots `drop` go, in the run `run`, and remove their tags."""
    writer.let_go(drop, run, "retention")
    _write_pruned(writer, Pruned(run, tuple(sorted(drop)), done=False))
    with damage_in(writer.folder.metadata.file):
        writer.documents.set_refs({f"refs/tags/{name}": None for name in drop})


def finish_pruning(writer: AnyWriter) -> None:
    """Tell that the bytes of what was let go are free."""
    pruned = writer.folder.pruned()
    if pruned is not None and not pruned.done:
        _write_pruned(writer, replace(pruned, done=True))


def _write_pruned(writer: AnyWriter, pruned: Pruned) -> None:
    write_file(writer.path / layout.PRUNED_FILE, sealed(pruned.to_json()))


async def free_space(
    writer: AnyWriter,
    workers: WorkerPool,
    lock: int,
    *,
    rewrite: bool = False,
    collect: bool = False,
    gone: Mapping[str, Collection[str]] | None = None,
) -> Freed:
    """Free what no kept snapshot needs: documents, keep refs, objects of mirrors, files.

    History is rewritten only when more than half of it is untagged, unless `rewrite`; objects of a
    mirror are looked for where a keep ref goes or hashes are `gone` from it, unless `collect`. `lock` is
    the descriptor of the folder's lock. Raises StoreDamaged and GitFailed: what is damaged is left alone.
    """
    freed = Freed(documents=free_documents(writer, rewrite=rewrite))
    folder = writer.folder
    listed = list_files(writer.documents, kept_trees(writer))
    named, went = folder.metadata.named(folder.metadata.snapshots()), gone or {}
    for mirror, path in folder.mirrors().items():
        always = collect or mirror in went
        kept, lost = set(named.get(mirror, ())), set(went.get(mirror, ()))
        freed += await _free_mirror(path, workers, lock, kept, lost, always=always)
    unlisted = unlisted_files(folder, listed, folder.metadata.snapshots())
    return freed + Freed(files=remove_files(unlisted))


def free_documents(writer: AnyWriter, *, rewrite: bool) -> int:
    """Rewrite the history to the kept snapshots where that is worth it; returns the bytes freed."""
    documents = writer.documents
    before = _pack_bytes(documents.path)
    with damage_in(writer.folder.metadata.file):
        snapshots = in_order(documents)
        main = tip_of(documents)
        history = len(_chain(documents, main))
        stale = history > 2 * len(snapshots) or (rewrite and history > len(snapshots))
        if stale:
            documents.set_refs(dict(rewritten(documents, snapshots).refs))
        wanted = reachable(documents)
        if stale or rewrite or object_count(documents.path) > 2 * len(wanted):
            compact(documents, wanted)
    return max(0, before - _pack_bytes(documents.path))


def rewritten(
    documents: Documents, snapshots: Iterable[tuple[str, str]], change: Change | None = None
) -> Rewriting:
    """Write the history of `snapshots`, the work on top of the last one with it; see git.history."""
    main = tip_of(documents)
    work = documents.head(layout.WORK)
    commits: list[str] = []
    if work is not None and checkpoints_since(documents, work, main) is not None:
        commits = _chain(documents, work, main)
    return rewrite(
        documents, list(snapshots), main=layout.MAIN, work=commits, work_ref=layout.WORK, change=change
    )


def in_order(documents: Documents) -> list[tuple[str, str]]:
    """The tagged snapshots, tag and commit, the oldest first (ids sort as sequences do)."""
    return sorted((name, commit) for name, commit in documents.tags().items() if is_snapshot_id(name))


def _chain(documents: Documents, tip: str | None, until: str | None = None) -> list[str]:
    """The commits from `tip` back to `until` (left out), the oldest first."""
    found: list[str] = []
    while tip is not None and tip != until:
        found.append(tip)
        tip = documents.parent_of(tip)
    return found[::-1]


def kept_trees(writer: AnyWriter) -> list[str]:
    """The trees of all that is kept: tagged snapshots, and work on its way to the next one."""
    documents = writer.documents
    with damage_in(writer.folder.metadata.file):
        commits = {commit for _, commit in in_order(documents)}
        commits.update(commit for ref in (layout.MAIN, layout.WORK) if (commit := documents.head(ref)))
        return [documents.tree_of(commit) for commit in sorted(commits)]


def list_files(
    documents: Documents,
    trees: Iterable[str],
    ended: Callable[[str, Json], datetime | None] = lambda _path, _value: None,
) -> ListedFiles:
    """Which files and LFS objects the documents of `trees` list.

    `ended` tells by a document's path and value when what it is about was over. Raises StoreDamaged.
    """
    listed = ListedFiles()
    with damage_in(documents.path.name):
        for path, blob in distinct_documents(documents, trees):
            data = documents.blob(blob)
            if path.startswith(layout.LFS_DOCUMENTS):
                listed.lfs.update(loads(data))
            elif b'"sha256"' in data:
                value = loads(data)
                for pointer in pointers(value):
                    listed.files.setdefault(pointer["sha256"], []).append(ended(path, value))
    return listed


def unlisted_files(folder: AnyFolder, listed: ListedFiles, kept: Sequence[Snapshot]) -> list[Path]:
    """The stored files and LFS objects that nothing kept lists; `kept` are the snapshots that stay."""
    found = [stored.path for stored in folder.files(lambda _: None) if stored.sha256 not in listed.files]
    if isinstance(folder, RepositoryFolder) and _lists_lfs(folder, kept):
        found += [path for path in folder.lfs_objects() if path.name not in listed.lfs]
    return found


def _lists_lfs(folder: RepositoryFolder, kept: Sequence[Snapshot]) -> bool:
    """Whether the snapshots list every LFS object that anything kept may need.

    Not so where one of them was taken without looking for LFS, and where a run that was killed has
    brought refs (and objects) that are in no snapshot yet.
    """
    if not kept or not all(knows_lfs(one.parts) for one in kept):
        return False
    known = folder.metadata.code_refs(kept[-1])
    if known is None or not folder.code.exists():
        return False
    told = {name: value for name, value in known[0].refs.items() if not name.startswith(OURS)}
    told |= {pin_name(number): value for number, value in known[1].items()}
    held = read_refs(folder.code, ours=True).refs
    brought = (PULL_REQUESTS, WORK)
    return told == {one: held[one] for one in held if not one.startswith(OURS) or one.startswith(brought)}


def remove_files(paths: Iterable[Path]) -> int:
    """Remove files durably; returns their bytes."""
    freed = 0
    parents = set()
    for path in paths:
        freed += path.stat().st_size
        path.unlink()
        parents.add(path.parent)
    for parent in sorted(parents):
        sync_folder(parent)
    return freed


def drop_logs(writer: AnyWriter, sha256s: Collection[str], now: datetime, listed: ListedFiles) -> int:
    """Let the step logs of these sha256 go; returns the bytes freed.

    Their pointers stay, and the folder's list of dropped logs says since when they are gone.
    """
    folder = writer.folder
    assert isinstance(folder, RepositoryFolder)
    before = folder.dropped()
    dropped = {one: when for one, when in before.items() if one in listed.files}
    dropped |= {one: time_text(now) for one in sha256s if one not in dropped}
    if dropped != before:
        content = {"schema": 1, "files": dropped}
        write_file(writer.path / layout.DROPPED_FILE, sealed(content))
    there = (folder.find_file(one) for one in sorted(sha256s))
    return remove_files([found.path for found in there if found is not None])


def check_hashes_held(folder: AnyFolder, snapshots: Iterable[Snapshot]) -> None:
    """Raise StoreDamaged unless each hash that the snapshots name is the value of some ref."""
    for mirror, named in folder.metadata.named(snapshots).items():
        path = folder.mirror(mirror)
        file = f"{folder.relative(path)}/packed-refs"
        with damage_in(file):
            fault = packed_fault(path) if named else None
            unheld = named.keys() - set(read_all(path).values()) if named else set()
        if fault is not None or unheld:
            raise StoreDamaged(file, fault or f"no ref holds {min(unheld)}, which a snapshot names")


def unneeded_keeps(mirror: Path, named: Collection[str]) -> set[str]:
    """The hashes whose keep ref nothing needs: no kept snapshot (`named`) names them."""
    if not (mirror / "packed-refs").exists():
        return set()
    return {value for name, value in read_all(mirror).items() if name.startswith(KEEP) and value not in named}


async def _free_mirror(
    path: Path, workers: WorkerPool, lock: int, named: set[str], gone: set[str], *, always: bool
) -> Freed:
    if path.exists():
        sweep(path)
    unneeded = unneeded_keeps(path, named)
    if unneeded:
        remove_refs(path, lambda name, value: name.startswith(KEEP) and value in unneeded)
    if not gone and not unneeded and not always:
        return Freed()
    job = GcJob(
        str(path),
        tuple(sorted(named)),
        tuple(sorted(gone | unneeded)),
        always,
        report_holders=bool(gone),
    )
    result = await workers.run(job, lock_fd=lock)
    return Freed(code=result.freed, still_held=result.holders)


def remove_refs(mirror: Path, goes: Callable[[bytes, str], bool]) -> None:
    """Remove the refs of a mirror that `goes` means, in one durable step."""
    _, peeled = read_packed(mirror)
    refs = {name: value for name, value in read_all(mirror).items() if not goes(name, value)}
    write_packed(mirror, refs, {name: peeled[name] for name in peeled if name in refs}, read_head(mirror))


async def estimate_freed(
    writer: AnyWriter, workers: WorkerPool, drop: Collection[str], logs: Collection[str]
) -> Freed:
    """How many bytes go with the snapshots `drop` and the step logs `logs`: of files exactly, of
    documents and code by what their objects take now. Nothing is changed."""
    documents, folder = writer.documents, writer.folder
    with damage_in(folder.metadata.file):
        snapshots = folder.metadata.snapshots()
        kept = [one for one in snapshots if one.id not in drop]
        work = documents.head(layout.WORK)
        kept_tree = [one.tree for one in kept] + ([documents.tree_of(work)] if work is not None else [])
        stays = {blob for _, blob in distinct_documents(documents, kept_tree)}
        goes = {blob for _, blob in distinct_documents(documents, [one.tree for one in snapshots])} - stays
        sizes = packed_sizes(documents.path)
    freed = Freed(documents=sum(sizes.get(blob, 0) for blob in goes))
    listed = list_files(documents, kept_tree)
    paths = unlisted_files(folder, listed, kept) if drop else []
    paths += [found.path for one in sorted(logs) if (found := folder.find_file(one)) is not None]
    freed += Freed(files=sum(path.stat().st_size for path in set(paths)))
    named = folder.metadata.named(kept) if drop else {}
    for mirror, path in folder.mirrors().items() if drop else ():
        held = set(named.get(mirror, ()))
        gone = unneeded_keeps(path, held)
        if gone:
            others = {value for value in read_all(path).values() if value not in gone} | held
            answer = await workers.run(DiskUsageJob(str(path), tuple(sorted(gone)), tuple(sorted(others))))
            freed += Freed(code=answer.size)
    return freed


def remove_everything(writer: AnyWriter) -> int:
    """Remove all that a folder holds but who it belongs to; returns the bytes freed.

    The metadata stays as an empty repository, because the lock's holder has it open.
    """
    documents = writer.documents
    freed = _pack_bytes(documents.path)
    # The tags first: what is tagged is whole, at any moment.
    refs = read_all(documents.path)
    documents.set_refs({name.decode("utf-8", "surrogateescape"): None for name in refs})
    compact(documents, [])
    freed = max(0, freed - _pack_bytes(documents.path))
    for name in (layout.CODE, layout.WIKI, layout.SNIPPETS, layout.FILES):
        freed += _remove_folder(writer, name)
    (writer.path / layout.STATE_FILE).unlink(missing_ok=True)
    return freed


def remove_mirror(writer: AnyWriter, mirror: str) -> int:
    """Remove a mirror as a whole; returns the bytes freed."""
    return _remove_folder(writer, layout.mirror_place(mirror))


def _remove_folder(writer: AnyWriter, name: str) -> int:
    """Remove a folder, in one step as others see it; returns the bytes freed."""
    top = writer.path / name
    if not top.exists():
        return 0
    freed = sum(file.stat().st_size for file in top.rglob("*") if file.is_file())
    away = writer.folder.root / layout.TEMPORARY / f"{writer.folder.folder}.{top.name}.new"
    shutil.rmtree(away, ignore_errors=True)
    top.rename(away)
    sync_folder(top.parent)
    shutil.rmtree(away)
    return freed


def _pack_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path / "objects").rglob("*") if file.is_file())
