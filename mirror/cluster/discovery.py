"""Discoveries: one host lists, places what is new, and gives each shard its part.

Whether one is due is decided in the database, by its clock: whichever host asks first has it done. A host
that was stopped in the midst, and goes on after another took its job, finds that out before anything is
given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from procrastinate.jobs import Job
from procrastinate.manager import JobManager

from mirror.backup.listing import Listing
from mirror.cluster import parts
from mirror.cluster.connector import JobGone
from mirror.cluster.database import Connection, Database, DatabaseDown
from mirror.cluster.jobs import (
    BACKUP,
    DISCOVER,
    DISCOVER_QUEUE,
    HOOK_PRIORITY,
    backup_lock,
    defer,
    discover_lock,
)
from mirror.cluster.placement import Named, contested, place_all, place_workspaces
from mirror.cluster.shards import shards
from mirror.cluster.worker import Worker
from mirror.logs import get_logger
from mirror.model import Clock, JsonObject, Scope

# The discovery of repositories that hooks announce and no store holds: one in so many seconds.
NEW, NEW_SECONDS = "new", 300.0
# How long a stranger stays one.
_STRANGER = "1 day"
# Placing many repositories, and giving their lists, may take so many seconds.
_GIVING_SECONDS = 300.0
_RETRY_SECONDS = 2.0

# Lists a scope; the second argument are the repositories that are held: the workspace's uuid, the full name.
ListScope = Callable[[Scope, Sequence[tuple[str, str]]], Awaitable[Listing]]

_log = get_logger("cluster")


@dataclass(frozen=True)
class Due:
    """A job of the schedule: backups of a scope. `due_after` is when the next is due after one that was due
    then; None: never."""

    job: str
    scope: Scope
    due_after: Callable[[datetime], datetime | None]


async def note_due(database: Database, manager: JobManager, schedule: Sequence[Due]) -> dict[str, datetime]:
    """Have what is due discovered; returns when each job of the schedule is due next."""
    following: dict[str, datetime] = {}
    for one in schedule:
        async with database.transaction() as connection:
            when = await _note(connection, manager, one)
        if when is not None:
            following[one.job] = when
    return following


async def _note(connection: Connection, manager: JobManager, one: Due) -> datetime | None:
    await connection.execute(
        "INSERT INTO discoveries (job, due) VALUES (%s, '-infinity') ON CONFLICT DO NOTHING", [one.job]
    )
    rows = await connection.execute(
        "SELECT now(), due = '-infinity', CASE WHEN due = '-infinity' THEN now() ELSE due END"
        " FROM discoveries WHERE job = %s FOR UPDATE",
        [one.job],
    )
    row = await rows.fetchone()
    assert row is not None
    now, is_first, last = row
    following = now if is_first else one.due_after(min(last, now))
    if following is None or following > now:
        return following
    await connection.execute("UPDATE discoveries SET due = now() WHERE job = %s", [one.job])
    await put(connection, manager, one.job)
    return one.due_after(now)


async def put(connection: Connection, manager: JobManager, job: str, *, after: float = 0.0) -> None:
    """Have a discovery done by any host, within the caller's transaction."""
    await defer(
        manager, connection, queue=DISCOVER_QUEUE, task=DISCOVER, lock=discover_lock(job),
        arguments={"job": job}, after=after,
    )  # fmt: skip


async def announce_new(connection: Connection, manager: JobManager, uuid: str) -> None:
    """A hook announced a repository that no store holds: have it discovered, but for one that was found to be
    none of ours. Within the caller's transaction."""
    rows = await connection.execute(
        "SELECT 1 FROM repositories WHERE uuid = %s UNION ALL SELECT 1 FROM strangers"
        " WHERE uuid = %s AND is_stranger AND sought > now() - %s::interval",
        [uuid, uuid, _STRANGER],
    )
    if await rows.fetchone() is not None:
        return
    await connection.execute(
        "INSERT INTO strangers (uuid) VALUES (%s) ON CONFLICT (uuid) DO UPDATE SET is_stranger = false",
        [uuid],
    )
    rows = await connection.execute(
        "SELECT extract(epoch FROM due - now())::float8 FROM discoveries WHERE job = %s", [NEW]
    )
    row = await rows.fetchone()
    after = 0.0 if row is None else max(0.0, row[0] + NEW_SECONDS)
    if after == 0:
        await connection.execute(
            "INSERT INTO discoveries (job, due) VALUES (%s, now())"
            " ON CONFLICT (job) DO UPDATE SET due = now()",
            [NEW],
        )
    await put(connection, manager, NEW, after=after)


async def known_names(database: Database) -> list[tuple[str, str]]:
    """What the shards hold: the uuid of the workspace, and the full name."""
    async with database.session() as connection:
        rows = await connection.execute("SELECT workspace_uuid, full_name FROM repositories")
        return [(uuid, name) for uuid, name in await rows.fetchall()]


async def share_out(connection: Connection, listing: Listing, taking: Sequence[str]) -> dict[str, Listing]:
    """The part of each shard in what was listed; new repositories are placed. Within the caller's
    transaction."""
    found = listing.repositories()
    placed = await place_all(connection, [Named(uuid.lower(), home, name) for uuid, home, name in found])
    homes = await place_workspaces(connection, listing.workspaces(), taking)
    given = {}
    for shard in taking:
        mine = {uuid for uuid, _, _ in found if placed[uuid.lower()] == shard}
        own = {uuid for uuid, home in homes.items() if home == shard}
        given[shard] = listing.part(mine, own, await contested(connection, shard))
    return given


class Discoverer:
    """Does the discoveries that come to this host. `list_scope` lists what a scope has, with its errors."""

    def __init__(
        self,
        database: Database,
        manager: JobManager,
        worker: Worker,
        clock: Clock,
        *,
        list_scope: ListScope,
        scopes: Callable[[], Sequence[Scope]],
    ) -> None:
        self._database, self._manager, self._worker, self._clock = database, manager, worker, clock
        self._list, self._scopes = list_scope, scopes

    async def discover(self, job: Job) -> None:
        """Do a job of the queue of discoveries."""
        name = str(job.task_kwargs["job"])
        _log.info("cluster.discovering", job=name)
        if name == NEW:
            listings = [
                await self._list(scope, await known_names(self._database)) for scope in self._scopes()
            ]
            await self._when_it_can(job, lambda connection: self._give_new(connection, listings))
        else:
            asked = await self._now()
            listing = await self._list(Scope.of_job(name)[1], await known_names(self._database))
            listing = replace(listing, asked=asked)
            await self._when_it_can(job, lambda connection: self._give(connection, name, listing))

    async def _now(self) -> str:
        """The time, by the database's clock."""
        async with self._database.session() as connection:
            row = await (await connection.execute("SELECT now()::text")).fetchone()
        assert row is not None
        return str(row[0])

    async def _when_it_can(self, job: Job, give: Callable[[Connection], Awaitable[None]]) -> None:
        """Give what was found, once the database can be reached. Raises JobGone where the job is not ours any
        more."""
        while True:
            try:
                async with self._database.transaction(seconds=_GIVING_SECONDS) as connection:
                    await connection.execute("SET LOCAL statement_timeout = '280s'")
                    if not await self._is_ours(connection, job):
                        _log.warning("cluster.discovery_left", job=job.task_kwargs["job"])
                        raise JobGone("another host has this discovery now")
                    await give(connection)
            except DatabaseDown:
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                return

    async def _is_ours(self, connection: Connection, job: Job) -> bool:
        rows = await connection.execute(
            "SELECT worker_id FROM procrastinate_jobs WHERE id = %s AND status = 'doing' FOR UPDATE", [job.id]
        )
        row = await rows.fetchone()
        return row is not None and row[0] is not None and row[0] == self._worker.id

    async def _give(self, connection: Connection, job: str, listing: Listing) -> None:
        taking = [one.name for one in await shards(connection) if one.retired is None]
        for shard, part in (await share_out(connection, listing, taking)).items():
            size = sum(len(each.found.repositories) for each in part.each() if each.found is not None)
            await parts.give(
                connection, self._manager, shard=shard, job=job, listed=part.to_json(), size=size
            )
        _log.info("cluster.discovered", job=job, repositories=len(listing.repositories()), shards=len(taking))

    async def _give_new(self, connection: Connection, listings: Sequence[Listing]) -> None:
        await connection.execute(
            "INSERT INTO discoveries (job, due) VALUES (%s, now())"
            " ON CONFLICT (job) DO UPDATE SET due = now()",
            [NEW],
        )
        found = {one[0].lower(): one for listing in listings for one in listing.repositories()}
        rows = await connection.execute("SELECT uuid FROM strangers WHERE NOT is_stranger")
        wanted = {row[0] for row in await rows.fetchall()}
        ours = [Named(uuid, *found[uuid][1:]) for uuid in sorted(wanted & found.keys())]
        for uuid, shard in (await place_all(connection, ours)).items():
            if shard is not None:
                arguments: JsonObject = {
                    "uuid": found[uuid][0], "git_only": False, "is_news": True, "host": ""
                }  # fmt: skip
                await defer(
                    self._manager, connection, queue=shard, task=BACKUP, lock=backup_lock(uuid),
                    arguments=arguments, priority=HOOK_PRIORITY,
                )  # fmt: skip
        await connection.execute("DELETE FROM strangers WHERE uuid = ANY (%s)", [list(wanted & found.keys())])
        if all(one.is_whole for one in listings):
            await connection.execute(
                "UPDATE strangers SET is_stranger = true, sought = now() WHERE uuid = ANY (%s)",
                [list(wanted - found.keys())],
            )
