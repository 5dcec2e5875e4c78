"""Reading the folder of one workspace or repository. Nothing here writes."""

from __future__ import annotations

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
    """What workspaces and repositories have in common. `place` is relative to the store."""

    root: Path = field(repr=False)
    place: str
    metadata: SnapshotReader = field(repr=False, compare=False)
    # What is wrong with its card, where its snapshots had to tell whose it is.
    identity_damage: StoreDamaged | None = field(repr=False, compare=False)

    @property
    def folder(self) -> str:
        """The folder's name, which never changes and which no other folder beside it has."""
        return self.place.rpartition("/")[2]

    def erasures(self) -> tuple[Erasure, ...]:
        """What was removed from it on purpose, the oldest first. Raises StoreDamaged."""
        return read_erasures(self.root, self.place)

    def ledger(self) -> Ledger | None:
        """Its ledger: every snapshot, kept or let go; None before the first one. Raises StoreDamaged."""
        return read_ledger(self.root, self.place)

    def has(self, name: str) -> bool:
        """Whether the small file `name` stands in the folder."""
        return (self.root / self.place / name).is_file()

    def brake(self) -> Brake:
        """The folder's mass-loss brake; a fresh one where nothing was lost yet. Raises StoreDamaged."""
        return read_brake(self.root, self.place)

    def pruned(self) -> Pruned | None:
        """The snapshots that retention let go last, if any. Raises StoreDamaged."""
        return read_pruned(self.root, self.place)

    def mirror(self, name: str) -> Path:
        """Where the mirror of this name (`code`, `wiki`, `snippets/…`) is, or would be."""
        return self.root / self.place / layout.mirror_place(name)

    def mirrors(self) -> dict[str, Path]:
        """The mirrors that are on the disk, by name: bare git repositories."""
        top = self.root / self.place
        places = [layout.CODE, layout.WIKI]
        places += [f"{layout.SNIPPETS}/{name}" for name in folder_names(top / layout.SNIPPETS)]
        return {
            place.removesuffix(".git"): top / place
            for place in places
            if place.endswith(".git") and (top / place).is_dir()
        }

    def relative(self, path: str | Path = "") -> str:
        """Where `path` (below this folder, or absolute) stands, relative to the store."""
        if isinstance(path, Path) and path.is_absolute():
            return path.relative_to(self.root).as_posix()
        return f"{self.place}/{path}" if str(path) not in ("", ".") else self.place

    def dropped(self) -> dict[str, str]:
        """The step logs that retention let go: sha256 to the time. Raises StoreDamaged."""
        return read_dropped(self.root, self.place)

    def lfs_objects(self) -> Iterator[Path]:
        """Every LFS object of the mirror; its name is its sha256."""
        base = self.root / self.place
        for path in sorted((base / layout.LFS).glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*")):
            if layout.is_sha256(path.name) and path == base / layout.lfs_object(path.name):
                yield path

    def lfs_parts(self) -> list[Path]:
        """LFS objects that are not whole yet; the stem of each name is the sha256 it is to have."""
        return sorted((self.root / self.place / layout.LFS_PARTS).glob("*.part"))

    def lfs_object(self, oid: str) -> Path | None:
        """The LFS object of this sha256, or None where it is not held."""
        path = self.root / self.place / layout.lfs_object(oid)
        return path if layout.is_sha256(oid) and path.is_file() else None

    def find_file(self, sha256: str) -> StoredFile | None:
        """The stored file of these plain bytes, or None."""
        if not layout.is_sha256(sha256):
            return None
        for compressed in (False, True):
            file = self.relative(layout.stored_file(sha256, compressed=compressed))
            if (self.root / file).is_file():
                return StoredFile(sha256, file, self.root / file, compressed)
        return None

    def file(self, sha256: str) -> BinaryIO | None:
        """The plain bytes of the stored file of this sha256 as a stream to close, or None; see
        StoredFile.open."""
        found = self.find_file(sha256)
        return None if found is None else found.open()

    def files(self, on_damage: OnDamage | None = None) -> Iterator[StoredFile]:
        """Every stored file, in the order of their names.

        What stands there and is no stored file goes to `on_damage`, else it is passed over.
        """
        top = self.root / self.place / layout.FILES
        for folder in sorted(top.iterdir()) if top.is_dir() else []:
            for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
                digest = path.name.removesuffix(".gz")
                if layout.is_sha256(digest) and folder.name == digest[:2] and path.is_file():
                    yield StoredFile(digest, self.relative(path), path, path.name != digest)
                elif on_damage is not None:
                    on_damage(StoreDamaged(self.relative(path), "it is not a stored file"))


@dataclass(frozen=True)
class WorkspaceFolder(Folder):
    """A workspace's folder: who it belongs to, and the snapshots of the workspace itself."""

    record: WorkspaceIdentity

    @property
    def uuid(self) -> str:
        """The workspace's uuid, with its braces."""
        return self.record.uuid

    @property
    def slug(self) -> str:
        """The workspace's current slug."""
        return self.record.slug

    @property
    def full_name(self) -> str:
        """The same as `slug`: what a person writes."""
        return self.record.slug

    @property
    def former_names(self) -> tuple[FormerName, ...]:
        """The slugs it once had, the oldest first."""
        return self.record.former_names


@dataclass(frozen=True)
class RepositoryFolder(Folder):
    """A repository's folder: who it belongs to, its snapshots, its mirror and its files."""

    workspace_folder: str
    record: RepositoryIdentity

    @property
    def uuid(self) -> str:
        """The repository's uuid, with its braces."""
        return self.record.uuid

    @property
    def full_name(self) -> str:
        """`workspace/repository`, as it is called now (or was last)."""
        return self.record.full_name

    @property
    def workspace_slug(self) -> str:
        """The slug of the workspace that it is in now (or was last)."""
        return self.record.full_name.partition("/")[0]

    @property
    def slug(self) -> str:
        """The repository's slug now (or last)."""
        return self.record.full_name.partition("/")[2]

    @property
    def former_names(self) -> tuple[FormerName, ...]:
        """The full names that it once had, the oldest first."""
        return self.record.former_names

    @property
    def missing(self) -> Missing | None:
        """Since when complete listings lack it; None while it is there."""
        return self.record.missing

    @property
    def gone_since(self) -> datetime | None:
        """When it was first missing, once that is confirmed; else None."""
        return self.record.gone_since

    @property
    def code(self) -> Path:
        """The mirror: a bare git repository (not there before the first fetch)."""
        return self.root / self.place / layout.CODE


AnyFolder = WorkspaceFolder | RepositoryFolder


def current_workspace(
    repository: RepositoryFolder, workspaces: Iterable[WorkspaceFolder]
) -> WorkspaceFolder | None:
    """The workspace that a repository is in now, wherever its folder stands: after a transfer it is not the
    one around the folder. None where none of `workspaces` is it."""
    around, named = None, None
    for one in workspaces:
        if one.folder == repository.workspace_folder:
            around = one
        elif named is None and one.slug == repository.workspace_slug:
            named = one
    if around is not None and around.slug == repository.workspace_slug:
        return around
    return named or around
