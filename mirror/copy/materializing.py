"""Making folders of a store again from a copy, on a disk: a real store that everything else reads."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from mirror.copy.choosing import chosen_places
from mirror.copy.fetching import fetch_blob, holds
from mirror.copy.format import STORE, File, Manifest
from mirror.copy.reading import INNER, WIDTH, CopiedFolder, Copy, CopyDamaged, depth
from mirror.errors import MirrorError
from mirror.fs.durable import create_file, make_folder, make_folders, sync_folder, write_file
from mirror.git.bare import running_setting
from mirror.logs import get_logger
from mirror.model import DONE, NoProgress, NotCanonical, Progress, Selector, loads, time_text
from mirror.model.words import size as words_size
from mirror.store.format import layout
from mirror.store.format.seal import is_sealed, seal_fault, sealed

# Beside the files: what else uses the disk meanwhile.
_MORE = 64 << 20
# Folders that every store has.
_FOLDERS = (layout.TEMPORARY, layout.RUNS, layout.WORKSPACES, layout.QUARANTINE, layout.CACHE)
_log = get_logger("copy")


class NoRoom(MirrorError):
    """The folder has too little room for what is to be read. Nothing was read."""


def check_room(folder: Path, needed: int, *, hint: str) -> None:
    """Raise NoRoom where the disk of `folder` has too little room."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(
            f"{folder} has {words_size(free)} free, and this needs about {words_size(needed)}", hint=hint
        )


def room_for(folders: Collection[CopiedFolder]) -> int:
    """How many bytes of disk some folders need at most while they are made."""
    total = sum(one.size for one in folders)
    apart = min(total, WIDTH * max((one.largest for one in folders), default=0))
    return total + apart + _MORE


def chosen(copy: Copy, selectors: Sequence[Selector]) -> list[CopiedFolder] | None:
    """The folders that `selectors` select, as `chosen_places` does; all without selectors."""
    every = list(copy.folders.values())
    if not selectors:
        return every
    places = chosen_places([one.named for one in every], selectors)
    return None if places is None else [one for one in every if one.place in places]


async def make_store(copy: Copy, store: Path, *, is_durable: bool = False) -> None:
    """Make the frame of a store in the folder `store`: its own files and its run records, and no workspace.

    store.json comes last, so that an unfinished one is no store. Raises CopyDamaged.
    """
    for name in _FOLDERS:
        make_folder(store / name)
    await _lay_runs(copy, store, is_durable=is_durable)
    own = copy.folders.get(STORE)
    if own is not None and own.fault is None:
        own = await lay(copy, own, store, is_durable=is_durable)
    if not (store / layout.STORE_FILE).is_file():
        _write_store_file(copy, store)


def _write_store_file(copy: Copy, store: Path) -> None:
    """Write the store.json of a store from that of the copy: the first run of `mirror copy` did not end.
    Raises CopyDamaged where that one is damaged, too."""
    if copy.store_id is None:
        raise CopyDamaged(f"{copy.bucket.address} names no store: its store.json is missing or damaged")
    created = min(one.time for one in copy.folders.values() if one.read_from is not None)
    identity = {"format": layout.FORMAT, "id": copy.store_id, "created": time_text(created), "requires": []}
    write_file(store / layout.STORE_FILE, sealed(identity))


async def lay(
    copy: Copy,
    folder: CopiedFolder,
    store: Path,
    *,
    only: Callable[[str], bool] | None = None,
    is_durable: bool = False,
    progress: Progress | None = None,
) -> CopiedFolder:
    """Write a folder (of its files those for which `only` is true) into the store at `store`.

    Where its newest manifest cannot be had whole, the next older one that can is taken, and that is said;
    returns which. Files that are there already and hash right stay. Raises CopyDamaged where none can.
    """
    progress = progress or NoProgress()
    subject = folder.full_name or folder.place
    while True:
        try:
            await _lay(copy, folder, store, only, is_durable, progress)
        except CopyDamaged as damage:
            copy.note(damage.message)
            older = await copy.older(folder)
            if older is None:
                raise
            copy.note(f"{folder.place} is read as it was at {time_text(older.time)}: newer of it is damaged")
            folder = older
        else:
            progress.report(subject, DONE)
            return folder


async def _lay(
    copy: Copy,
    folder: CopiedFolder,
    store: Path,
    only: Callable[[str], bool] | None,
    is_durable: bool,
    progress: Progress,
) -> None:
    manifest = await copy.manifest(folder)
    place = store if folder.place == STORE else store / folder.place
    files = {path: file for path, file in manifest.files.items() if only is None or only(path)}
    left = await asyncio.to_thread(_prepare, store, place, folder.place, manifest, files)
    blobs: dict[str, dict[str, File]] = {}
    for path, file in left.items():
        blobs.setdefault(f"{file.blob} {file.is_bundled}", {})[path] = file
    slots, subject, number = asyncio.Semaphore(WIDTH), folder.full_name or folder.place, 0

    async def one(wanted: Mapping[str, File]) -> None:
        nonlocal number
        name = next(iter(wanted.values())).blob
        async with slots:
            await fetch_blob(
                copy, name, manifest.blobs[name], wanted, place,
                is_durable=is_durable, received=lambda size: progress.received(0, size),
            )  # fmt: skip
        number += 1
        progress.report(subject, "reading the copy", number, len(blobs))

    progress.report(subject, "reading the copy", 0, len(blobs))
    try:
        async with asyncio.TaskGroup() as group:
            for wanted in blobs.values():
                group.create_task(one(wanted))
    except ExceptionGroup as several:
        raise _worst(several) from None
    await asyncio.to_thread(_check_configs, copy, place, files)
    await asyncio.to_thread(_date, place, left, manifest.time.timestamp())
    if is_durable:
        await asyncio.to_thread(_sync_folders, place, files)


def _worst(several: ExceptionGroup[Exception]) -> Exception:
    """Of several failures the one that is no damage of the copy, else the first."""
    found = [one for one in several.exceptions if not isinstance(one, CopyDamaged)]
    one = (found or list(several.exceptions))[0]
    return _worst(one) if isinstance(one, ExceptionGroup) else one


def _prepare(
    store: Path, place: Path, name: str, manifest: Manifest, files: Mapping[str, File]
) -> dict[str, File]:
    """Make the folders, and remove what does not belong there; returns the files that are still to come."""
    make_folders(place, store)
    inner = INNER[depth(name)]
    for path in _there(place, inner):
        relative = path.relative_to(place).as_posix()
        if relative not in files:
            path.unlink()
    for folder in sorted({path.rpartition("/")[0] for path in files} | set(manifest.empty_folders)):
        make_folders(place / folder, place)
    return {path: file for path, file in files.items() if not holds(place / path, file)}


def _there(place: Path, inner: Collection[str]) -> Iterator[Path]:
    """The files of a folder that are on the disk, without those of the folders inside it that are others'."""
    for base, folders, names in os.walk(place):
        if Path(base) == place:
            folders[:] = [one for one in folders if one not in inner]
        yield from (Path(base, name) for name in names)


def _check_configs(copy: Copy, place: Path, files: Collection[str]) -> None:
    """Raise CopyDamaged where the config of a git repository would make git run something."""
    for path in files:
        folder, _, name = path.rpartition("/")
        if name == "config" and folder.endswith(".git"):
            setting = running_setting((place / path).read_bytes())
            if setting is not None:
                (place / path).unlink()
                raise CopyDamaged(
                    f"{copy.bucket.address}: {path} of {place.name} has the setting {setting},"
                    " which could make git run a program; no mirror has it"
                )


def _date(place: Path, files: Collection[str], when: float) -> None:
    """Say of files that they are as old as their manifest: they were not written now."""
    for path in files:
        os.utime(place / path, (when, when))


def _sync_folders(place: Path, files: Collection[str]) -> None:
    for folder in {path.rpartition("/")[0] for path in files}:
        sync_folder(place / folder)


async def _lay_runs(copy: Copy, store: Path, *, is_durable: bool) -> None:
    """Write the run records of the copy, and the lists that they name; what of them is damaged is said."""
    make_folder(store / layout.LISTS)
    slots = asyncio.Semaphore(WIDTH)
    named: set[str] = set()

    async def record(key: str, identifier: str) -> None:
        async with slots:
            data = await _known(store / layout.run_record(identifier), record_fault(identifier))
            if data is None:
                data = await copy.first_intact(key, record_fault(identifier))
                if data is None:
                    return
                await asyncio.to_thread(_write, store / layout.run_record(identifier), data, is_durable)
        named.update(lists_of(data))

    async def run_list(key: str, name: str) -> None:
        async with slots:
            if (store / layout.run_list(name)).is_file():
                return
            data = await copy.first_intact(key, list_fault(named, None if copy.coding.is_encrypted else name))
        if data is not None:
            path = store / layout.run_list(hashlib.sha256(data).hexdigest())
            await asyncio.to_thread(_write, path, data, is_durable)

    records, lists = run_keys(copy)
    for task, keys in ((record, records), (run_list, lists)):
        async with asyncio.TaskGroup() as group:
            for key, name in keys.items():
                group.create_task(task(key, name))


async def _known(path: Path, fault: Callable[[bytes], str | None]) -> bytes | None:
    """The content of a file that an earlier try wrote, or None."""
    try:
        data = await asyncio.to_thread(path.read_bytes)
    except FileNotFoundError:
        return None
    return data if fault(data) is None else None


def _write(path: Path, data: bytes, is_durable: bool) -> None:
    """Write a small file; whether the disk has it at once is asked for only where the store is to stay."""
    if is_durable:
        write_file(path, data)
        return
    path.unlink(missing_ok=True)
    with create_file(path) as stream:
        stream.write(data)


def run_keys(copy: Copy) -> tuple[dict[str, str], dict[str, str]]:
    """The keys of run records in the copy, each with the id of its run, and the keys of lists, each with its
    name: that is its sha256, or with encryption tells nothing."""
    records, lists = {}, {}
    for key in copy.objects.keys(f"{layout.RUNS}/"):
        path = key.removesuffix(copy.coding.suffix)
        name = path.rpartition("/")[2].removesuffix(".json")
        if copy.key(path) != key:
            continue
        if path == layout.run_list(name) and layout.is_sha256(name):
            lists[key] = name
        elif path == layout.run_record(name) and layout.is_run_id(name):
            records[key] = name
    return records, lists


def lists_of(record: bytes) -> set[str]:
    """The sha256 of the lists that a run record names."""
    value = loads(record)
    return {one for one in (value.get("looked_at"), value.get("checkpoint")) if layout.is_sha256(one)}


def list_fault(named: Collection[str], name: str | None) -> Callable[[bytes], str | None]:
    """What finds the fault in a list, which has the sha256 `name`; where that is not known, one of those that
    are `named` by run records."""

    def fault(data: bytes) -> str | None:
        digest = hashlib.sha256(data).hexdigest()
        if digest == name or (name is None and digest in named):
            return None
        return "it is not what its name says" if name is not None else "no run record names it"

    return fault


def record_fault(identifier: str) -> Callable[[bytes], str | None]:
    """What finds the fault in the record of a run."""

    def fault(data: bytes) -> str | None:
        with contextlib.suppress(NotCanonical):
            value = loads(data)
            if isinstance(value, dict) and value.get("id") == identifier:
                # Records of version 0.1 have no seal; the chain of records holds them.
                return seal_fault(data) if is_sealed(data) else None
        return "it is not the record of this run"

    return fault
