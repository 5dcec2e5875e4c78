"""Writing a store. Every step is durable, and leaves a store that readers and the next run accept, so a run
killed at any point needs no repair by hand."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from mirror.errors import MirrorError, UsageError
from mirror.fs.durable import make_folder, make_folders, make_parents, move, sweep, sweep_folders, write_file
from mirror.fs.folders import occupant
from mirror.logs import get_logger, take_lost_lines
from mirror.model import (
    Clock,
    JsonObject,
    Repository,
    Run,
    Workspace,
    dumps,
    is_uuid,
    snapshot_id,
)
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged, missing_store
from mirror.store.format.identity import (
    FormerName,
    Missing,
    RepositoryIdentity,
    StoreIdentity,
    WorkspaceIdentity,
)
from mirror.store.format.seal import is_sealed, sealed
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import (
    RepositoryFolder,
    Store,
    WorkspaceFolder,
    current_workspace,
    read_store_identity,
)
from mirror.store.writing.folder_writer import RepositoryWriter, SnapshotResult, WorkspaceWriter
from mirror.store.writing.index import index_document, index_page
from mirror.store.writing.locks import held_if_free, hold_briefly
from mirror.store.writing.request_usage import RequestUsage
from mirror.store.writing.run_record_writer import (
    CHECKPOINT_RECORDS,
    removable_records,
    remove_records,
    write_record,
)

__all__ = [
    "Absence",
    "RepositoryWriter",
    "SnapshotResult",
    "StoreWriter",
    "WorkspaceWriter",
    "create_or_open",
    "open_store",
]  # fmt: skip

# A repository counts as gone once this many runs over this period found it missing.
GONE_RUNS = 3
GONE_AFTER = timedelta(days=2)

_log = get_logger("store")


@dataclass(frozen=True)
class Absence:
    """A repository that complete listings lack: `absent`, or `gone` once that is confirmed.

    `runs` runs found it missing, the first at `since`.
    """

    state: Literal["absent", "gone"]
    runs: int
    since: datetime


def create_or_open(
    path: Path, *, now: datetime, new_id: str | None = None, command: str = "mirror"
) -> StoreWriter:
    """Open the store at `path` for writing, and create it if there is none.

    Call it only if the user asked for a new store (`mirror init`, `mirror backup --init`): an empty folder
    may be the mount point of a disk that is not mounted. `new_id` is the id of a new store, random by
    default; `command` names this process in lock files. Raises UsageError where `path` holds other things,
    and as `open_store` does.
    """
    path = path.absolute()
    with _write_errors(path):
        if not (path / layout.STORE_FILE).is_file():
            _create(path, StoreIdentity(layout.FORMAT, new_id or str(uuid.uuid4()), now))
    return open_store(path, command=command)


def open_store(path: Path, *, command: str) -> StoreWriter:
    """Open the store at `path` for writing.

    Raises as `Store.open` does, and MirrorError where the store cannot be written.
    """
    path = path.absolute()
    with _write_errors(path):
        reader = Store.open(path)
        if not is_sealed((path / layout.STORE_FILE).read_bytes()):
            write_file(path / layout.STORE_FILE, sealed(read_store_identity(path).to_json()))
        for name in (layout.TEMPORARY, layout.CACHE, layout.RUNS, layout.WORKSPACES):
            make_folder(path / name)
        for name in ("", layout.TEMPORARY, layout.CACHE, layout.RUNS):
            sweep(path / name)
        with hold_briefly(path / layout.STRUCTURE_LOCK):
            sweep_folders(path / layout.TEMPORARY)
        _sweep_copying(path)
    return StoreWriter(reader, command)


def _sweep_copying(path: Path) -> None:
    """Remove what killed copies set aside: its hard links keep on the disk what is pruned and erased."""
    for aside in path.glob(f"{layout.COPYING}*"):
        lock = path / layout.COPIES / aside.name.rpartition("-")[2] / layout.COPYING_LOCK
        make_folders(lock.parent, path)
        with held_if_free(lock) as is_over:
            if is_over:
                shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a store that cannot be written into MirrorError."""
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise MirrorError(
            f"cannot write to the store at {path}: {error.strerror}",
            hint="run as the user who owns the store (mirror doctor lists files of other users), "
            "or name another folder with --store",
        ) from error


def _create(path: Path, record: StoreIdentity) -> None:
    """Create a store. `store.json` is written last: before that there is no store, and the next try finishes
    it."""
    if path.is_dir():
        _check_empty(path)
    else:
        make_parents(path)
        make_folder(path)
    with contextlib.suppress(PermissionError):  # another user may own the root of a mounted disk
        path.chmod(0o700)
    make_folder(path / layout.TEMPORARY)
    with hold_briefly(path / layout.STRUCTURE_LOCK):
        for name in (layout.RUNS, layout.WORKSPACES, layout.QUARANTINE, layout.CACHE):
            make_folder(path / name)
        if not (path / layout.STORE_FILE).is_file():
            write_file(path / layout.STORE_FILE, sealed(record.to_json()))
            _log.info("store.created", store=str(path), id=record.id)


def _check_empty(path: Path) -> None:
    """Raise UsageError unless `path` is empty or holds only what an interrupted creation leaves."""
    problem = missing_store(path)
    if isinstance(problem, StoreDamaged):
        raise problem
    ours = {layout.TEMPORARY, layout.RUNS, layout.WORKSPACES, layout.QUARANTINE, layout.CACHE}
    other = occupant(path, passes=lambda name: name in ours or name.startswith(f"{layout.STORE_FILE}."))
    if other is not None:
        raise UsageError(
            f"{path} holds {other} and no store",
            hint="name an empty folder, a new one, or a store",
        )


class StoreWriter:
    """A store opened for writing; `reader` reads it. A context manager, or call `close`."""

    def __init__(self, reader: Store, command: str) -> None:
        self.reader = reader
        self._path = reader.path
        self._command = command

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close open files."""
        self.reader.close()

    def usage(self, writer: str, clock: Clock) -> RequestUsage:
        """The request counts that this process (`writer`, hex digits) shares with others."""
        salt = read_store_identity(self._path).id
        return RequestUsage(self._path, salt=salt, writer=writer, clock=clock)

    def adopt_workspace(self, workspace: Workspace, now: datetime) -> WorkspaceWriter:
        """The folder of a workspace, created if there is none.

        A new slug is recorded, also in its repositories; the folder keeps its name.
        """
        _check_uuid(workspace.uuid)
        found = self.reader.folder_of_workspace(workspace.uuid)
        damage = found.identity_damage if found is not None else None
        if (
            found is None
            or damage is not None
            or (found.slug, found.record.name) != (workspace.slug, workspace.name or found.record.name)
            or not self._is_sealed(found.relative(layout.WORKSPACE_FILE))
        ):
            with self._structure():
                found = self._place_workspace(workspace, now)
        return WorkspaceWriter(
            found, self._command, partial(self.reader.check_alone, found), identity_damage=damage
        )

    def adopt_repository(
        self, workspace: WorkspaceFolder | WorkspaceWriter, repository: Repository, now: datetime
    ) -> RepositoryWriter:
        """The folder of a repository, created in the folder of `workspace` if there is none anywhere.

        A new full name (after a rename or a transfer) is recorded; the folder keeps its name and place. The
        repository no longer counts as missing.
        """
        _check_uuid(repository.uuid)
        home = workspace.folder if isinstance(workspace, WorkspaceWriter) else workspace
        found = self.reader.folder_of_repository(repository.uuid)
        damage = found.identity_damage if found is not None else None
        if (
            found is None
            or damage is not None
            or found.full_name != repository.full_name
            or found.missing
            or found.gone_since
            or not self._is_sealed(found.relative(layout.REPOSITORY_FILE))
        ):
            with self._structure():
                found = self._place_repository(home, repository, now)
        return RepositoryWriter(
            found, self._command, partial(self.reader.check_alone, found), identity_damage=damage
        )

    def writer_of(self, folder: AnyFolder) -> RepositoryWriter | WorkspaceWriter:
        """A writer for an existing folder."""
        check = partial(self.reader.check_alone, folder)
        if isinstance(folder, RepositoryFolder):
            return RepositoryWriter(folder, self._command, check)
        return WorkspaceWriter(folder, self._command, check)

    def mark_missing(self, folder: RepositoryFolder | RepositoryWriter, now: datetime) -> Absence:
        """Record that a complete listing at `now` lacks the repository. Call it once in each run.

        The repository counts as gone once three runs over two days found it missing. Its folder is kept.
        """
        with self._structure():
            current = self._fresh(folder)
            before = current.missing
            if before is None:
                missing = Missing(now, now, 1)
            else:  # `min`: a clock that was ahead must not delay the confirmation
                missing = Missing(min(before.first, now), now, before.runs + 1)
            gone = current.gone_since
            if gone is None and missing.runs >= GONE_RUNS and missing.last - missing.first >= GONE_AFTER:
                gone = missing.first
                _log.warning("store.repository_gone", repository=current.full_name, folder=current.place)
            self._write_identity(current, replace(current.record, missing=missing, gone_since=gone))
        return Absence("absent" if gone is None else "gone", missing.runs, missing.first)

    def mark_present(self, folder: RepositoryFolder | RepositoryWriter) -> None:
        """Record that the repository exists upstream."""
        with self._structure():
            current = self._fresh(folder)
            if current.missing is not None or current.gone_since is not None:
                self._write_identity(current, replace(current.record, missing=None, gone_since=None))

    def new_run_id(self, now: datetime) -> str:
        """A new run id for the time `now`: the lower-case UTC time and a short random part."""
        while True:
            identifier = f"{snapshot_id(now).lower()}-{secrets.token_hex(3)}"
            if not (self._path / layout.run_record(identifier)).exists():
                return identifier

    def write_run(self, run: Run, *, checkpoint_every: int = CHECKPOINT_RECORDS) -> Path:
        """Write the record of a run, chained to the previous record; returns its path. At least one record in
        `checkpoint_every` is a checkpoint.

        Its facts count the log lines that could not be written (`log_lines_lost`). Raises FileExistsError
        where the run has a record.
        """
        assert layout.is_run_id(run.id), f"{run.id} is not a run id"
        lost = take_lost_lines()
        if lost:
            run = replace(run, facts={**run.facts, "log_lines_lost": lost})
        with self._structure():
            return write_record(self._path, run, checkpoint_every=checkpoint_every)

    def removable_records(self, keep: timedelta, now: datetime) -> tuple[int, int]:
        """The number of the oldest run record to keep, and how many records older than `keep` may be
        removed."""
        return removable_records(self._path, keep, now)

    def remove_records(self, before: int) -> int:
        """Remove the run records with numbers below `before`; returns how many. A written run record must
        have `before` as the fact `records_from`."""
        with self._structure():
            return remove_records(self._path, before)

    def rebuild_index(self, now: datetime) -> None:
        """Write the index of the store, for people and scripts, from its folders."""
        with self._structure():
            damaged: list[str] = []

            def note(damage: StoreDamaged) -> None:
                damaged.append(damage.file)
                _log_damage(damage)

            workspaces = self.reader.workspaces(on_damage=note)
            repositories = self.reader.repositories(on_damage=note)
            content = workspaces, repositories, damaged, now
            write_file(self._path / layout.INDEX_FILE, dumps(index_document(*content)))
            write_file(self._path / layout.INDEX_PAGE, index_page(*content).encode("utf-8"))

    def _is_sealed(self, file: str) -> bool:
        """Whether a small file has a seal; version 0.1 wrote none."""
        return is_sealed((self._path / file).read_bytes())

    @contextlib.contextmanager
    def _structure(self) -> Iterator[None]:
        with hold_briefly(self._path / layout.STRUCTURE_LOCK):
            yield

    def _place_workspace(self, workspace: Workspace, now: datetime) -> WorkspaceFolder:
        found = self.reader.folder_of_workspace(workspace.uuid)
        if found is None:
            record = WorkspaceIdentity(workspace.uuid, workspace.slug, workspace.name, now)
            self._make(
                layout.WORKSPACES, workspace.slug, workspace.uuid, layout.WORKSPACE_FILE, record.to_json()
            )
        else:
            old = found.record
            record = replace(old, slug=workspace.slug, name=workspace.name or old.name)
            if old.slug != workspace.slug:
                former = FormerName(old.slug, old.since, now)
                record = replace(record, since=now, former_names=(*old.former_names, former))
                # The repositories first: until the file of the workspace has the new slug, the next run
                # repeats this.
                self._rename_repositories(found, workspace.slug, now)
            write_file(self._path / found.place / layout.WORKSPACE_FILE, sealed(record.to_json()))
        placed = self.reader.folder_of_workspace(workspace.uuid)
        assert placed is not None
        return placed

    def _rename_repositories(self, workspace: WorkspaceFolder, slug: str, now: datetime) -> None:
        workspaces = self.reader.workspaces(on_damage=_log_damage)
        for one in self.reader.repositories(on_damage=_log_damage):
            if one.workspace_slug == workspace.slug and current_workspace(one, workspaces) == workspace:
                self._write_identity(one, _renamed(one.record, f"{slug}/{one.slug}", now))

    def _place_repository(
        self, workspace: WorkspaceFolder, repository: Repository, now: datetime
    ) -> RepositoryFolder:
        found = self.reader.folder_of_repository(repository.uuid)
        if found is None:
            parent = f"{workspace.place}/{layout.REPOSITORIES}"
            record = RepositoryIdentity(repository.uuid, repository.full_name, now)
            name = self._make(
                parent, repository.slug, repository.uuid, layout.REPOSITORY_FILE, record.to_json()
            )
            self.reader.folder_lookup.add(workspace.folder, name)
        else:
            record = _renamed(found.record, repository.full_name, now)
            self._write_identity(found, replace(record, missing=None, gone_since=None))
        placed = self.reader.folder_of_repository(repository.uuid)
        assert placed is not None
        return placed

    def _make(self, parent: str, slug: str, uuid: str, file: str, record: JsonObject) -> str:
        """Create a folder with its identity file, atomically; returns its name."""
        make_folder(self._path / parent)
        names = (layout.folder_name(slug, uuid, digits) for digits in range(8, 33))
        name = next(name for name in names if not (self._path / parent / name).exists())
        unfinished = self._path / layout.TEMPORARY / f"{secrets.token_hex(8)}.new"
        make_folder(unfinished)
        write_file(unfinished / file, sealed(record))
        move(unfinished, self._path / parent / name)
        _log.info("store.folder_made", folder=f"{parent}/{name}")
        return name

    def _fresh(self, folder: RepositoryFolder | RepositoryWriter) -> RepositoryFolder:
        """The folder, read again: another process may have changed it."""
        known = folder.folder if isinstance(folder, RepositoryWriter) else folder
        current = self.reader.folder_of_repository(known.uuid)
        if current is None:
            raise StoreDamaged(known.relative(layout.REPOSITORY_FILE), "it is missing")
        return current

    def _write_identity(self, folder: RepositoryFolder, record: RepositoryIdentity) -> None:
        path = self._path / folder.place
        sweep(path)
        write_file(path / layout.REPOSITORY_FILE, sealed(record.to_json()))


def _log_damage(damage: StoreDamaged) -> None:
    _log.warning("store.damaged", file=damage.file, problem=damage.problem)


def _renamed(record: RepositoryIdentity, full_name: str, now: datetime) -> RepositoryIdentity:
    if record.full_name == full_name:
        return record
    former = FormerName(record.full_name, record.since, now)
    return replace(record, full_name=full_name, since=now, former_names=(*record.former_names, former))


def _check_uuid(uuid: str) -> None:
    if not is_uuid(uuid):
        raise MirrorError(f"{uuid!r} is not a uuid, so it cannot identify a folder")
