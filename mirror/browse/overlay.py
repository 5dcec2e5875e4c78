"""Documents collected on top of a snapshot, held in memory: nothing reaches the store."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterable, Iterable, Iterator
from pathlib import Path

from mirror.model import Json, JsonObject, Snapshot, dumps, loads
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import ErasureFilter, is_own_document


class Overlay:
    """The draft of a collection that is only looked at. Files are hashed, and not kept."""

    def __init__(self, folder: AnyFolder, snapshot: Snapshot, erased: ErasureFilter) -> None:
        self._folder, self._snapshot, self._erased = folder, snapshot, erased
        self.changed: dict[str, bytes] = {}
        self._files: set[str] = set()

    @property
    def held(self) -> int:
        """See Draft. No checkpoint makes anything durable, so none is due."""
        return 0

    def before(self, path: str) -> Json | None:
        """The document at `path` in the snapshot, or None."""
        return self._folder.metadata.read(self._snapshot, path)

    def get(self, path: str) -> Json | None:
        """The document at `path`, or None."""
        data = self.changed.get(path)
        return loads(data) if data is not None else self.before(path)

    def put(self, path: str, value: Json) -> bool:
        """See Draft."""
        data = dumps(self._erased.apply(path, value))
        known = self.changed.get(path)
        if data == (known if known is not None else self._folder.metadata.read_bytes(self._snapshot, path)):
            return False
        self.changed[path] = data
        return True

    def paths(self, prefix: str = "") -> Iterator[str]:
        """See Draft."""
        found = set(self._folder.metadata.paths(self._snapshot, prefix))
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        found |= {path for path in self.changed if path.startswith(below)}
        return (path for path in sorted(found) if not is_own_document(path))

    async def put_file(
        self, chunks: AsyncIterable[bytes] | Iterable[bytes], name: str, *, text: bool = False
    ) -> JsonObject:
        """See Draft."""
        del text
        digest, size = hashlib.sha256(), 0
        if isinstance(chunks, AsyncIterable):
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
        else:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
        self._files.add(digest.hexdigest())
        return {"sha256": digest.hexdigest(), "size": size, "name": name}

    def has_file(self, sha256: str) -> bool:
        """See Draft."""
        return sha256 in self._files or self._folder.find_file(sha256) is not None

    def room(self) -> int:
        """See Draft."""
        return shutil.disk_usage(Path(self._folder.root)).free

    def is_erased(self, path: str) -> bool:
        """See Draft."""
        return self._erased.is_erased(path)

    def checkpoint(self) -> bool:
        """See Draft. There is nothing to make durable."""
        return False
