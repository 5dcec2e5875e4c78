"""Writing a repository's `files/`: downloads, attachments, logs and long texts, each once."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Container
from pathlib import Path

from mirror.fs.durable import AtomicFile, make_folder
from mirror.model import JsonObject
from mirror.store.format import layout


class FileStore:
    """The files of one folder, each named by the sha256 of its plain bytes and never overwritten.

    `temporary` is the folder for unfinished files. `dropped` are the sha256 of step logs that retention
    removed.
    """

    def __init__(self, folder: Path, temporary: Path, dropped: Container[str] = ()) -> None:
        self._folder = folder
        self._temporary = temporary
        self._dropped = dropped

    def has(self, sha256: str) -> bool:
        """Whether the file is stored."""
        return any(
            (self._folder.parent / layout.stored_file(sha256, compressed=compressed)).is_file()
            for compressed in (False, True)
        )

    def is_known(self, sha256: str) -> bool:
        """Whether the file is stored, or was until retention removed it."""
        return sha256 in self._dropped or self.has(sha256)

    def create(self, name: str, *, text: bool = False) -> NewStoredFile:
        """A new file. `name` is its name upstream; `text` is stored compressed."""
        return NewStoredFile(self._folder, self._temporary, name, text=text)

    def free_bytes(self) -> int:
        """The free bytes of the disk."""
        return shutil.disk_usage(self._temporary).free


class NewStoredFile:
    """A new file in `files/`, written in pieces: memory holds one piece at a time.

    A context manager: leaving it without `finish` discards the file.
    """

    def __init__(self, folder: Path, temporary: Path, name: str, *, text: bool) -> None:
        self._folder = folder
        self._name = name
        self._text = text
        self._digest = hashlib.sha256()
        self._size = 0
        self._new = AtomicFile(temporary, "file")
        # The gzip header has no name and no time, so equal bytes give equal files.
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
                self._gzip.close()  # else its destructor writes to a closed file
        finally:  # on a full disk the close fails
            self._new.discard()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._digest.update(data)
        self._size += len(data)
        (self._gzip if self._gzip is not None else self._new.stream).write(data)

    def finish(self) -> JsonObject:
        """Publish the file durably, unless the same bytes are stored already.

        Returns the pointer for documents: `{"sha256", "size", "name"}`.
        """
        sha256 = self._digest.hexdigest()
        if self._gzip is not None:
            self._gzip.close()
        if not FileStore(self._folder, self._folder).has(sha256):
            target = self._folder.parent / layout.stored_file(sha256, compressed=self._text)
            make_folder(self._folder)
            make_folder(target.parent)
            self._new.publish(target)
        self._new.discard()
        return {"sha256": sha256, "size": self._size, "name": self._name}
