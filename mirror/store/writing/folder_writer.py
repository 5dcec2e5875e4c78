"""Writing one folder: its lock, its draft, its snapshots, its state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from mirror.fs.durable import make_folder, sweep
from mirror.git.documents.repack import consolidate
from mirror.git.documents.repository import Documents
from mirror.git.pack.receiver import sweep as sweep_repository
from mirror.model import (
    Clock,
    JsonObject,
    Part,
    Refs,
    Snapshot,
    dumps,
    snapshot_id,
    snapshot_time,
)
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.fingerprints import fingerprint, lfs_fingerprint
from mirror.store.format.ledger import Removal
from mirror.store.format.lfs_document import LfsObjects, lfs_to_documents
from mirror.store.format.refs_document import (
    MAIN_MIRROR,
    WIKI_MIRROR,
    MirrorRefs,
    mirror_edits,
    refs_from_documents,
)
from mirror.store.format.removals import ErasureFilter, read_dropped
from mirror.store.reading.documents import damage_in, read_snapshot, refs_sha256, snapshot_tags
from mirror.store.reading.reader import RepositoryFolder, WorkspaceFolder
from mirror.store.writing.draft import DocumentDraft, tip_of
from mirror.store.writing.file_store import FileStore
from mirror.store.writing.ledger_writer import LedgerWriter
from mirror.store.writing.locks import FolderLock, hold
from mirror.store.writing.state_file import SnapshotResult, StateFile

__all__ = ["AnyWriter", "FolderWriter", "RepositoryWriter", "SnapshotResult", "WorkspaceWriter"]

Folder = TypeVar("Folder", RepositoryFolder, WorkspaceFolder)
# The name of the LFS fingerprint in the state file.
_LFS = "lfs"
_NO_MIRRORS: Mapping[str, MirrorRefs] = {}
# The mirrors whose fingerprints the state file holds. With others the documents are opened anyway.
_FINGERPRINTED = frozenset({MAIN_MIRROR, WIKI_MIRROR})


class FolderWriter(Generic[Folder]):
    """Writes one folder. All methods but `lock` need the folder's lock."""

    def __init__(
        self,
        folder: Folder,
        command: str,
        check: Callable[[], None] = lambda: None,
        *,
        identity_damage: StoreDamaged | None = None,
    ) -> None:
        """`check` raises where the folder may not be written. `identity_damage` is the damage of its identity
        file, which was just repaired from the snapshots."""
        self.folder: Folder = folder
        self.identity_damage = identity_damage
        self._check = check
        self._path: Path = folder.root / folder.place
        self._command = command
        self._clock: Clock | None = None  # while the lock is held
        self._opened: Documents | None = None
        self._state = StateFile(folder, lambda: self.documents)
        self._ledger = LedgerWriter(folder.root, folder.place, lambda: self.documents)
        self._drafts: list[DocumentDraft] = []  # closed when the lock ends

    @property
    def path(self) -> Path:
        """The folder's path."""
        return self._path

    @asynccontextmanager
    async def lock(self, wait: float, clock: Clock) -> AsyncIterator[FolderLock]:
        """Hold the folder's writer lock, waiting up to `wait` seconds for it, and clean up after a killed
        writer.

        Yields a FolderLock whose `fileno` may be passed to a worker: the lock then lasts until the worker
        closes it too. Raises Locked naming the holder, and StoreDamaged where another folder has the same
        uuid.
        """
        self._check()
        lock = self._path / layout.LOCK_FILE
        async with hold(
            lock, what=self.folder.full_name, command=self._command, wait=wait, clock=clock
        ) as held:
            sweep(self._path)
            metadata = self._path / layout.METADATA
            if metadata.exists():
                sweep_repository(metadata)
                with damage_in(self.folder.metadata.file):
                    consolidate(metadata)
            self._clock = clock
            try:
                yield held
            finally:
                self._clock = None
                self._state.forget()
                while self._drafts:
                    self._drafts.pop().close()
                if self._opened is not None:
                    self._opened.close()
                    self._opened = None

    def _locked(self) -> Clock:
        assert self._clock is not None, f"{self.folder.place} is written without its lock"
        return self._clock

    @property
    def documents(self) -> Documents:
        """The metadata repository, opened on first use."""
        self._locked()
        if self._opened is None:
            with damage_in(self.folder.metadata.file):
                self._opened = Documents.create(self._path / layout.METADATA)
        return self._opened

    def draft(self, erased: ErasureFilter | None = None) -> DocumentDraft:
        """The documents of the next snapshot; see DocumentDraft. `erased` keeps out what was erased."""
        clock = self._locked()
        dropped = read_dropped(self.folder.root, self.folder.place)
        files = FileStore(self._path / layout.FILES, self.folder.root / layout.TEMPORARY, dropped)
        draft = DocumentDraft(
            lambda: self.documents, files, self.folder.metadata.file, clock, erased or ErasureFilter()
        )
        self._drafts.append(draft)
        return draft

    def discard_draft(self, draft: DocumentDraft) -> None:
        """Discard the draft, its checkpoints and all cursors: the next run starts from the last snapshot."""
        draft.close()
        with damage_in(self.folder.metadata.file):
            self.documents.set_refs({layout.WORK: None})
        self._state.remove()

    def mirror(self, name: str) -> Path:
        """The path of a mirror, which may not exist yet; its parent folder does."""
        self._locked()
        path = self.folder.mirror(name)
        if not path.parent.is_dir():
            make_folder(path.parent)
        return path

    @property
    def ledger_fault(self) -> str | None:
        """The fault of the ledger, if it was rebuilt since the lock was taken."""
        return self._ledger.fault

    def mark_removed(self, ids: Collection[str], run: str, reason: str) -> None:
        """Mark the snapshots `ids` as removed in the ledger. Call it before their tags are removed.

        `reason` is `retention` or `erased`.
        """
        with damage_in(self.folder.metadata.file):
            self._ledger.mark_removed(ids, Removal(self._locked().now(), run, reason))

    def rebuild_ledger(self, run: str | None = None, reason: str = "") -> None:
        """List every snapshot again after a rewrite of the history. With `run` and `reason`, snapshots
        without a tag are marked as removed."""
        with damage_in(self.folder.metadata.file):
            removal = None if run is None else Removal(self._locked().now(), run, reason)
            self._ledger.rebuild(removal)

    def read_state(self) -> JsonObject:
        """The cursors that `write_state` stored; empty where they cannot be trusted."""
        return self._state.read()

    def write_state(self, state: JsonObject) -> None:
        """Store cursors. No cursor may be ahead of the last checkpoint."""
        self._state.write(state)

    def snapshot(
        self,
        draft: DocumentDraft,
        *,
        begun: datetime,
        program: str,
        parts: Mapping[str, Part],
        refs: Refs | None = None,
        pins: Mapping[int, str] | None = None,
        lfs: LfsObjects | None = None,
        mirrors: Mapping[str, MirrorRefs] = _NO_MIRRORS,
        last_confirmed: tuple[str, datetime] | None = None,
        judge: Callable[[Snapshot | None], None] = lambda _: None,
    ) -> SnapshotResult:
        """Make the draft the next snapshot, if anything changed; ends the draft.

        `begun` is when work on this folder began. `refs` None keeps the refs of the code of the last
        snapshot (they could not be read), `pins` None the pull request pins, `lfs` None the list of LFS
        objects. `mirrors` are the refs of other mirrors that could be read. `last_confirmed` is the snapshot
        that an earlier run last found unchanged, and when. `judge` is called with the last snapshot before a
        new one is taken, and may raise to prevent it.
        """
        if (self._state.last or {}).get("ledger") is not None and not self.folder.has(layout.LEDGER_FILE):
            self._ledger.note_missing()
        current = dict(mirrors)
        if refs is not None and pins is not None:
            current[MAIN_MIRROR] = MirrorRefs(refs, pins)
        fingerprints = {name: fingerprint(current[name]) for name in current.keys() & _FINGERPRINTED}
        is_comparable = fingerprints.keys() == current.keys() and (refs is None or pins is not None)
        if lfs is not None:
            fingerprints[_LFS] = lfs_fingerprint(lfs)
        if is_comparable and not draft.is_begun:
            unchanged = self._state.unchanged(parts, fingerprints)
            if unchanged is not None:
                return unchanged
        fingerprints = {**self._state.fingerprints, **fingerprints}
        with damage_in(self.folder.metadata.file):
            if refs is not None and pins is None:
                fingerprints.pop(MAIN_MIRROR, None)
                current[MAIN_MIRROR] = MirrorRefs(refs, _pins_of(draft))
            for mirror in sorted(current):  # `code` first: its document also holds the wiki
                _put_mirror(draft, mirror, current[mirror])
            if lfs is not None:
                _put_lfs(draft, lfs)
            snapshot, changed = self._take(draft, begun, program, parts, judge)
            ledger = self._ledger.update(last_confirmed)
            digest = refs_sha256(self.documents, snapshot.tree)
        result = SnapshotResult(snapshot, changed, digest, ledger.sha256)
        self._state.note(result, fingerprints)
        return result

    def _take(
        self,
        draft: DocumentDraft,
        begun: datetime,
        program: str,
        parts: Mapping[str, Part],
        judge: Callable[[Snapshot | None], None],
    ) -> tuple[Snapshot, bool]:
        """The new snapshot and True, or the last one and False where nothing changed."""
        documents = self.documents
        tip = tip_of(documents)
        tags: dict[str, str] = snapshot_tags(documents)
        last: Snapshot | None = None if tip is None else read_snapshot(documents, tip)
        if last is not None and tip in tags.values() and self._is_same(documents, draft, last, parts):
            _settle(draft, last)
            return last, False
        judge(last)
        snapshot = Snapshot(
            id=_next_id(begun, [*tags, *([last.id] if last is not None else [])]),
            time=begun,
            sequence=1 if last is None else last.sequence + 1,
            program=program,
            uuid=self.folder.uuid,
            full_name=self.folder.full_name,
            parts=dict(parts),
        )
        tree = self._commit(documents, draft, snapshot, tip)
        read_back = read_snapshot(documents, documents.tags()[snapshot.id])
        assert read_back.tree == tree and read_back.id == snapshot.id
        return read_back, True

    def _is_same(
        self, documents: Documents, draft: DocumentDraft, last: Snapshot, parts: Mapping[str, Part]
    ) -> bool:
        """Whether the draft equals the last snapshot: documents, parts and name."""
        if dict(last.parts) != dict(parts) or last.full_name != self.folder.full_name:
            return False
        differing = {path for path, _, _ in documents.diff(last.tree, draft.base)}
        for path in (draft.touched | differing) - {layout.SNAPSHOT_DOCUMENT}:
            entry = documents.find(last.tree, path)
            if draft.edit.blob_id(path) != (None if entry is None else entry[1]):
                return False
        return True

    def _commit(self, documents: Documents, draft: DocumentDraft, taken: Snapshot, parent: str | None) -> str:
        draft.put_bytes(layout.SNAPSHOT_DOCUMENT, dumps(taken.to_json()))
        commit = draft.edit.commit(
            ref=layout.MAIN,
            tag=taken.id,
            message=(
                f"{taken.full_name} at {taken.id}\n\nSequence: {taken.sequence}\nProgram: {taken.program}\n"
            ),
            when=taken.time,
            parent=parent,
        )
        # After a kill before this line the next draft finds the checkpoints stale.
        if documents.head(layout.WORK) is not None:
            documents.set_refs({layout.WORK: None})
        return documents.tree_of(commit)


class WorkspaceWriter(FolderWriter[WorkspaceFolder]):
    """Writes the folder of a workspace. Its snapshots hold what belongs to no repository."""


class RepositoryWriter(FolderWriter[RepositoryFolder]):
    """Writes the folder of a repository."""


AnyWriter = FolderWriter[RepositoryFolder] | FolderWriter[WorkspaceFolder]


def _pins_of(draft: DocumentDraft) -> Mapping[int, str]:
    known = refs_from_documents(draft.edit.get)
    return {} if known is None else known[1]


def _put_lfs(draft: DocumentDraft, objects: LfsObjects) -> None:
    documents = lfs_to_documents(objects)
    for path in set(draft.edit.paths(layout.LFS_DOCUMENTS)) - documents.keys():
        draft.remove_any(path)
    for path, data in documents.items():
        draft.put_bytes(path, data)


def _put_mirror(draft: DocumentDraft, mirror: str, refs: MirrorRefs) -> None:
    for path, data in mirror_edits(mirror, refs, draft.edit.get, draft.edit.paths).items():
        if data is None:
            draft.remove_any(path)
        else:
            draft.put_bytes(path, data)


def _settle(draft: DocumentDraft, last: Snapshot) -> None:
    """Remove a draft that equals the last snapshot.

    If earlier checkpoints differ from the snapshot, the return to it becomes a checkpoint too: the next
    draft starts there.
    """
    if draft.base == last.tree:
        draft.discard()
    else:
        draft.checkpoint()


def _next_id(begun: datetime, taken: list[str]) -> str:
    """The id of a snapshot begun at `begun`, greater than all of `taken`.

    If the clock has not advanced, it is one second after the last id: ids sort as sequences do.
    """
    identifier = snapshot_id(begun)
    last = max(taken, default="")
    return identifier if identifier > last else snapshot_id(snapshot_time(last) + timedelta(seconds=1))
