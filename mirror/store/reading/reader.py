"""Reading a store. Nothing here writes, not even a lock: any copy can be read, even on a read-only disk and
while somebody writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from mirror import __version__
from mirror.errors import MirrorError, UsageError
from mirror.model import JsonObject, Selector, time_text
from mirror.store.format import layout
from mirror.store.format.brake import Brake
from mirror.store.format.failures import StoreDamaged, StoreTooNew, TwoFolders, Unreadable, missing_store
from mirror.store.format.identity import FormerName, Missing, StoreIdentity
from mirror.store.format.ledger import Ledger
from mirror.store.format.refs_document import MirrorRefs, is_own_document, qualified_ref
from mirror.store.format.removals import Erasure, ErasureFilter
from mirror.store.format.seal import seal_fault
from mirror.store.format.small_files import read_small_file
from mirror.store.reading import run_records
from mirror.store.reading.documents import OpenDocuments
from mirror.store.reading.folder_lookup import FolderLookup, foreign_names, owned_folders
from mirror.store.reading.folders import (
    AnyFolder,
    Folder,
    OnDamage,
    RepositoryFolder,
    WorkspaceFolder,
    current_workspace,
)
from mirror.store.reading.identity import (
    UNSEALED_IDENTITIES,
    read_repository_identity,
    read_workspace_identity,
)
from mirror.store.reading.run_history import RunHistory, read_history
from mirror.store.reading.run_records import RunRecord
from mirror.store.reading.selection import Candidate, matches_any, select
from mirror.store.reading.snapshot_selection import At
from mirror.store.reading.snapshots import SnapshotReader
from mirror.store.reading.stored_file import StoredFile

__all__ = [
    "At",
    "Brake",
    "Erasure",
    "ErasureFilter",
    "FormerName",
    "Ledger",
    "MirrorRefs",
    "Missing",
    "RepositoryFolder",
    "RunHistory",
    "RunRecord",
    "SnapshotReader",
    "Store",
    "StoreDamaged",
    "StoreTooNew",
    "StoredFile",
    "TwoFolders",
    "WorkspaceFolder",
    "current_workspace",
    "is_own_document",
    "qualified_ref",
]  # fmt: skip

# The keys of the small files that version 0.1 wrote, without seals.
_UNSEALED: Mapping[str, frozenset[str]] = {
    layout.STORE_FILE: frozenset({"format", "id", "created", "requires"}),
    **UNSEALED_IDENTITIES,
    layout.RUNS: frozenset(
        {"schema", "id", "kind", "started", "ended", "program", "exit_code", "exit_codes", "previous",
         "entries", "problems", "facts"}
    ),
}  # fmt: skip
T = TypeVar("T")
F = TypeVar("F", bound=Folder)


class Store:
    """A store opened for reading. A context manager, or call `close`."""

    def __init__(self, path: Path, record: StoreIdentity) -> None:
        self.path = path
        self._record = record
        self._opened = OpenDocuments()
        self._history: RunHistory | None = None
        self.folder_lookup = FolderLookup(path)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the store at `path`.

        Raises NoStore where there is none, StoreTooNew where a newer version wrote it, and StoreDamaged where
        `store.json` is damaged or missing.
        """
        path = path.absolute()
        try:
            there = (path / layout.STORE_FILE).is_file()
        except PermissionError as error:
            raise MirrorError(
                f"no permission to read {path}", hint="run as the user who owns the store"
            ) from error
        if not there:
            raise missing_store(path)
        return cls(path, read_store_identity(path))

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close open files. The store may be used again afterwards."""
        self._opened.close()

    @property
    def id(self) -> str:
        """The id of the store and of its copies."""
        return self._record.id

    @property
    def format(self) -> int:
        """The number of the store's format."""
        return self._record.format

    @property
    def created(self) -> datetime:
        """When the store was created."""
        return self._record.created

    def workspaces(
        self, selectors: Sequence[Selector] = (), on_damage: OnDamage | None = None
    ) -> list[WorkspaceFolder]:
        """The workspaces, sorted by folder name; with `selectors`, those that they select.

        A selected one that is damaged raises StoreDamaged, or goes to `on_damage`.
        """
        candidates = self._workspace_candidates()
        wanted = [Selector(one.workspace) for one in selectors]
        return _only_intact(select(candidates, wanted) if wanted else _items(candidates), on_damage)

    def repositories(
        self, selectors: Sequence[Selector] = (), on_damage: OnDamage | None = None
    ) -> list[RepositoryFolder]:
        """The repositories, sorted by folder; with `selectors`, those that they select.

        Raises UsageError where a selector matches nothing, or an exact one matches several (a name that was
        used again): select by folder name then. A workspace without repositories is no error. A selected
        folder that is damaged raises StoreDamaged, or goes to `on_damage`.
        """
        candidates = self._repository_candidates()
        if not selectors:
            return _only_intact(_items(candidates), on_damage)
        workspaces = self._workspace_candidates()
        wanted = [
            one
            for one in selectors
            if one.repository is not None or matches_any(candidates, one) or not matches_any(workspaces, one)
        ]
        return _only_intact(select(candidates, wanted), on_damage)

    def repository(self, selector: Selector) -> RepositoryFolder:
        """The repository that `selector` selects. Raises UsageError unless it is exactly one."""
        found = self.repositories([selector])
        if len(found) == 1:
            return found[0]
        names = ", ".join(one.full_name for one in found[:5]) or "it has none"
        raise UsageError(
            f"{str(selector)!r} matches {len(found)} repositories, and one is needed",
            hint=f"name one as workspace/repository: {names}",
        )

    def history(self, on_damage: OnDamage | None = None) -> RunHistory:
        """The history in the run records, read once. Damaged records go to `on_damage`, or are logged."""
        if self._history is None:
            self._history = read_history(self.path, on_damage or run_records.log_damage)
        return self._history

    def rollback_problem(self, folder: AnyFolder, sha256: str | None = None) -> str | None:
        """A problem text where the ledger of `folder` is older than the run records say, or None.

        The folder was restored from an older copy then, and newer snapshots may be missing. `sha256` is that
        of the ledger, if the caller knows it. Raises StoreDamaged.
        """
        kind = "repository" if isinstance(folder, RepositoryFolder) else "workspace"
        history = self.history().find(kind, folder.uuid)
        if history is None or history.ledger in (None, sha256):
            return None
        ledger = folder.ledger()
        if ledger is not None and ledger.follows(history.ledger):
            return None
        # Another run may have written records since these were read.
        newer = read_history(self.path).find(kind, folder.uuid)
        if ledger is None or newer is None or ledger.follows(newer.ledger):
            return None
        return (
            f"{folder.relative(layout.LEDGER_FILE)} is not the one that run records name, nor was it made"
            " from that one: the folder was brought back from an older copy, and snapshots may be missing"
        )

    def runs(self, kind: str | None = None, on_damage: OnDamage | None = None) -> Iterator[RunRecord]:
        """Every run record, the oldest first; see `run_records.runs`."""
        return run_records.runs(self.path, kind, on_damage)

    def newest_runs(
        self, on_damage: OnDamage | None = None, oldest: int | None = None
    ) -> Iterator[RunRecord]:
        """Run records, the newest first; see `run_records.newest_first`."""
        return run_records.newest_first(self.path, on_damage or run_records.log_damage, oldest)

    def run_ids(self) -> list[str]:
        """The ids of all run records, sorted."""
        return run_records.run_ids(self.path)

    def run(self, identifier: str) -> RunRecord:
        """One run record. Raises StoreDamaged."""
        return run_records.read_run(self.path, identifier)

    def last_run(self, kind: str | None = None) -> RunRecord | None:
        """The newest run record (of `kind`), or None."""
        return run_records.last_run(self.path, kind)

    def check_small_files(self, on_damage: OnDamage, records: Iterable[str] | None = None) -> int:
        """Check the seals of all small files; returns the number of files.

        With `records`, only the run records with these ids are checked. A file of version 0.1 has no seal;
        its form is checked.
        """
        count = 0
        for file, unsealed in self._small_files(self.run_ids() if records is None else records):
            count += 1
            try:
                fault = seal_fault((self.path / file).read_bytes(), unsealed)
            except OSError as error:
                fault = f"cannot be read: {error.strerror}"
            if fault is not None:
                on_damage(StoreDamaged(file, fault))
        try:
            run_records.check_last(self.path)
        except StoreDamaged as damage:
            on_damage(damage)
        return count

    def check_lists(self, digests: Iterable[str], on_damage: OnDamage) -> None:
        """Check the lists with these sha256, which run records name."""
        for digest in sorted(digests):
            try:
                run_records.read_list(self.path, digest, dict)
            except StoreDamaged as damage:
                on_damage(damage)

    def _small_files(self, records: Iterable[str]) -> Iterator[tuple[str, frozenset[str]]]:
        """Every small file, with the keys it had before there were seals; and every unreadable folder."""
        yield layout.STORE_FILE, _UNSEALED[layout.STORE_FILE]
        for identifier in records:
            yield layout.run_record(identifier), _UNSEALED[layout.RUNS]
        for workspace in owned_folders(self.path / layout.WORKSPACES):
            place = f"{layout.WORKSPACES}/{workspace}"
            yield from self._small_files_of(place)
            try:
                names = owned_folders(self.path / place / layout.REPOSITORIES)
            except OSError:
                yield f"{place}/{layout.REPOSITORIES}", frozenset()
                continue
            for name in names:
                yield from self._small_files_of(f"{place}/{layout.REPOSITORIES}/{name}")

    def _small_files_of(self, place: str) -> Iterator[tuple[str, frozenset[str]]]:
        try:
            there = set(os.listdir(self.path / place))  # noqa: PTH208 - names are enough
        except OSError:
            yield place, frozenset()  # reading it reports why
            return
        for name in layout.SMALL_FILES:
            if name in there:
                yield f"{place}/{name}", _UNSEALED.get(name, frozenset())

    def _workspace_candidates(self) -> list[Candidate[WorkspaceFolder | StoreDamaged]]:
        found: list[Candidate[WorkspaceFolder | StoreDamaged]] = []
        for name in owned_folders(self.path / layout.WORKSPACES):
            one = self._workspace(name)
            if isinstance(one, StoreDamaged):
                found.append(Candidate(one, (layout.slug_of(name), name)))
            else:
                former = tuple(former.name for former in one.former_names)
                found.append(Candidate(one, (one.slug, name, one.uuid), (), former))
        return found

    def _repository_candidates(self) -> list[Candidate[RepositoryFolder | StoreDamaged]]:
        found: list[Candidate[RepositoryFolder | StoreDamaged]] = []
        for workspace in owned_folders(self.path / layout.WORKSPACES):
            base = f"{layout.WORKSPACES}/{workspace}/{layout.REPOSITORIES}"
            try:
                names_here = owned_folders(self.path / base)
            except OSError as error:
                damage = Unreadable(base, error.strerror or str(error))
                slug = layout.slug_of(workspace), workspace
                found.append(Candidate(damage, slug, ("*", base), note="cannot be read"))
                continue
            for name in names_here:
                one = self._repository(workspace, name)
                if isinstance(one, StoreDamaged):
                    names = (layout.slug_of(workspace), workspace), (layout.slug_of(name), name)
                    found.append(Candidate(one, *names, note="damaged"))
                else:
                    found.append(_candidate(one, workspace, name))
        return found

    def _workspace(self, name: str) -> WorkspaceFolder | StoreDamaged:
        place = f"{layout.WORKSPACES}/{name}"
        snapshots = self._snapshots(place)

        def repositories() -> Iterator[SnapshotReader]:
            base = f"{place}/{layout.REPOSITORIES}"
            return (self._snapshots(f"{base}/{one}") for one in owned_folders(self.path / base))

        try:
            record, damage = read_workspace_identity(self.path, place, snapshots, repositories)
        except StoreDamaged as unreadable:
            return unreadable
        return WorkspaceFolder(
            self.path, place, self._snapshots(place, "workspace", record.uuid), damage, record
        )

    def _repository(self, workspace: str, name: str) -> RepositoryFolder | StoreDamaged:
        place = f"{layout.WORKSPACES}/{workspace}/{layout.REPOSITORIES}/{name}"
        try:
            record, damage = read_repository_identity(self.path, place, self._snapshots(place))
        except StoreDamaged as unreadable:
            return unreadable
        snapshots = self._snapshots(place, "repository", record.uuid)
        return RepositoryFolder(self.path, place, snapshots, damage, workspace, record)

    def _snapshots(self, place: str, kind: str = "", uuid: str = "") -> SnapshotReader:
        def confirmed(snapshot: str) -> datetime | None:
            history = self.history().find(kind, uuid)
            return history.confirmed if history is not None and history.confirmed_as == snapshot else None

        return SnapshotReader(self.path, f"{place}/{layout.METADATA}", self._opened, confirmed)

    def folder_of_workspace(self, uuid: str) -> WorkspaceFolder | None:
        """The folder of a workspace, or None.

        Raises TwoFolders, and StoreDamaged where a folder that may be the one is damaged.
        """
        names = owned_folders(self.path / layout.WORKSPACES)
        likely = (_intact(self._workspace(name)) for name in names if layout.may_belong_to(name, uuid))
        return _only([one for one in likely if one.uuid.lower() == uuid.lower()])

    def folder_of_repository(self, uuid: str) -> RepositoryFolder | None:
        """The folder of a repository, in the folder of any workspace, or None.

        Raises TwoFolders, and StoreDamaged where a folder that may be the one is damaged.
        """
        likely = (_intact(self._repository(*place)) for place in self.folder_lookup.repositories(uuid))
        return _only([one for one in likely if one.uuid.lower() == uuid.lower()])

    def uuid_of_workspace(self, name: str) -> str | None:
        """The uuid of the workspace with the slug `name`, or that had it earlier; None unless it is one."""
        wanted = name.lower()
        every = self.workspaces(on_damage=lambda _: None)
        found = [one for one in every if one.slug.lower() == wanted] or [
            one for one in every if wanted in {former.name.lower() for former in one.former_names}
        ]
        return found[0].uuid if len(found) == 1 else None

    def check_alone(self, folder: AnyFolder) -> None:
        """Raise TwoFolders where another folder has the same uuid, and StoreDamaged where a folder that may
        have it is damaged, or where the name of this folder does not match its uuid."""
        if isinstance(folder, RepositoryFolder):
            known: AnyFolder | None = self.folder_of_repository(folder.uuid)
        else:
            known = self.folder_of_workspace(folder.uuid)
        if known is None or known.place != folder.place:
            if known is not None:
                raise TwoFolders(known.place, folder.place)
            raise StoreDamaged(folder.place, f"its name does not belong to the uuid {folder.uuid} inside")

    def foreign_entries(self) -> list[str]:
        """Paths, relative to the store, of entries beside the folders of workspaces and repositories that are
        not the store's."""
        workspaces = owned_folders(self.path / layout.WORKSPACES)
        tops = [
            layout.WORKSPACES,
            *(f"{layout.WORKSPACES}/{one}/{layout.REPOSITORIES}" for one in workspaces),
        ]
        return [f"{top}/{name}" for top in tops for name in foreign_names(self.path / top)]

    def repository_at(self, workspace: str, name: str) -> RepositoryFolder:
        """The repository in the folder `name` of the folder `workspace`. Raises StoreDamaged."""
        return _intact(self._repository(workspace, name))

    def workspace_at(self, name: str) -> WorkspaceFolder:
        """The workspace in the folder `name`. Raises StoreDamaged."""
        return _intact(self._workspace(name))

    def read_again(self, folder: RepositoryFolder) -> RepositoryFolder:
        """The folder of a repository, read again. Raises StoreDamaged."""
        return _intact(self._repository(folder.workspace_folder, folder.folder))


def read_store_identity(path: Path) -> StoreIdentity:
    """Read `store.json`. Raises StoreTooNew and StoreDamaged."""
    record = read_small_file(path, layout.STORE_FILE, _store_record)
    unknown = sorted(set(record.requires) - layout.UNDERSTOOD)
    if unknown:
        raise StoreTooNew(
            f"the store at {path} requires {', '.join(unknown)}, which mirror {__version__} does not know",
            hint="use the version of mirror that wrote it, or a newer one",
        )
    return record


def _store_record(data: JsonObject) -> StoreIdentity:
    number = data.get("format")
    # First of all: a newer format may have other fields.
    if isinstance(number, int) and not isinstance(number, bool) and number > layout.FORMAT:
        raise StoreTooNew(
            f"the store is written in format {number}, and mirror {__version__} reads no format "
            f"above {layout.FORMAT}",
            hint="use the version of mirror that wrote it, or a newer one",
        )
    return StoreIdentity.from_json(data)


def _only(found: Sequence[F]) -> F | None:
    if len(found) > 1:
        raise TwoFolders(found[0].place, found[1].place)
    return found[0] if found else None


def _candidate(
    one: RepositoryFolder, workspace: str, name: str
) -> Candidate[RepositoryFolder | StoreDamaged]:
    note = "" if one.gone_since is None else f"gone since {time_text(one.gone_since)}"
    former = tuple(former.name for former in one.former_names)
    return Candidate(one, (one.workspace_slug, workspace), (one.slug, name, one.uuid), former, note)


def _items(candidates: Sequence[Candidate[T]]) -> list[T]:
    return [one.item for one in candidates]


def _intact(found: T | StoreDamaged) -> T:
    if isinstance(found, StoreDamaged):
        raise found
    return found


def _only_intact(found: Sequence[T | StoreDamaged], on_damage: OnDamage | None) -> list[T]:
    intact: list[T] = []
    for one in found:
        if not isinstance(one, StoreDamaged):
            intact.append(one)
        elif on_damage is None:
            raise one
        else:
            on_damage(one)
    return intact
