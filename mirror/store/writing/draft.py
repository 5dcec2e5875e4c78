"""Drafts: documents brought up to date before a snapshot is due, kept across a kill."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import AsyncIterable, Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mirror.fs.durable import AtomicFile, make_folder
from mirror.git.documents.repack import consolidate
from mirror.git.documents.repository import Documents, TreeEdit
from mirror.logs import get_logger
from mirror.model import Clock, Json, JsonObject, dumps, is_snapshot_id, loads
from mirror.store.format import layout
from mirror.store.format.refs_document import is_own_document
from mirror.store.format.removals import ErasureFilter
from mirror.store.reading.snapshots import damage_in

_log = get_logger("store")
# More checkpoints than this between two snapshots are damage, not history.
_CHECKPOINTS_MAX = 1_000_000


class FileStore:
    """A repository's `files/`: once each, named by the sha256 of the plain bytes, never overwritten."""

    def __init__(self, folder: Path, temporary: Path, dropped: Container[str] = ()) -> None:
        self._folder = folder
        self._temporary = temporary
        self._dropped = dropped

    def had(self, sha256: str) -> bool:
        """Whether the file of these plain bytes is there, or was and retention let it go."""
        return sha256 in self._dropped or self.holds(sha256)

    def new(self, name: str, *, text: bool = False) -> NewStoredFile:
        """Begin a file that is called `name` upstream; texts are stored compressed."""
        return NewStoredFile(self._folder, self._temporary, name, text=text)

    def room(self) -> int:
        """How many bytes the disk that it is on has free."""
        return shutil.disk_usage(self._temporary).free

    def holds(self, sha256: str) -> bool:
        """Whether the file of these plain bytes is there."""
        return any(
            (self._folder.parent / layout.stored_file(sha256, compressed=compressed)).is_file()
            for compressed in (False, True)
        )


class NewStoredFile:
    """A file on its way into `files/`, written piece by piece; memory holds one piece only.

    A context manager: leaving it without `finish` drops what was written.
    """

    def __init__(self, folder: Path, temporary: Path, name: str, *, text: bool) -> None:
        self._folder = folder
        self._name = name
        self._text = text
        self._digest = hashlib.sha256()
        self._size = 0
        self._new = AtomicFile(temporary, "file")
        # No name and no time in the header: equal bytes give equal files.
        self._gzip = (
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=self._new.stream, mtime=0)
            if text
            else None
        )

    def __enter__(self) -> NewStoredFile:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._gzip is not None and not self._new.stream.closed:
                self._gzip.close()  # it would try to end its stream later, when that is gone
        finally:  # on a full disk that fails again
            self._new.discard()

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._digest.update(data)
        self._size += len(data)
        (self._gzip if self._gzip is not None else self._new.stream).write(data)

    def finish(self) -> JsonObject:
        """Publish the file durably; returns the pointer `{"sha256", "size", "name"}`.

        Where the same bytes are already stored nothing is written.
        """
        sha256 = self._digest.hexdigest()
        if self._gzip is not None:
            self._gzip.close()
        if not FileStore(self._folder, self._folder).holds(sha256):
            target = self._folder.parent / layout.stored_file(sha256, compressed=self._text)
            make_folder(self._folder)
            make_folder(target.parent)
            self._new.publish(target)
        self._new.discard()
        return {"sha256": sha256, "size": self._size, "name": self._name}


class DocumentDraft:
    """The documents of a folder on their way to the next snapshot.

    Begins where an earlier run that did not get as far as a snapshot left off, else with the last
    snapshot's documents. What is put is durable once `checkpoint` returns; cursors may be moved
    after that. Paths are made of names of the store and may not be those of `snapshot.json`,
    `refs.json` and its shards, which the store writes itself.
    """

    def __init__(
        self,
        documents: Callable[[], Documents],
        deposit: FileStore,
        file: str,
        clock: Clock,
        erased: ErasureFilter,
    ) -> None:
        self._clock = clock
        self._give = documents
        self._deposit = deposit
        self._file = file
        self._erased = erased
        self._touched: set[str] = set()
        self._begun: _Begun | None = None

    @property
    def is_begun(self) -> bool:
        """Whether anything was read or put: until then the documents are not even opened."""
        return self._begun is not None

    @property
    def resumed(self) -> bool:
        """Whether it goes on with an earlier run's work."""
        return self._begin.resumed

    @property
    def _begin(self) -> _Begun:
        if self._begun is None:
            documents = self._give()
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
        """The change that is being made; for the store's own documents."""
        return self._begin.edit

    @property
    def base(self) -> str | None:
        """The tree that the change is made to."""
        return self._begin.base

    @property
    def touched(self) -> frozenset[str]:
        """The documents written or removed since the last checkpoint, equal or not."""
        return frozenset(self._touched)

    @property
    def held(self) -> int:
        """How many bytes are held in memory until the next checkpoint."""
        return 0 if self._begun is None else self._begun.edit.held

    def get(self, path: str) -> Json | None:
        """The document at `path` as it is now, or None."""
        with damage_in(f"{self._file} ({path})"):
            data = self.edit.get(layout.check_path(path))
            return None if data is None else loads(data)

    def paths(self, prefix: str = "") -> Iterator[str]:
        """The documents below the folder `prefix`, sorted; those of the store itself left out."""
        with damage_in(self._file):
            found = list(self.edit.paths(prefix))
        return (path for path in found if not is_own_document(path))

    def put(self, path: str, value: Json) -> bool:
        """Set the document at `path`; returns whether that changed it.

        What was erased stays erased. Raises NotCanonical where `value` has no faithful JSON form.
        """
        return self.put_bytes(_own(path), dumps(self._erased.applied(path, value)))

    def put_bytes(self, path: str, data: bytes) -> bool:
        """As `put`, of canonical bytes, and for the store's own documents too."""
        with damage_in(f"{self._file} ({path})"):
            if self.edit.holds(path, data):
                return False
        self._touched.add(path)
        self.edit.put(path, data)
        return True

    def remove(self, path: str) -> bool:
        """Remove the document at `path`; returns whether there was one."""
        return self.remove_any(_own(path))

    def remove_any(self, path: str) -> bool:
        """As `remove`, for the store's own documents too."""
        if self.edit.blob_id(path) is None:
            return False
        self._touched.add(path)
        self.edit.remove(path)
        return True

    def new_file(self, name: str, *, text: bool = False) -> NewStoredFile:
        """Begin a file that is called `name` upstream; write to it, then `finish` it."""
        return self._deposit.new(name, text=text)

    async def put_file(
        self, chunks: AsyncIterable[bytes] | Iterable[bytes], name: str, *, text: bool = False
    ) -> JsonObject:
        """Store a file as its bytes come; returns its pointer `{"sha256", "size", "name"}`.

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
        """Whether the file of these plain bytes is stored, or was until retention let it go."""
        return layout.is_sha256(sha256) and self._deposit.had(sha256)

    def room(self) -> int:
        """How many bytes the disk has free for files."""
        return self._deposit.room()

    def is_erased(self, path: str) -> bool:
        """Whether the document at `path` was erased, so that it is not worth asking for."""
        return self._erased.has(path)

    def checkpoint(self) -> bool:
        """Make everything put so far durable, without a snapshot; returns whether there was anything."""
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
        # A long turn makes many packs, and each is two files that are open.
        with damage_in(self._file):
            if consolidate(begun.documents.path):
                begun.documents.refresh()
        begun.base = begun.documents.tree_of(begun.parent)
        begun.edit = begun.documents.edit(begun.base)
        self._touched.clear()
        return True

    def close(self) -> None:
        """Let go of what was put since the last checkpoint; the draft is used up."""
        if self._begun is not None:
            self._begun.edit.discard()

    def discard(self) -> None:
        """Forget what was put since the last checkpoint."""
        begun = self._begin
        begun.edit.discard()
        begun.edit = begun.documents.edit(begun.base)
        self._touched.clear()


@dataclass
class _Begun:
    """What a draft works on, once it has begun."""

    documents: Documents
    parent: str | None
    base: str | None
    edit: TreeEdit
    resumed: bool


def tip_of(documents: Documents) -> str | None:
    """The commit of the last snapshot, or None before the first.

    Where somebody removed the branch, the tags still tell.
    """
    main = documents.head(layout.MAIN)
    if main is not None:
        return main
    tags = {name: commit for name, commit in documents.tags().items() if is_snapshot_id(name)}
    return tags[max(tags)] if tags else None


def checkpoints_since(documents: Documents, work: str, main: str | None) -> int | None:
    """How many checkpoints lie between the last snapshot `main` and `work`.

    None where `work` does not follow `main`: a snapshot has been taken since, and it is stale.
    """
    commit: str | None = work
    for count in range(_CHECKPOINTS_MAX):
        if commit == main:
            return count
        if commit is None:
            return None
        commit = documents.parent_of(commit)
    return None


def _own(path: str) -> str:
    if is_own_document(layout.check_path(path)):
        raise ValueError(f"{path} is written by the store itself")
    return path
