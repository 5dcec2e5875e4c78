"""Freeing disk space: documents, refs, git objects and files that no kept snapshot needs.

Every step may be repeated after a kill, and leaves a store that readers and the next run accept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mirror.fs.durable import sync_folder
from mirror.git.documents.repository import Documents
from mirror.git.documents.rewrite import (
    Change,
    RewrittenHistory,
    compact,
    distinct_documents,
    object_count,
    reachable,
    rewrite,
)
from mirror.git.mirrors.gc import GcJob
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
from mirror.model import Json, JsonObject, Snapshot, loads, pointers
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.lfs_document import knows_lfs
from mirror.store.reading.documents import damage_in, snapshot_tags
from mirror.store.reading.folders import AnyFolder, RepositoryFolder
from mirror.store.writing.draft import checkpoints_since, tip_of
from mirror.store.writing.folder_writer import AnyWriter


@dataclass(frozen=True)
class Freed:
    """Bytes that were, or would be, freed on the disk.

    `code` is None where C git is needed and not installed. `still_held` are refs that still reach an erased
    object.
    """

    documents: int = 0
    files: int = 0
    code: int | None = 0
    still_held: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON in results and run records."""
        return {"documents": self.documents, "files": self.files, "code": self.code, "total": self.total}

    @property
    def total(self) -> int:
        """The sum, as far as it is known."""
        return self.documents + self.files + (self.code or 0)

    def __add__(self, other: Freed) -> Freed:
        code = None if self.code is None or other.code is None else self.code + other.code
        held = (*self.still_held, *other.still_held)
        return Freed(self.documents + other.documents, self.files + other.files, code, held)


@dataclass
class ListedFiles:
    """The files and LFS objects that documents list. For each file: when the subject of each document that
    lists it ended (None: not ended)."""

    files: dict[str, list[datetime | None]] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)


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

    The history is rewritten if more than half of it is untagged, or `rewrite`. The objects of a mirror are
    collected if a keep ref is removed, hashes are `gone` from it, or `collect`. `lock` is the descriptor of
    the folder's lock. Raises StoreDamaged and GitFailed; a damaged repository stays as it is.
    """
    freed = Freed(documents=free_documents(writer, rewrite=rewrite))
    folder = writer.folder
    listed = list_files(writer.documents, kept_trees(writer))
    named, went = folder.metadata.hash_usage(folder.metadata.snapshots()), gone or {}
    for mirror, path in folder.mirrors().items():
        always = collect or mirror in went
        kept, lost = set(named.get(mirror, ())), set(went.get(mirror, ()))
        freed += await _free_mirror(path, workers, lock, kept, lost, always=always)
    unlisted = unlisted_files(folder, listed, folder.metadata.snapshots())
    return freed + Freed(files=remove_files(unlisted))


def free_documents(writer: AnyWriter, *, rewrite: bool) -> int:
    """Rewrite the history to the kept snapshots if enough of it is unneeded; returns the bytes freed."""
    documents = writer.documents
    before = _pack_bytes(documents.path)
    with damage_in(writer.folder.metadata.file):
        snapshots = snapshot_tags(documents)
        main = tip_of(documents)
        history = len(_chain(documents, main))
        stale = history > 2 * len(snapshots) or (rewrite and history > len(snapshots))
        if stale:
            documents.set_refs(dict(rewrite_history(documents).refs))
        wanted = reachable(documents)
        if stale or rewrite or object_count(documents.path) > 2 * len(wanted):
            compact(documents, wanted)
    return max(0, before - _pack_bytes(documents.path))


def rewrite_history(documents: Documents, change: Change | None = None) -> RewrittenHistory:
    """Write the history of the tagged snapshots again, and the checkpoints after the last one; no ref moves.

    `change` is applied to every tree. See `git.documents.rewrite`.
    """
    main = tip_of(documents)
    work = documents.head(layout.WORK)
    checkpoints: list[str] = []
    if work is not None and checkpoints_since(documents, work, main) is not None:
        checkpoints = _chain(documents, work, main)
    snapshots = list(snapshot_tags(documents).items())
    return rewrite(
        documents, snapshots, main=layout.MAIN, work=checkpoints, work_ref=layout.WORK, change=change
    )


def _chain(documents: Documents, tip: str | None, until: str | None = None) -> list[str]:
    """The commits from `tip` back to `until`, without it, the oldest first."""
    found: list[str] = []
    while tip is not None and tip != until:
        found.append(tip)
        tip = documents.parent_of(tip)
    return found[::-1]


def kept_trees(writer: AnyWriter) -> list[str]:
    """The trees of the tagged snapshots and of the draft."""
    documents = writer.documents
    with damage_in(writer.folder.metadata.file):
        commits = set(snapshot_tags(documents).values())
        commits.update(commit for ref in (layout.MAIN, layout.WORK) if (commit := documents.head(ref)))
        return [documents.tree_of(commit) for commit in sorted(commits)]


def list_files(
    documents: Documents,
    trees: Iterable[str],
    ended: Callable[[str, Json], datetime | None] = lambda _path, _value: None,
) -> ListedFiles:
    """The files and LFS objects that the documents of `trees` list.

    `ended` gives, for a document's path and value, when its subject (a pipeline) ended. Raises StoreDamaged.
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
    """The stored files and LFS objects that are not `listed`; `kept` are the snapshots that stay."""
    found = [stored.path for stored in folder.files(lambda _: None) if stored.sha256 not in listed.files]
    if isinstance(folder, RepositoryFolder) and _lists_lfs(folder, kept):
        found += [path for path in folder.lfs_objects() if path.name not in listed.lfs]
    return found


def _lists_lfs(folder: RepositoryFolder, kept: Sequence[Snapshot]) -> bool:
    """Whether the snapshots list every LFS object that is needed.

    False where one of them was taken without LFS, and where a killed run fetched refs, and objects, that no
    snapshot has yet.
    """
    if not kept or not all(knows_lfs(one.parts) for one in kept):
        return False
    known = folder.metadata.code_refs(kept[-1])
    if known is None or not folder.code.exists():
        return False
    expected = {name: value for name, value in known[0].refs.items() if not name.startswith(OURS)}
    expected |= {pin_name(number): value for number, value in known[1].items()}
    refs = read_refs(folder.code, ours=True).refs
    fetched = (PULL_REQUESTS, WORK)
    return expected == {
        name: value for name, value in refs.items() if not name.startswith(OURS) or name.startswith(fetched)
    }


def remove_files(paths: Iterable[Path]) -> int:
    """Remove files durably; returns the bytes freed."""
    freed = 0
    parents = set()
    for path in paths:
        freed += path.stat().st_size
        path.unlink()
        parents.add(path.parent)
    for parent in sorted(parents):
        sync_folder(parent)
    return freed


def check_hashes_held(folder: AnyFolder, snapshots: Iterable[Snapshot]) -> None:
    """Raise StoreDamaged unless every hash that the snapshots name is the value of a ref."""
    for mirror, named in folder.metadata.hash_usage(snapshots).items():
        path = folder.mirror(mirror)
        file = f"{folder.relative(path)}/packed-refs"
        with damage_in(file):
            fault = packed_fault(path) if named else None
            unheld = named.keys() - set(read_all(path).values()) if named else set()
        if fault is not None or unheld:
            raise StoreDamaged(file, fault or f"no ref holds {min(unheld)}, which a snapshot names")


def unneeded_keeps(mirror: Path, named: Collection[str]) -> set[str]:
    """The hashes with a keep ref that no kept snapshot names (`named`)."""
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
    """Remove the refs of a mirror for which `goes` is true, atomically."""
    _, peeled = read_packed(mirror)
    refs = {name: value for name, value in read_all(mirror).items() if not goes(name, value)}
    write_packed(mirror, refs, {name: peeled[name] for name in peeled if name in refs}, read_head(mirror))


def remove_everything(writer: AnyWriter) -> int:
    """Remove the whole content of a folder but its identity; returns the bytes freed.

    The metadata stays as an empty repository: the holder of the lock has it open.
    """
    documents = writer.documents
    freed = _pack_bytes(documents.path)
    # The tags first: a tagged snapshot is complete at any moment.
    refs = read_all(documents.path)
    documents.set_refs({name.decode("utf-8", "surrogateescape"): None for name in refs})
    compact(documents, [])
    freed = max(0, freed - _pack_bytes(documents.path))
    for name in (layout.CODE, layout.WIKI, layout.SNIPPETS, layout.FILES):
        freed += _remove_folder(writer, name)
    (writer.path / layout.STATE_FILE).unlink(missing_ok=True)
    return freed


def remove_mirror(writer: AnyWriter, mirror: str) -> int:
    """Remove a mirror; returns the bytes freed."""
    return _remove_folder(writer, layout.mirror_place(mirror))


def _remove_folder(writer: AnyWriter, name: str) -> int:
    """Remove a folder, by a rename first, so that it disappears at once; returns the bytes freed."""
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
