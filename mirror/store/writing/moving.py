"""Folders of repositories that come into a store from another one, or leave it.

A folder that leaves is moved to the quarantine, and one that comes is moved to its place by one rename. The
run records of both stores say so (`ARRIVED`, `DEPARTED` in `reading/run_history.py`): what is older counts no
longer for that folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mirror.errors import UsageError
from mirror.fs.durable import make_folder, make_folders, move, sync_file, sync_folder, write_file
from mirror.model import Clock
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.format.identity import RepositoryIdentity
from mirror.store.format.seal import sealed
from mirror.store.format.small_files import read_small_file
from mirror.store.reading.folders import RepositoryFolder, WorkspaceFolder
from mirror.store.reading.reader import Store
from mirror.store.writing.locks import hold_briefly
from mirror.store.writing.writer import create_or_open


def waiting_place(root: Path, uuid: str) -> Path:
    """Where a small store with the repository `uuid` is prepared before it comes into the store at `root`."""
    return root / layout.TEMPORARY / f"arriving-{layout.uuid_digits(uuid)}"


def uuid_of_folder(folder: Path) -> str:
    """The uuid of the repository in `folder`, which need not be in a store. Raises UsageError."""
    try:
        return _identity_of(folder).uuid
    except StoreDamaged as damage:
        raise UsageError(
            f"{folder} is not the folder of a repository: {damage.file}: {damage.problem}",
            hint="name one from the store of a host: workspaces/…/repositories/NAME",
        ) from damage


def _identity_of(folder: Path) -> RepositoryIdentity:
    file = f"{folder.name}/{layout.REPOSITORY_FILE}"
    return read_small_file(folder.parent, file, RepositoryIdentity.from_json)


def prepare(store: Store, folder: Path, clock: Clock) -> Path:
    """Copy a repository's folder into a small store at its waiting place, to be checked there; returns it.

    Where `folder` is in a store, or in a copy of one, the run records come too, and say what it must have.
    Else its workspace must be known here. Raises UsageError.
    """
    folder = folder.absolute()
    record = _identity_of(folder)
    waiting = waiting_place(store.path, record.uuid)
    if waiting.exists():
        shutil.rmtree(waiting)
    origin = folder.parents[3] if len(folder.parents) > 3 else folder
    create_or_open(waiting, now=clock.now()).close()
    if (origin / layout.STORE_FILE).is_file() and folder.parent.name == layout.REPOSITORIES:
        with Store.open(origin) as other:
            home = other.repository_at(folder.parents[1].name, folder.name).workspace_folder
            owner = other.workspace_at(home)
        copy_folder(origin / layout.RUNS, waiting / layout.RUNS)
    else:
        slug = record.full_name.partition("/")[0]
        known = [one for one in store.workspaces(on_damage=lambda _: None) if one.slug == slug]
        if len(known) != 1:
            raise UsageError(
                f"{folder} stands alone, and this store does not know its workspace {slug}",
                hint="bring the store around it too: store.json, runs and workspace.json",
            )
        owner = known[0]
    place = waiting / owner.place / layout.REPOSITORIES
    make_folders(place, waiting)
    write_file(waiting / owner.place / layout.WORKSPACE_FILE, sealed(owner.record.to_json()))
    is_ours = layout.is_folder_name(folder.name) and layout.may_belong_to(folder.name, record.uuid)
    slug = record.full_name.rpartition("/")[2]
    copy_folder(folder, place / (folder.name if is_ours else layout.folder_name(slug, record.uuid)))
    return waiting


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder durably, without its lock. Raises UsageError for anything but files and folders in it."""
    for base, folders, files in os.walk(source):
        here = target / Path(base).relative_to(source)
        make_folders(here, target.parent)
        for name in (*folders, *files):
            if (Path(base) / name).is_symlink():
                raise UsageError(f"{Path(base) / name} is a symbolic link, and a store has none")
        for name in files:
            if not (Path(base) == source and name == layout.LOCK_FILE):
                shutil.copy2(Path(base) / name, here / name)
    sync_tree(target)


def sync_tree(folder: Path) -> None:
    """Fsync every file and folder in `folder`."""
    for base, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_file(Path(base) / name)
        sync_folder(Path(base))


def bring_in(store: Store, home: WorkspaceFolder, arriving: RepositoryFolder) -> RepositoryFolder:
    """Move the folder of a repository, complete and fsynced on the same disk, into the folder `home`.

    Raises UsageError where the store has a folder of that repository, and as `folder_of_repository` does.
    """
    return _bring(store, home, arriving.root / arriving.place, arriving.uuid, arriving.full_name)


def bring_back(store: Store, home: WorkspaceFolder, aside: Path) -> RepositoryFolder:
    """Move the folder of a repository from the quarantine of its store into the folder `home`; raises as
    `bring_in`, and StoreDamaged where it does not say what it is."""
    record = _identity_of(aside)
    return _bring(store, home, aside, record.uuid, record.full_name)


def _bring(store: Store, home: WorkspaceFolder, folder: Path, uuid: str, full_name: str) -> RepositoryFolder:
    with hold_briefly(store.path / layout.STRUCTURE_LOCK):
        known = store.folder_of_repository(uuid)
        if known is not None:
            raise UsageError(f"{full_name} is in this store already: {known.place}")
        parent = store.path / home.place / layout.REPOSITORIES
        make_folder(parent)
        name, slug = folder.name, full_name.rpartition("/")[2]
        if not layout.may_belong_to(name, uuid) or (parent / name).exists():
            names = (layout.folder_name(slug, uuid, digits) for digits in range(8, 33))
            name = next(one for one in names if not (parent / one).exists())
        move(folder, parent / name)
        sync_folder(folder.parent)
    found = store.folder_of_repository(uuid)
    assert found is not None
    return found


def quarantined(store: Store) -> Iterator[tuple[str, Path]]:
    """The folders of repositories in the quarantine of a store: the uuid of each, and where it is."""
    quarantine = store.path / layout.QUARANTINE
    for one in sorted(quarantine.iterdir()) if quarantine.is_dir() else ():
        with contextlib.suppress(StoreDamaged, OSError):
            yield _identity_of(one).uuid, one


def put_away(folder: RepositoryFolder) -> str:
    """Move the folder of a repository to the quarantine; returns its path in the store.

    The caller holds the folder's lock, and has recorded that it leaves.
    """
    root = folder.root
    make_folder(root / layout.QUARANTINE)
    with hold_briefly(root / layout.STRUCTURE_LOCK):
        taken = {one.name for one in (root / layout.QUARANTINE).iterdir()}
        names = (folder.folder, *(f"{folder.folder}.{number}" for number in range(2, len(taken) + 3)))
        place = f"{layout.QUARANTINE}/{next(one for one in names if one not in taken)}"
        move(root / folder.place, root / place)
        sync_folder((root / folder.place).parent)
    return place


def content_mark(folder: Path) -> str:
    """A value that changes with everything that a reader trusts in a folder: its small files."""
    mark = hashlib.sha256()
    for name in layout.SMALL_FILES:
        path = folder / name
        mark.update(hashlib.sha256(path.read_bytes()).digest() if path.exists() else b"-")
    return mark.hexdigest()
