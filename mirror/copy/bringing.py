"""`mirror copy --from`: a store made again from its copy.

It is made in a folder inside the new store's, and moved to its place at the end, store.json last: what is not
whole is never taken for a store. What arrived before a kill is hashed again and stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mirror.copy.format import STORE
from mirror.copy.materializing import check_room, lay, make_store, room_for
from mirror.copy.reading import WIDTH, CopiedFolder, Copy, CopyDamaged
from mirror.errors import Locked, MirrorError, UsageError
from mirror.fs.durable import make_folder, make_parents, sync_folder
from mirror.fs.folders import occupant
from mirror.logs import get_logger
from mirror.model import NoProgress, Progress
from mirror.store.format import layout
from mirror.store.writing.writer import open_store

# In the folder of the new store, until it is whole.
UNFINISHED = "copy-unfinished"
_log = get_logger("copy")


@dataclass(frozen=True)
class Brought:
    """A store that was made from a copy: how many folders and bytes, and what could not be had, by place."""

    folders: int
    size: int
    lost: dict[str, str]


async def bring(copy: Copy, target: Path, *, now: datetime, progress: Progress | None = None) -> Brought:
    """Make the store again at `target`, which is empty, new, or what an earlier call left.

    Folders of which nothing holds are left out and told: all else is there. Raises UsageError where `target`
    has other things, NoRoom, Locked while another process does the same, and as reading the copy does.
    """
    progress = progress or NoProgress()
    _check_empty(target)
    make_parents(target)
    make_folder(target)
    with _unfinished(target) as folder:
        folders = list(copy.folders.values())
        if (target / layout.STORE_FILE).exists():
            return await asyncio.to_thread(_end, folders, folder, target, now)
        there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        check_room(target, room_for(folders) - there, hint="name a folder on a larger disk with --to")
        brought = await _folders(copy, folders, folder, progress)
        await make_store(copy, folder, is_durable=True)
        await asyncio.to_thread(_publish, folder, target)
    _rebuild_index(target, now)
    for name, why in copy.broken.items():
        brought.lost.setdefault(name, why)
    _log.info("copy.brought", copy=str(copy.bucket.address), store=str(target), folders=brought.folders)
    return brought


def _end(folders: Sequence[CopiedFolder], unfinished: Path, target: Path, now: datetime) -> Brought:
    """Where a kill came when the store was whole, in its place, and perhaps in use since: touch nothing of
    it. What is not there could not be had then."""
    unfinished.rmdir()
    sync_folder(target)
    _rebuild_index(target, now)
    others = [one for one in folders if one.place != STORE]
    there = [one for one in others if (target / one.place).is_dir()]
    text = "it could not be had when the store was made: make it anew in another folder"
    lost = {one.place: text for one in others if one not in there}
    return Brought(len(there), sum(one.size for one in there), lost)


def _rebuild_index(target: Path, now: datetime) -> None:
    with open_store(target, command="mirror copy") as writer:
        writer.rebuild_index(now)


def _check_empty(target: Path) -> None:
    try:
        other = occupant(target, passes=lambda name: name == UNFINISHED)
    except NotADirectoryError:
        raise UsageError(f"{target} is a file", hint="name an empty folder, or a new one") from None
    if other is not None and not (target / UNFINISHED).is_dir():
        raise UsageError(
            f"{target} is not empty: it holds {other}", hint="name an empty folder, or a new one"
        )


@contextlib.contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """The folder for what is not whole yet, locked."""
    folder = target / UNFINISHED
    make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"another process makes a store in {target}", hint="wait until it ends") from None
        if not (target / layout.STORE_FILE).exists():
            _take_back(folder, target)
        yield folder
    finally:
        os.close(descriptor)


def _take_back(folder: Path, target: Path) -> None:
    """Where a kill came between two moves of `_publish`: move back what was moved. store.json was not."""
    for path in target.iterdir():
        if path.name not in (UNFINISHED, "lost+found"):
            path.rename(folder / path.name)


def _publish(folder: Path, target: Path) -> None:
    """Move everything to its place, store.json last."""
    names = sorted(path.name for path in folder.iterdir() if path.name != layout.STORE_FILE)
    for name in [*names, layout.STORE_FILE]:
        if name == layout.STORE_FILE:
            sync_folder(target)
        (folder / name).rename(target / name)
    sync_folder(target)
    folder.rmdir()
    sync_folder(target)


async def _folders(copy: Copy, folders: Sequence[CopiedFolder], store: Path, progress: Progress) -> Brought:
    await asyncio.to_thread(_remove_strangers, store, {one.place for one in folders})
    brought = Brought(0, 0, {})
    slots = asyncio.Semaphore(max(1, WIDTH // 2))
    done: list[CopiedFolder] = []

    async def one(folder: CopiedFolder) -> None:
        async with slots:
            try:
                done.append(await lay(copy, folder, store, is_durable=True, progress=progress))
            except CopyDamaged as damage:
                brought.lost[folder.place] = damage.message
                await asyncio.to_thread(shutil.rmtree, store / folder.place, ignore_errors=True)

    others = [one for one in folders if one.place != STORE]
    progress.expect({one.full_name or one.place: 1.0 + one.size for one in others})
    # Workspaces first: a folder that cannot be had is removed whole, and its repositories lie in it.
    for some in (
        [folder for folder in others if len(folder.place.split("/")) == 2],
        [folder for folder in others if len(folder.place.split("/")) != 2],
    ):
        try:
            async with asyncio.TaskGroup() as group:
                for folder in some:
                    group.create_task(one(folder))
        except ExceptionGroup as several:
            raise _first(several) from None
    return Brought(len(done), sum(folder.size for folder in done), brought.lost)


def _first(several: ExceptionGroup[Exception]) -> Exception:
    """The first failure that people should hear of."""
    every = list(several.exceptions)
    return next((one for one in every if isinstance(one, MirrorError | OSError)), every[0])


def _remove_strangers(store: Path, places: set[str]) -> None:
    """Remove folders that an earlier try brought and that the copy no longer has."""
    base = store / layout.WORKSPACES
    for workspace in base.iterdir() if base.is_dir() else ():
        inner = workspace / layout.REPOSITORIES
        for repository in inner.iterdir() if inner.is_dir() else ():
            if repository.relative_to(store).as_posix() not in places:
                shutil.rmtree(repository)
        if not any(
            one == f"{layout.WORKSPACES}/{workspace.name}"
            or one.startswith(f"{layout.WORKSPACES}/{workspace.name}/")
            for one in places
        ):
            shutil.rmtree(workspace)
