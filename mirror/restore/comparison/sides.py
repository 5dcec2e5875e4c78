"""The two sides of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from mirror.model import Json, JsonObject, PartState, Snapshot
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import MirrorRefs

_UNREAD = frozenset({PartState.SKIPPED, PartState.DENIED, PartState.UNAVAILABLE})


class Side(Protocol):
    """One snapshot, as it is compared. Reading a damaged one raises StoreDamaged."""

    @property
    def name(self) -> str:
        """The full name of the repository, or the slug of the workspace."""
        ...

    @property
    def mirrors(self) -> Mapping[str, MirrorRefs]:
        """The refs of each mirror, by its name."""
        ...

    @property
    def lfs(self) -> Mapping[str, tuple[int, bool]] | None:
        """By sha256 the size of each LFS object, and whether it is held; None where nobody looked."""
        ...

    def has_read(self, part: str) -> bool:
        """Whether the snapshot has this part, whole or not."""
        ...

    def document(self, path: str) -> Json | None:
        """A document, or None."""
        ...

    def paths(self) -> list[str]:
        """The paths of all documents."""
        ...

    def text(self, value: Json) -> str | None:
        """A text, or the one in the stored file that `value` points to; None for anything else."""
        ...


@dataclass(frozen=True)
class StoredSide:
    """A side that is in a store. `more` are documents that it has besides, by their paths."""

    folder: AnyFolder = field(repr=False)
    snapshot: Snapshot
    more: Mapping[str, Json] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The full name when the snapshot was taken."""
        return self.snapshot.full_name

    @cached_property
    def mirrors(self) -> Mapping[str, MirrorRefs]:
        """See `Side`."""
        return self.folder.metadata.mirrors(self.snapshot)

    @cached_property
    def lfs(self) -> Mapping[str, tuple[int, bool]] | None:
        """See `Side`."""
        return self.folder.metadata.lfs(self.snapshot)

    def has_read(self, part: str) -> bool:
        """See `Side`."""
        found = self.snapshot.parts.get(part)
        return found is not None and found.state not in _UNREAD

    def document(self, path: str) -> Json | None:
        """See `Side`."""
        return self.more[path] if path in self.more else self.folder.metadata.read(self.snapshot, path)

    def paths(self) -> list[str]:
        """See `Side`."""
        return sorted({*self.folder.metadata.paths(self.snapshot), *self.more})

    def text(self, value: Json) -> str | None:
        """See `Side`."""
        if not isinstance(value, dict):
            return value if isinstance(value, str) else None
        stored = self.folder.find_file(str(value.get("sha256")))
        if stored is None:
            return None
        with stored.open() as stream:
            return stream.read().decode("utf-8", "replace")


def object_at(side: Side, path: str) -> JsonObject:
    """The document at `path` as an object; an empty one where there is none."""
    found = side.document(path)
    return found if isinstance(found, dict) else {}
