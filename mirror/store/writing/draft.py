"""Drafts: documents collected for the next snapshot, which survive a kill."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from dataclasses import dataclass

from mirror.git.documents.repack import consolidate
from mirror.git.documents.repository import Documents, TreeEdit
from mirror.logs import get_logger
from mirror.model import Clock, Json, JsonObject, dumps, loads
from mirror.store.format import layout
from mirror.store.format.refs_document import is_own_document
from mirror.store.format.removals import ErasureFilter
from mirror.store.reading.documents import damage_in, snapshot_tags
from mirror.store.writing.file_store import FileStore, NewStoredFile

_log = get_logger("store")
# More checkpoints than this between two snapshots mean a loop in the history.
_CHECKPOINTS_MAX = 1_000_000


class DocumentDraft:
    """The documents of the next snapshot of a folder.

    Starts from the last checkpoint of a run that took no snapshot, else from the last snapshot. Changes are
    durable once `checkpoint` returns; only then may cursors move. The paths of the store's own documents
    (`snapshot.json`, `refs.json` and its shards, the lists of LFS objects) are refused.

    `documents` opens the metadata repository, `file` is its path in the store.
    """

    def __init__(
        self,
        documents: Callable[[], Documents],
        files: FileStore,
        file: str,
        clock: Clock,
        erased: ErasureFilter,
    ) -> None:
        self._clock = clock
        self._open = documents
        self._files = files
        self._file = file
        self._erased = erased
        self._touched: set[str] = set()
        self._begun: _Begun | None = None

    @property
    def is_begun(self) -> bool:
        """Whether a document was read or written; before that the repository is not even opened."""
        return self._begun is not None

    @property
    def resumed(self) -> bool:
        """Whether the draft starts from a checkpoint of an earlier run."""
        return self._begin.resumed

    @property
    def _begin(self) -> _Begun:
        if self._begun is None:
            documents = self._open()
            with damage_in(self._file):
                main = tip_of(documents)
                work = documents.head(layout.WORK)
                parent, resumed = main, False
                if work is not None and checkpoints_since(documents, work, main) is not None:
                    parent, resumed = work, work != main
                base = None if parent is None else documents.tree_of(parent)
                self._begun = _Begun(documents, parent, base, documents.edit(base), resumed)
            if resumed:
                _log.info("store.work_resumed", file=self._file)
        return self._begun

    @property
    def edit(self) -> TreeEdit:
        """The pending edit of the document tree."""
        return self._begin.edit

    @property
    def base(self) -> str | None:
        """The tree that the edit applies to; None for an empty one."""
        return self._begin.base

    @property
    def touched(self) -> frozenset[str]:
        """The paths written or removed since the last checkpoint."""
        return frozenset(self._touched)

    @property
    def held(self) -> int:
        """The bytes that wait in memory for the next checkpoint."""
        return 0 if self._begun is None else self._begun.edit.pending_bytes

    def get(self, path: str) -> Json | None:
        """The current document at `path`, or None."""
        with damage_in(f"{self._file} ({path})"):
            data = self.edit.get(layout.check_path(path))
            return None if data is None else loads(data)

    def paths(self, prefix: str = "") -> Iterator[str]:
        """The paths of the documents below the folder `prefix`, sorted, without the store's own."""
        with damage_in(self._file):
            found = list(self.edit.paths(prefix))
        return (path for path in found if not is_own_document(path))

    def put(self, path: str, value: Json) -> bool:
        """Set the document at `path`; returns whether it changed.

        What was erased stays erased. Raises NotCanonical where `value` has no canonical JSON form.
        """
        return self.put_bytes(_check_not_own(path), dumps(self._erased.apply(path, value)))

    def put_bytes(self, path: str, data: bytes) -> bool:
        """As `put`, with canonical bytes; the store's own documents are allowed."""
        with damage_in(f"{self._file} ({path})"):
            if self.edit.contains(path, data):
                return False
        self._touched.add(path)
        self.edit.put(path, data)
        return True

    def remove(self, path: str) -> bool:
        """Remove the document at `path`; returns whether there was one."""
        return self.remove_any(_check_not_own(path))

    def remove_any(self, path: str) -> bool:
        """As `remove`; the store's own documents are allowed."""
        if self.edit.blob_id(path) is None:
            return False
        self._touched.add(path)
        self.edit.remove(path)
        return True

    def new_file(self, name: str, *, text: bool = False) -> NewStoredFile:
        """A new stored file with the upstream name `name`."""
        return self._files.create(name, text=text)

    async def put_file(
        self, chunks: AsyncIterable[bytes] | Iterable[bytes], name: str, *, text: bool = False
    ) -> JsonObject:
        """Store a file from a stream of bytes; returns its pointer `{"sha256", "size", "name"}`.

        `text` (logs, long texts) is stored compressed. Equal bytes are stored once.
        """
        with self.new_file(name, text=text) as new:
            if isinstance(chunks, AsyncIterable):
                async for chunk in chunks:
                    new.write(chunk)
            else:
                for chunk in chunks:
                    new.write(chunk)
            return new.finish()

    def has_file(self, sha256: str) -> bool:
        """Whether the file is stored, or was until retention removed it."""
        return layout.is_sha256(sha256) and self._files.is_known(sha256)

    def room(self) -> int:
        """The free bytes of the disk."""
        return self._files.free_bytes()

    def is_erased(self, path: str) -> bool:
        """Whether the document at `path` was erased, so that it need not be requested."""
        return self._erased.is_erased(path)

    def checkpoint(self) -> bool:
        """Commit all changes without a snapshot; returns whether there were any."""
        if not self._touched:
            return False
        begun = self._begin
        begun.parent = begun.edit.commit(
            ref=layout.WORK,
            tag=None,
            message="Work towards the next snapshot\n",
            when=self._clock.now(),
            parent=begun.parent,
        )
        # Each checkpoint adds a pack, which takes two file descriptors.
        with damage_in(self._file):
            if consolidate(begun.documents.path):
                begun.documents.refresh()
        begun.base = begun.documents.tree_of(begun.parent)
        begun.edit = begun.documents.edit(begun.base)
        self._touched.clear()
        return True

    def close(self) -> None:
        """Discard the changes since the last checkpoint and end the draft."""
        if self._begun is not None:
            self._begun.edit.discard()

    def discard(self) -> None:
        """Discard the changes since the last checkpoint."""
        begun = self._begin
        begun.edit.discard()
        begun.edit = begun.documents.edit(begun.base)
        self._touched.clear()


@dataclass
class _Begun:
    """The state of a draft whose repository is open."""

    documents: Documents
    parent: str | None
    base: str | None
    edit: TreeEdit
    resumed: bool


def tip_of(documents: Documents) -> str | None:
    """The commit of the last snapshot, or None before the first one.

    The newest tag decides where somebody removed the branch.
    """
    main = documents.head(layout.MAIN)
    if main is not None:
        return main
    tags = snapshot_tags(documents)
    return tags[max(tags)] if tags else None


def checkpoints_since(documents: Documents, work: str, main: str | None) -> int | None:
    """The number of checkpoints between the last snapshot `main` and `work`.

    None where `work` does not descend from `main`: a snapshot was taken since, so `work` is stale.
    """
    commit: str | None = work
    for count in range(_CHECKPOINTS_MAX):
        if commit == main:
            return count
        if commit is None:
            return None
        commit = documents.parent_of(commit)
    return None


def _check_not_own(path: str) -> str:
    if is_own_document(layout.check_path(path)):
        raise ValueError(f"{path} is written by the store itself")
    return path
