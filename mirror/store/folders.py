"""Writing one folder: its lock, its draft, its snapshots, its state."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from mirror.git.consolidate import consolidate
from mirror.git.documents import Documents
from mirror.logs import get_logger
from mirror.model import (
    Clock,
    JsonObject,
    Part,
    Refs,
    Snapshot,
    dumps,
    is_snapshot_id,
    snapshot_id,
    snapshot_time,
)
from mirror.store import layout
from mirror.store.disk import sweep, write_file
from mirror.store.drafts import Deposit, WorkDraft, checkpoints_since, tip_of
from mirror.store.failures import Malformed, StoreDamaged
from mirror.store.locks import FolderLock, hold
from mirror.store.reader import RepositoryFolder, WorkspaceFolder
from mirror.store.records import read_small
from mirror.store.refs_document import is_shard, refs_from_documents, refs_to_documents
from mirror.store.removals import Erased, read_dropped
from mirror.store.snapshots import damage_in, read_snapshot

Folder = TypeVar("Folder", RepositoryFolder, WorkspaceFolder)
_log = get_logger("store")


@dataclass(frozen=True)
class Taken:
    """What came of taking a snapshot.

    `changed` False: nothing had changed, and `snapshot` is the one there was. `refs_sha256` is that
    of its `refs.json`, None where it has none.
    """

    snapshot: Snapshot
    changed: bool
    refs_sha256: str | None


class FolderWriter(Generic[Folder]):
    """Writes one folder. All but `lock` and the plain facts need its lock to be held."""

    def __init__(self, folder: Folder, command: str) -> None:
        self.folder: Folder = folder
        self._path: Path = folder.root / folder.place
        self._command = command
        self._held: tuple[Documents, Clock] | None = None
        self._drafts: list[WorkDraft] = []  # to be closed with the lock

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self._path

    @asynccontextmanager
    async def lock(self, wait: float, clock: Clock) -> AsyncIterator[FolderLock]:
        """Hold the folder's writer lock, waiting up to `wait` seconds for it.

        Gives a FolderLock whose `fileno` may be handed to a worker: the lock then lasts until the
        worker has closed it too. Raises Locked naming the holder.
        """
        lock = self._path / layout.LOCK_FILE
        async with hold(
            lock, what=self.folder.full_name, command=self._command, wait=wait, clock=clock
        ) as held:
            sweep(self._path)
            with damage_in(self.folder.metadata.file):
                documents = Documents.create(self._path / layout.METADATA)
            try:
                documents.sweep()
                with damage_in(self.folder.metadata.file):
                    if consolidate(self._path / layout.METADATA):
                        documents.refresh()
                self._held = documents, clock
                yield held
            finally:
                self._held = None
                while self._drafts:
                    self._drafts.pop().close()
                documents.close()

    def _locked(self) -> tuple[Documents, Clock]:
        assert self._held is not None, f"{self.folder.place} is written without its lock"
        return self._held

    @property
    def documents(self) -> Documents:
        """The metadata repository itself; for the store's own rewriting."""
        return self._locked()[0]

    def work(self, erased: Erased | None = None) -> WorkDraft:
        """The documents on their way to the next snapshot; see WorkDraft. `erased` may not come back."""
        documents, clock = self._locked()
        dropped = read_dropped(self.folder.root, self.folder.place)
        deposit = Deposit(self._path / layout.FILES, self.folder.root / layout.TEMPORARY, dropped)
        draft = WorkDraft(documents, deposit, self.folder.metadata.file, clock, erased or Erased())
        self._drafts.append(draft)
        return draft

    def kept_ids(self) -> tuple[str, ...]:
        """The ids of every snapshot that is kept, sorted."""
        return tuple(self.folder.metadata.tags())

    def read_state(self) -> JsonObject:
        """The cursors and so on that `write_state` kept; empty where they cannot be trusted.

        They are a cache: absent, broken, or ahead of the documents (the metadata was brought back
        from an older copy) means that everything is looked at again.
        """
        file = self.folder.relative(layout.STATE_FILE)
        if not (self._path / layout.STATE_FILE).exists():
            return {}
        try:
            position, state = read_small(self.folder.root, file, _state)
            if position > self._position():
                raise StoreDamaged(file, "it is ahead of the documents")
        except StoreDamaged as damage:
            _log.warning("store.state_ignored", file=file, problem=damage.problem)
            return {}
        return state

    def write_state(self, state: JsonObject) -> None:
        """Keep cursors and so on. Nothing in `state` may be ahead of the last checkpoint."""
        data = {"schema": 1, "position": list(self._position()), "state": state}
        write_file(self._path / layout.STATE_FILE, dumps(data))

    def _position(self) -> tuple[int, int]:
        """How far the documents are: the last snapshot's sequence, and the checkpoints since."""
        documents, _ = self._locked()
        with damage_in(self.folder.metadata.file):
            tip = tip_of(documents)
            sequence = 0 if tip is None else read_snapshot(documents, tip).sequence
            work = documents.head(layout.WORK)
            since = None if work is None else checkpoints_since(documents, work, tip)
        return sequence, since or 0

    def snapshot(
        self,
        draft: WorkDraft,
        *,
        begun: datetime,
        program: str,
        parts: Mapping[str, Part],
        refs: Refs | None = None,
        pins: Mapping[int, str] | None = None,
    ) -> Taken:
        """Make the draft the next snapshot, if anything changed; the draft is used up.

        `begun` is when work on this folder began. `refs` None leaves the refs as the last snapshot
        has them (they could not be read now), `pins` None the pull request pins.
        """
        documents, _ = self._locked()
        tags: dict[str, str]
        last: Snapshot | None
        with damage_in(self.folder.metadata.file):
            if refs is not None:
                _put_refs(draft, refs, pins)
            tip = tip_of(documents)
            last = None if tip is None else read_snapshot(documents, tip)
            tags = {name: commit for name, commit in documents.tags().items() if is_snapshot_id(name)}
            if last is not None and tip in tags.values() and self._is_same(documents, draft, last, parts):
                _settle(draft, last)
                return Taken(last, changed=False, refs_sha256=_refs_sha256(documents, last.tree))
            taken = Snapshot(
                id=_next_id(begun, [*tags, *([last.id] if last is not None else [])]),
                time=begun,
                sequence=1 if last is None else last.sequence + 1,
                program=program,
                uuid=self.folder.uuid,
                full_name=self.folder.full_name,
                parts=dict(parts),
            )
            tree = self._commit(documents, draft, taken, tip)
            read_back = read_snapshot(documents, documents.tags()[taken.id])
        assert read_back.tree == tree and read_back.id == taken.id
        return Taken(read_back, changed=True, refs_sha256=_refs_sha256(documents, tree))

    def _is_same(
        self, documents: Documents, draft: WorkDraft, last: Snapshot, parts: Mapping[str, Part]
    ) -> bool:
        """Whether the draft is what the last snapshot holds: documents, parts and name."""
        if dict(last.parts) != dict(parts) or last.full_name != self.folder.full_name:
            return False
        differing = {path for path, _, _ in documents.diff(last.tree, draft.base)}
        for path in (draft.touched | differing) - {layout.SNAPSHOT_DOCUMENT}:
            entry = documents.find(last.tree, path)
            if draft.edit.blob_id(path) != (None if entry is None else entry[1]):
                return False
        return True

    def _commit(self, documents: Documents, draft: WorkDraft, taken: Snapshot, parent: str | None) -> str:
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
        # The work has become the snapshot. Killed before this, the next draft finds it stale.
        if documents.head(layout.WORK) is not None:
            documents.set_refs({layout.WORK: None})
        return documents.tree_of(commit)


class WorkspaceWriter(FolderWriter[WorkspaceFolder]):
    """Writes a workspace's own folder; its snapshots hold what belongs to no repository."""


class RepositoryWriter(FolderWriter[RepositoryFolder]):
    """Writes a repository's folder."""


def _state(data: JsonObject) -> tuple[tuple[int, int], JsonObject]:
    match data:
        case {"schema": 1, "position": [int() as sequence, int() as checkpoints], "state": dict() as state}:
            return (sequence, checkpoints), state
    raise Malformed("it is not of the form that this version writes")


def _put_refs(draft: WorkDraft, refs: Refs, pins: Mapping[int, str] | None) -> None:
    if pins is None:
        known = refs_from_documents(draft.edit.get)
        pins = {} if known is None else known[1]
    documents = refs_to_documents(refs, pins)
    for path in [path for path in draft.edit.paths(layout.REFS_SHARDS) if is_shard(path)]:
        if path not in documents:
            draft.remove_any(path)
    for path, data in documents.items():
        draft.put_bytes(path, data)


def _settle(draft: WorkDraft, last: Snapshot) -> None:
    """Leave nothing of a draft that came to the same as the last snapshot.

    Where earlier work that differs was kept, the way back is kept too: the next draft begins there.
    """
    if draft.base == last.tree:
        draft.discard()
    else:
        draft.checkpoint()


def _refs_sha256(documents: Documents, tree: str) -> str | None:
    data = documents.read(tree, layout.REFS_DOCUMENT)
    return None if data is None else hashlib.sha256(data).hexdigest()


def _next_id(begun: datetime, taken: list[str]) -> str:
    """The id of a snapshot whose work began at `begun`, after all of `taken`.

    Where the clock stands still or has gone back it is the second after the last one, so that
    ids sort as sequences do.
    """
    identifier = snapshot_id(begun)
    last = max(taken, default="")
    return identifier if identifier > last else snapshot_id(snapshot_time(last) + timedelta(seconds=1))
