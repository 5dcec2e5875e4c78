"""Writing one folder: its lock, its draft, its snapshots, its state."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from mirror.fs.durable import make_folder, sweep, write_file
from mirror.git.documents.repack import consolidate
from mirror.git.documents.repository import Documents
from mirror.git.pack.receiver import sweep as sweep_repository
from mirror.git.refs import read_all
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
from mirror.store.format import layout
from mirror.store.format.failures import Malformed, StoreDamaged
from mirror.store.format.identity import read_small_file
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
from mirror.store.reading.reader import RepositoryFolder, WorkspaceFolder
from mirror.store.reading.snapshots import damage_in, read_snapshot
from mirror.store.writing.draft import DocumentDraft, FileStore, checkpoints_since, tip_of
from mirror.store.writing.ledger_writer import LedgerWriter
from mirror.store.writing.locks import FolderLock, hold

Folder = TypeVar("Folder", RepositoryFolder, WorkspaceFolder)
_log = get_logger("store")
# What the state file calls what tells the list of LFS objects.
_LFS = "lfs"
_NO_MIRRORS: Mapping[str, MirrorRefs] = {}
# The state file tells of these what the last snapshot said. A workspace's documents are opened anyway.
_PRINTED = frozenset({MAIN_MIRROR, WIKI_MIRROR})


@dataclass(frozen=True)
class SnapshotResult:
    """What came of taking a snapshot.

    `changed` False: nothing had changed, and `snapshot` is the one there was. `refs_sha256` is that
    of its `refs.json`, None where it has none; `ledger` that of the folder's ledger.
    """

    snapshot: Snapshot
    changed: bool
    refs_sha256: str | None
    ledger: str | None = None


class FolderWriter(Generic[Folder]):
    """Writes one folder. All but `lock` and the plain facts need its lock to be held."""

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
        # What the state file says, where the documents are just as it left them.
        self._trusted: JsonObject | None = None
        self._taken: tuple[SnapshotResult, JsonObject] | None = None
        self._keeper = LedgerWriter(folder.root, folder.place, lambda: self.documents)
        self._drafts: list[DocumentDraft] = []  # to be closed with the lock

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self._path

    @asynccontextmanager
    async def lock(self, wait: float, clock: Clock) -> AsyncIterator[FolderLock]:
        """Hold the folder's writer lock, waiting up to `wait` seconds for it.

        Gives a FolderLock whose `fileno` may be handed to a worker: the lock then lasts until the
        worker has closed it too. Raises Locked naming the holder, and StoreDamaged where it may not be
        written because another folder belongs to the same uuid.
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
                self._clock = self._trusted = self._taken = None
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
        """The metadata repository itself, opened when it is first needed; for the store's own use."""
        self._locked()
        if self._opened is None:
            with damage_in(self.folder.metadata.file):
                self._opened = Documents.create(self._path / layout.METADATA)
        return self._opened

    def work(self, erased: ErasureFilter | None = None) -> DocumentDraft:
        """The documents on their way to the next snapshot; see DocumentDraft. `erased` may not come back."""
        clock = self._locked()
        dropped = read_dropped(self.folder.root, self.folder.place)
        deposit = FileStore(self._path / layout.FILES, self.folder.root / layout.TEMPORARY, dropped)
        draft = DocumentDraft(
            lambda: self.documents, deposit, self.folder.metadata.file, clock, erased or ErasureFilter()
        )
        self._drafts.append(draft)
        return draft

    def forget_work(self, draft: DocumentDraft) -> None:
        """Drop what was collected towards the next snapshot, in earlier runs too, and all cursors: the
        next run begins from the last snapshot."""
        draft.close()
        with damage_in(self.folder.metadata.file):
            self.documents.set_refs({layout.WORK: None})
        (self._path / layout.STATE_FILE).unlink(missing_ok=True)
        self._trusted = None

    def mirror(self, name: str) -> Path:
        """Where the mirror of this name is, or is to be made; the folder that it stands in is there."""
        self._locked()
        path = self.folder.mirror(name)
        if not path.parent.is_dir():
            make_folder(path.parent)
        return path

    @property
    def ledger_fault(self) -> str | None:
        """What was wrong with the ledger, where it had to be made anew since the lock was taken."""
        return self._keeper.fault

    def let_go(self, ids: Collection[str], run: str, why: str) -> None:
        """Tell in the ledger that the snapshots `ids` go. Call it before their tags are removed."""
        with damage_in(self.folder.metadata.file):
            self._keeper.let_go(ids, Removal(self._locked().now(), run, why))

    def relist(self, run: str | None = None, why: str = "") -> None:
        """List every snapshot anew after they were rewritten. With `run` and `why` those that have no tag
        any more count as let go."""
        with damage_in(self.folder.metadata.file):
            self._keeper.relist(None if run is None else Removal(self._locked().now(), run, why))

    def read_state(self) -> JsonObject:
        """The cursors and so on that `write_state` kept; empty where they cannot be trusted.

        They are a cache: absent, broken, or ahead of the documents (the metadata was brought back
        from an older copy) means that everything is looked at again.
        """
        file = self.folder.relative(layout.STATE_FILE)
        if not (self._path / layout.STATE_FILE).exists():
            return {}
        try:
            data = read_small_file(self.folder.root, file, _state)
            if data["refs"] == self._refs_digest():
                self._trusted = data
            elif (data["position"][0], data["position"][1]) > self._position():
                raise StoreDamaged(file, "it is ahead of the documents")
        except StoreDamaged as damage:
            _log.warning("store.state_ignored", file=file, problem=damage.problem)
            return {}
        state: JsonObject = copy.deepcopy(data["state"])
        return state

    def write_state(self, state: JsonObject) -> None:
        """Keep cursors and so on. Nothing in `state` may be ahead of the last checkpoint."""
        digest = self._refs_digest()
        known = self._trusted
        if known is not None and known["refs"] == digest:
            if known["state"] == state and known["last"] == self._last and known["schema"] == 3:
                return
            position = known["position"]
        else:
            position = list(self._position())
        data = {
            "schema": 3,
            "position": position,
            "refs": digest,
            "last": self._last,
            "state": copy.deepcopy(state),
        }
        write_file(self._path / layout.STATE_FILE, dumps(data))
        self._trusted = data

    @property
    def _last(self) -> JsonObject | None:
        """The last snapshot as the state file tells of it, so that a run in which nothing changed need
        not open the documents."""
        if self._taken is not None:
            taken, refs = self._taken
            facts = {"snapshot": taken.snapshot.to_json(), "tree": taken.snapshot.tree}
            return {**facts, "refs_sha256": taken.refs_sha256, "ledger": taken.ledger, "refs": refs}
        last: JsonObject | None = self._trusted["last"] if self._trusted is not None else None
        return last

    def _refs_digest(self) -> str:
        """What tells whether the documents are as they were: where their refs stand."""
        metadata = self._path / layout.METADATA
        with damage_in(self.folder.metadata.file):
            refs = read_all(metadata) if metadata.exists() else {}
        text = "".join(f"{name!r} {value}\n" for name, value in sorted(refs.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def _position(self) -> tuple[int, int]:
        """How far the documents are: the last snapshot's sequence, and the checkpoints since."""
        documents = self.documents
        with damage_in(self.folder.metadata.file):
            tip = tip_of(documents)
            sequence = 0 if tip is None else read_snapshot(documents, tip).sequence
            work = documents.head(layout.WORK)
            since = None if work is None else checkpoints_since(documents, work, tip)
        return sequence, since or 0

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
        """Make the draft the next snapshot, if anything changed; the draft is used up.

        `begun` is when work on this folder began. `refs` None leaves the refs of the code as the last
        snapshot has them (they could not be read now), `pins` None the pull request pins, `lfs` None the
        list of LFS objects. `mirrors` are the other mirrors of which there is something to tell.
        `last_confirmed`: the snapshot that an earlier run last found unchanged, and when. `judge` is called
        with the last snapshot before another one is taken, and may raise to prevent it.
        """
        if (self._last or {}).get("ledger") is not None and not self.folder.has(layout.LEDGER_FILE):
            self._keeper.lost()
        told = dict(mirrors)
        if refs is not None and pins is not None:
            told[MAIN_MIRROR] = MirrorRefs(refs, pins)
        prints = {mirror: _print_of(told[mirror]) for mirror in told.keys() & _PRINTED}
        is_printed = prints.keys() == told.keys() and (refs is None or pins is not None)
        if lfs is not None:
            prints[_LFS] = _print_of_lfs(lfs)
        confirmed = self._confirmed(draft, parts, prints) if is_printed else None
        if confirmed is not None:
            return confirmed
        prints = {**_prints_of(self._last), **prints}
        if refs is not None and pins is None:
            prints.pop(MAIN_MIRROR, None)
        documents = self.documents
        tags: dict[str, str]
        last: Snapshot | None
        with damage_in(self.folder.metadata.file):
            if refs is not None and pins is None:
                told[MAIN_MIRROR] = MirrorRefs(refs, _pins_of(draft))
            for mirror in sorted(told):  # the code first: its document tells of the wiki, too
                _put_mirror(draft, mirror, told[mirror])
            if lfs is not None:
                _put_lfs(draft, lfs)
            tip = tip_of(documents)
            last = None if tip is None else read_snapshot(documents, tip)
            tags = {name: commit for name, commit in documents.tags().items() if is_snapshot_id(name)}
            if last is not None and tip in tags.values() and self._is_same(documents, draft, last, parts):
                _settle(draft, last)
                ledger = self._keeper.agree(last_confirmed)
                digest = _refs_sha256(documents, last.tree)
                taken_again = SnapshotResult(last, changed=False, refs_sha256=digest, ledger=ledger.sha256)
                self._taken = taken_again, prints
                return taken_again
            judge(last)
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
            ledger = self._keeper.agree(last_confirmed)
        assert read_back.tree == tree and read_back.id == taken.id
        digest = _refs_sha256(documents, tree)
        done = SnapshotResult(read_back, changed=True, refs_sha256=digest, ledger=ledger.sha256)
        self._taken = done, prints
        return done

    def _confirmed(
        self, draft: DocumentDraft, parts: Mapping[str, Part], prints: Mapping[str, str]
    ) -> SnapshotResult | None:
        """The last snapshot, where the state file alone tells that nothing has changed since."""
        last = self._last if self._trusted is not None and not draft.is_begun else None
        if last is None or not prints.items() <= _prints_of(last).items():
            return None
        if layout.WORK.encode() in read_all(self._path / layout.METADATA):
            return None  # an earlier run has left work that is in no snapshot yet
        if last.get("ledger") is None or not self.folder.has(layout.LEDGER_FILE):
            return None  # an earlier version wrote the state file, or the ledger was lost
        snapshot = Snapshot.from_json(last["snapshot"], tree=last["tree"])
        if dict(snapshot.parts) != dict(parts) or snapshot.full_name != self.folder.full_name:
            return None
        return SnapshotResult(snapshot, changed=False, refs_sha256=last["refs_sha256"], ledger=last["ledger"])

    def _is_same(
        self, documents: Documents, draft: DocumentDraft, last: Snapshot, parts: Mapping[str, Part]
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
        # The work has become the snapshot. Killed before this, the next draft finds it stale.
        if documents.head(layout.WORK) is not None:
            documents.set_refs({layout.WORK: None})
        return documents.tree_of(commit)


class WorkspaceWriter(FolderWriter[WorkspaceFolder]):
    """Writes a workspace's own folder; its snapshots hold what belongs to no repository."""


class RepositoryWriter(FolderWriter[RepositoryFolder]):
    """Writes a repository's folder."""


def _state(data: JsonObject) -> JsonObject:
    match data:
        case {
            "schema": 2 | 3,
            "position": [int(), int()],
            "refs": str(),
            "last": dict() | None,
            "state": dict(),
        }:
            return data
    raise Malformed("it is not of the form that this version writes")


def _prints_of(last: JsonObject | None) -> dict[str, str]:
    """What the state file tells of mirrors by name; version 0.3 told it of the code alone, in one word."""
    found = None if last is None else last["refs"]
    return dict(found) if isinstance(found, dict) else {}


def _print_of(told: MirrorRefs) -> str:
    """What tells what is told of a mirror from anything else."""
    refs, pins, head = told.refs.refs, told.pins, told.refs.head
    lines = [b"%s %s\n" % (value.encode("ascii"), name) for name, value in sorted(refs.items())]
    lines += [b"%s %d\n" % (value.encode("ascii"), number) for number, value in sorted(pins.items())]
    first = b"-" if head is None else head.kind.encode("ascii") + b" " + head.value
    if told.gone_since is not None:
        first += b" gone " + told.gone_since.encode("ascii")
    return hashlib.sha256(first + b"\n" + b"".join(lines)).hexdigest()


def _pins_of(draft: DocumentDraft) -> Mapping[int, str]:
    known = refs_from_documents(draft.edit.get)
    return {} if known is None else known[1]


def _print_of_lfs(objects: LfsObjects) -> str:
    """What tells a list of LFS objects from any other."""
    digest = hashlib.sha256()
    for path, data in sorted(lfs_to_documents(objects).items()):
        digest.update(path.encode() + b"\0" + hashlib.sha256(data).digest())
    return digest.hexdigest()


def _put_lfs(draft: DocumentDraft, objects: LfsObjects) -> None:
    documents = lfs_to_documents(objects)
    for path in set(draft.edit.paths(layout.LFS_DOCUMENTS)) - documents.keys():
        draft.remove_any(path)
    for path, data in documents.items():
        draft.put_bytes(path, data)


def _put_mirror(draft: DocumentDraft, mirror: str, told: MirrorRefs) -> None:
    for path, data in mirror_edits(mirror, told, draft.edit.get, draft.edit.paths).items():
        if data is None:
            draft.remove_any(path)
        else:
            draft.put_bytes(path, data)


def _settle(draft: DocumentDraft, last: Snapshot) -> None:
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
