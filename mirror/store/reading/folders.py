"""The folder of one workspace or repository, for reading."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from mirror.store.format import layout
from mirror.store.format.brake import Brake, read_brake
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.identity import FormerName, Missing, RepositoryIdentity, WorkspaceIdentity
from mirror.store.format.ledger import Ledger, read_ledger
from mirror.store.format.removals import Erasure, Pruned, read_dropped, read_erasures, read_pruned
from mirror.store.reading.folder_lookup import folder_names
from mirror.store.reading.snapshots import SnapshotReader
from mirror.store.reading.stored_file import StoredFile

OnDamage = Callable[[StoreDamaged], None]


@dataclass(frozen=True)
class Folder:
    """The common part of both kinds of folder. `place` is its path in the store."""

    root: Path = field(repr=False)
    place: str
    metadata: SnapshotReader = field(repr=False, compare=False)
    # The damage of its identity file, if the identity is from its snapshots instead.
    identity_damage: StoreDamaged | None = field(repr=False, compare=False)

    @property
    def folder(self) -> str:
        """The folder's name, which never changes and is unique beside it."""
        return self.place.rpartition("/")[2]

    def erasures(self) -> tuple[Erasure, ...]:
        """The erasures, the oldest first. Raises StoreDamaged."""
        return read_erasures(self.root, self.place)

    def ledger(self) -> Ledger | None:
        """The ledger; None before the first snapshot. Raises StoreDamaged."""
        return read_ledger(self.root, self.place)

    def has(self, name: str) -> bool:
        """Whether the small file `name` exists."""
        return (self.root / self.place / name).is_file()

    def brake(self) -> Brake:
        """The mass-loss brake. Raises StoreDamaged."""
        return read_brake(self.root, self.place)

    def pruned(self) -> Pruned | None:
        """The snapshots that retention removed last, or None. Raises StoreDamaged."""
        return read_pruned(self.root, self.place)

    def mirror(self, name: str) -> Path:
        """The path of a mirror (`code`, `wiki`, `snippets/…`), which may not exist."""
        return self.root / self.place / layout.mirror_place(name)

    def mirrors(self) -> dict[str, Path]:
        """The paths of the mirrors that exist, by name: bare git repositories."""
        top = self.root / self.place
        places = [layout.CODE, layout.WIKI]
        places += [f"{layout.SNIPPETS}/{name}" for name in folder_names(top / layout.SNIPPETS)]
        return {
            place.removesuffix(".git"): top / place
            for place in places
            if place.endswith(".git") and (top / place).is_dir()
        }

    def relative(self, path: str | Path = "") -> str:
        """`path` (in this folder, or absolute) relative to the store."""
        if isinstance(path, Path) and path.is_absolute():
            return path.relative_to(self.root).as_posix()
        return f"{self.place}/{path}" if str(path) not in ("", ".") else self.place

    def dropped(self) -> dict[str, str]:
        """The step logs that retention removed: sha256 to time. Raises StoreDamaged."""
        return read_dropped(self.root, self.place)

    def lfs_objects(self) -> Iterator[Path]:
        """The paths of the LFS objects; the name of each is its sha256."""
        base = self.root / self.place
        for path in sorted((base / layout.LFS).glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*")):
            if layout.is_sha256(path.name) and path == base / layout.lfs_object(path.name):
                yield path

    def lfs_parts(self) -> list[Path]:
        """The paths of incomplete LFS objects; the stem of each name is the sha256."""
        return sorted((self.root / self.place / layout.LFS_PARTS).glob("*.part"))

    def lfs_object(self, oid: str) -> Path | None:
        """The path of an LFS object, or None."""
        path = self.root / self.place / layout.lfs_object(oid)
        return path if layout.is_sha256(oid) and path.is_file() else None

    def find_file(self, sha256: str) -> StoredFile | None:
        """The stored file with this sha256, or None."""
        if not layout.is_sha256(sha256):
            return None
        for compressed in (False, True):
            file = self.relative(layout.stored_file(sha256, compressed=compressed))
            if (self.root / file).is_file():
                return StoredFile(sha256, file, self.root / file, compressed)
        return None

    def file(self, sha256: str) -> BinaryIO | None:
        """A stream of a stored file's plain bytes, or None; see `StoredFile.open`."""
        found = self.find_file(sha256)
        return None if found is None else found.open()

    def files(self, on_damage: OnDamage | None = None) -> Iterator[StoredFile]:
        """The stored files, sorted. Other entries are damage that goes to `on_damage`."""
        for folder in _entries(self.root / self.place / layout.FILES):
            for path in _entries(folder) if folder.is_dir() else [folder]:
                digest = path.name.removesuffix(".gz")
                if layout.is_sha256(digest) and folder.name == digest[:2] and path.is_file():
                    yield StoredFile(digest, self.relative(path), path, path.name != digest)
                elif on_damage is not None and os.path.lexists(path):  # else prune has just removed it
                    on_damage(StoreDamaged(self.relative(path), "it is not a stored file"))


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing where it is not there, or is no folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


@dataclass(frozen=True)
class WorkspaceFolder(Folder):
    """The folder of a workspace. Its snapshots hold what belongs to no repository."""

    record: WorkspaceIdentity

    @property
    def uuid(self) -> str:
        """The workspace's uuid, in braces."""
        return self.record.uuid

    @property
    def slug(self) -> str:
        """The workspace's current slug."""
        return self.record.slug

    @property
    def full_name(self) -> str:
        """The same as `slug`."""
        return self.record.slug

    @property
    def former_names(self) -> tuple[FormerName, ...]:
        """Its earlier slugs, the oldest first."""
        return self.record.former_names


@dataclass(frozen=True)
class RepositoryFolder(Folder):
    """The folder of a repository: its snapshots, mirrors and files."""

    workspace_folder: str
    record: RepositoryIdentity

    @property
    def uuid(self) -> str:
        """The repository's uuid, in braces."""
        return self.record.uuid

    @property
    def full_name(self) -> str:
        """`workspace/repository`, the last known name."""
        return self.record.full_name

    @property
    def workspace_slug(self) -> str:
        """The last known slug of its workspace."""
        return self.record.full_name.partition("/")[0]

    @property
    def slug(self) -> str:
        """Its last known slug."""
        return self.record.full_name.partition("/")[2]

    @property
    def former_names(self) -> tuple[FormerName, ...]:
        """Its earlier full names, the oldest first."""
        return self.record.former_names

    @property
    def missing(self) -> Missing | None:
        """The complete listings that lack it; None while it exists upstream."""
        return self.record.missing

    @property
    def gone_since(self) -> datetime | None:
        """When it was first missing, once it is confirmed as gone; else None."""
        return self.record.gone_since

    @property
    def code(self) -> Path:
        """The path of the mirror of the code, which exists after the first fetch."""
        return self.root / self.place / layout.CODE


AnyFolder = WorkspaceFolder | RepositoryFolder


def current_workspace(
    repository: RepositoryFolder, workspaces: Iterable[WorkspaceFolder]
) -> WorkspaceFolder | None:
    """The workspace that a repository belongs to now: after a transfer another one than that of its folder.
    None where it is not among `workspaces`."""
    of_folder, named = None, None
    for one in workspaces:
        if one.folder == repository.workspace_folder:
            of_folder = one
        elif named is None and one.slug == repository.workspace_slug:
            named = one
    if of_folder is not None and of_folder.slug == repository.workspace_slug:
        return of_folder
    return named or of_folder
