"""The folder of a repository leaves a store, or comes into one: checked, recorded, and never at two places.

Each step may be killed; the same call again finishes it. Before a folder is here, another store has put its
own away, so that at any time one store at most writes it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mirror import __version__, verify
from mirror.errors import DamageFound, Locked, MirrorError, UsageError
from mirror.logs import get_logger
from mirror.model import Clock, JsonObject, Outcome, Run, RunEntry, Selector, Workspace
from mirror.store.format.layout import SMALL_FILES
from mirror.store.reading.reader import RepositoryFolder, Store, WorkspaceFolder, current_workspace
from mirror.store.writing.moving import (
    bring_back,
    bring_in,
    content_mark,
    prepare,
    put_away,
    quarantined,
    sync_tree,
    uuid_of_folder,
    waiting_place,
)
from mirror.store.writing.writer import RepositoryWriter, StoreWriter, open_store

_log = get_logger("cluster")
# How often a folder is sent again because a backup changed it meanwhile.
_TRIES = 5


async def depart(
    store_path: Path,
    uuid: str,
    *,
    to: str,
    send: Callable[[RepositoryFolder], Awaitable[None]],
    clock: Clock,
    lock_wait: float = 0.0,
) -> Run | None:
    """Send the folder of the repository `uuid` away, then put it into the quarantine; returns the run.

    `send` brings what the folder has to the copy; it is called again where a backup changed the folder
    meanwhile. `to` names the shard that gets it. None where this store has no such folder (any more). Raises
    Locked, and what `send` raises: then the folder stays, and is backed up as before.
    """
    with open_store(store_path, command="mirror cluster move") as store:
        folder = store.reader.folder_of_repository(uuid)
        if folder is None:
            return None
        started = clock.now()
        writer = store.writer_of(folder)
        assert isinstance(writer, RepositoryWriter)
        for _ in range(_TRIES):
            before = content_mark(folder.root / folder.place)
            if not _is_recorded_as_gone(store.reader, folder):
                await send(folder)
            async with writer.lock(lock_wait, clock):
                if content_mark(folder.root / folder.place) != before:
                    continue
                return _leave(store, folder, to, started, clock)
        raise Locked(
            f"{folder.full_name} is backed up again and again while it is sent",
            hint="try again later; it stays here meanwhile",
        )


def _is_recorded_as_gone(store: Store, folder: RepositoryFolder) -> bool:
    """Whether an earlier try was killed after it recorded that the folder leaves."""
    if store.history().find("repository", folder.uuid) is not None:
        return False
    return _departure(store, folder.uuid) is not None


async def put_aside(store_path: Path, uuid: str, *, to: str, clock: Clock) -> Run | None:
    """Put the folder of the repository `uuid` into the quarantine, because the shard `to` has its own.

    Returns the run; None where this store has no such folder. Raises Locked."""
    with open_store(store_path, command="mirror daemon") as store:
        folder = store.reader.folder_of_repository(uuid)
        if folder is None:
            return None
        started = clock.now()
        async with store.writer_of(folder).lock(0.0, clock):
            return _leave(store, folder, to, started, clock)


def _leave(store: StoreWriter, folder: RepositoryFolder, to: str, started: datetime, clock: Clock) -> Run:
    """Record that the folder leaves, and put it away. What is recorded brings it back, if need be."""
    history = store.reader.history().find("repository", folder.uuid)
    facts: dict[str, Any] = {"to": to, "mark": content_mark(folder.root / folder.place)}
    if history is not None:
        facts["history"] = history.to_json()
    entry = RunEntry("repository", folder.full_name, folder.uuid, folder.place, Outcome.DEPARTED, facts=facts)
    run = _run(store, entry, started, clock)
    store.write_run(run)
    place = put_away(folder)
    store.rebuild_index(clock.now())
    _log.info("cluster.departed", repository=folder.full_name, quarantine=place, to=to)
    return run


async def come_back(store_path: Path, uuid: str, *, origin: str, clock: Clock) -> Run | None:
    """Take the folder of the repository `uuid`, which left and never arrived at `origin`, out of the
    quarantine again, as it was when it left; returns the run.

    None where the folder never left, is back, or never was (`never_had`). Raises MirrorError where it is not
    in the quarantine.
    """
    with open_store(store_path, command="mirror cluster move") as store:
        started = clock.now()
        known = store.reader.folder_of_repository(uuid)
        left = _departure(store.reader, uuid)
        if known is not None and (left is None or store.reader.history().find("repository", known.uuid)):
            return None
        if left is None and _never_had(store.reader, uuid):
            return None
        if left is None:
            raise MirrorError(f"no run record says that {uuid} left", hint=_BRING)
        if known is None:
            aside = [one for found, one in quarantined(store.reader) if found.lower() == uuid.lower()]
            same = [one for one in aside if content_mark(one) == left["facts"].get("mark")]
            if not same:
                raise MirrorError(f"{left['full_name']} is not in quarantine/ as it left", hint=_BRING)
            home = store.reader.workspace_at(str(left["folder"]).split("/")[1])
            known = bring_back(store.reader, home, same[0])
        run = _record_arrival(store, known, origin, left["facts"].get("history"), started, clock)
        _log.info("cluster.arrived", repository=known.full_name, folder=known.place, origin=origin)
        return run


def never_had(store_path: Path, uuid: str) -> bool:
    """Whether a store has nothing of the repository `uuid`, and never had: no backup of it ended well here.

    Raises what reading the store raises."""
    with Store.open(store_path) as store:
        return _never_had(store, uuid)


def _never_had(store: Store, uuid: str) -> bool:
    if store.folder_of_repository(uuid) is not None or _departure(store, uuid) is not None:
        return False
    if any(found.lower() == uuid.lower() for found, _ in quarantined(store)):
        return False
    known = [one for one in store.history().folders.values() if one.key[1].lower() == uuid.lower()]
    return all(one.snapshot is None for one in known)


_BRING = "bring its folder, from quarantine/ of a store or elsewhere: mirror cluster adopt FOLDER"


def _departure(store: Store, uuid: str) -> JsonObject | None:
    """The newest entry that says that a folder left; None where there is none, or it came back since."""
    for run in store.newest_runs():
        for entry in run.data["entries"] if run.kind == "move" else ():
            if entry["uuid"].lower() == uuid.lower():
                return entry if entry["outcome"] == Outcome.DEPARTED else None
    return None


async def arrive(
    store_path: Path,
    waiting: Path,
    uuid: str,
    *,
    origin: str,
    clock: Clock,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Run | None:
    """Bring the repository `uuid` from the small store at `waiting`, on the same disk, into the store.

    Every object of it is verified first. `origin` names where it comes from. None where an earlier try, which
    was killed, did all of it. Raises DamageFound where anything is wrong with it, and UsageError where the
    store has another folder of it.
    """
    started = clock.now()
    with Store.open(waiting) as source:
        history = source.history().find("repository", uuid)
        owner, arriving = _found(source, uuid)
    with open_store(store_path, command="mirror cluster") as store:
        known = store.reader.folder_of_repository(uuid)
        if known is None:
            if arriving is None:
                raise MirrorError(f"{waiting} has no repository {uuid}", hint="fetch it again")
            await _check(waiting, arriving, clock, workers, environment)
            await asyncio.to_thread(sync_tree, arriving.root / arriving.place)
            known = bring_in(store.reader, _home(store, owner, clock), arriving)
        elif arriving is not None:
            raise UsageError(f"{known.full_name} is in this store already: {known.place}")
        elif store.reader.history().find("repository", uuid) is not None:
            shutil.rmtree(waiting)
            return None
        past = history.to_json() if history is not None else None
        run = _record_arrival(store, known, origin, past, started, clock)
        shutil.rmtree(waiting)
        _log.info("cluster.arrived", repository=known.full_name, folder=known.place, origin=origin)
        return run


def _record_arrival(
    store: StoreWriter,
    known: RepositoryFolder,
    origin: str,
    history: JsonObject | None,
    started: datetime,
    clock: Clock,
) -> Run:
    """Record that a folder is here now, with the history that it had where it comes from."""
    ledger = known.ledger()
    facts: dict[str, Any] = {"from": origin, "files": [one for one in SMALL_FILES if known.has(one)]}
    if history is not None:
        facts["history"] = history
    entry = RunEntry(
        "repository", known.full_name, known.uuid, known.place, Outcome.ARRIVED,
        snapshot=ledger.latest.id if ledger is not None and ledger.latest is not None else None,
        ledger=ledger.sha256 if ledger is not None else None, facts=facts,
    )  # fmt: skip
    run = _run(store, entry, started, clock)
    store.write_run(run)
    store.rebuild_index(clock.now())
    return run


async def adopt(
    store_path: Path, folder: Path, *, clock: Clock, environment: Mapping[str, str] | None = None
) -> Run | None:
    """Take a repository's folder, which somebody brought here, into the store. The folder itself stays.

    None where an earlier try did all of it. Raises UsageError where it is none, or where the store has that
    repository already, and DamageFound.
    """
    uuid = uuid_of_folder(folder)
    with Store.open(store_path) as store:
        waiting = waiting_place(store.path, uuid)
        known = store.folder_of_repository(uuid)
        if known is None:
            waiting = await asyncio.to_thread(prepare, store, folder, clock)
        elif not waiting.exists():
            raise UsageError(f"{known.full_name} is in this store already: {known.place}")
    return await arrive(store_path, waiting, uuid, origin="a folder", clock=clock, environment=environment)


def _found(source: Store, uuid: str) -> tuple[WorkspaceFolder | None, RepositoryFolder | None]:
    arriving = source.folder_of_repository(uuid)
    if arriving is None:
        return None, None
    return current_workspace(arriving, source.workspaces(on_damage=lambda _: None)), arriving


def _home(store: StoreWriter, owner: WorkspaceFolder | None, clock: Clock) -> WorkspaceFolder:
    """The folder here of the workspace that a repository belongs to, made where there is none."""
    if owner is None:
        raise DamageFound("the workspace of the repository cannot be read in what was brought")
    known = store.reader.folder_of_workspace(owner.uuid)
    if known is not None:
        return known
    return store.adopt_workspace(Workspace(owner.uuid, owner.slug, owner.record.name), clock.now()).folder


async def _check(
    waiting: Path,
    arriving: RepositoryFolder,
    clock: Clock,
    workers: int,
    environment: Mapping[str, str] | None,
) -> None:
    """Verify every object of what arrives. Raises DamageFound."""
    selector = Selector(arriving.workspace_folder, arriving.folder)
    run = await verify.run(waiting, [selector], clock=clock, workers=workers, environment=environment)
    if run.problems:
        damage = [one for one in run.facts["findings"] if one["severity"] == "damage"]
        raise DamageFound(
            f"{arriving.full_name} is not taken, because it is damaged: {damage[0]['file']}:"
            f" {damage[0]['problem']}" + (f"; and {len(damage) - 1} more" if len(damage) > 1 else ""),
            hint="it stays where it was; bring another copy of it",
        )


def _run(store: StoreWriter, entry: RunEntry, started: datetime, clock: Clock) -> Run:
    return Run(
        store.new_run_id(started), "move", started, clock.now(), __version__,
        (entry,), facts={"selectors": [entry.full_name]},
    )  # fmt: skip
