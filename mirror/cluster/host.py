"""This host's place in the cluster, as its daemon keeps it.

It joins, reports, and does the jobs of its queues for as long as the database answers. Where it does not, the
daemon goes on with what it has, says why it is not ready, and joins again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from procrastinate.jobs import Job

from mirror.backup.listing import Listing
from mirror.cluster import parts, schema
from mirror.cluster.connector import manager_of
from mirror.cluster.database import Database, DatabaseDown
from mirror.cluster.discovery import Discoverer, Due, ListScope, note_due, put
from mirror.cluster.jobs import DISCOVER_QUEUE, PART
from mirror.cluster.leases import ClusterLeases
from mirror.cluster.placement import conflicts, contested, report_holdings
from mirror.cluster.queue import ClusterQueue
from mirror.cluster.shards import CalledDead, Me, Membership
from mirror.cluster.stores import held_by
from mirror.cluster.worker import Lane, Worker
from mirror.config import Config
from mirror.errors import CredentialRefused, MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, Run, Scope
from mirror.model.queue import Queue, Work

# How often, in seconds, this host reports that it lives.
BEAT_SECONDS = 10.0
# How long, in seconds, it stays away after a failure: doubled each time, up to the last.
RETRY_FIRST, RETRY_LAST = 1.0, 15.0
# So many jobs of this shard are begun side by side; most of them wait for each other.
SLOTS, DISCOVERIES = 64, 2
# A part that waited for longer, in seconds, is not worth doing: everything may have another name by now.
STALE_SECONDS = 86400.0

_log = get_logger("cluster")


async def _nothing() -> None:
    """There is nothing to be done between."""


@dataclass(frozen=True)
class Doings:
    """What the daemon does for the cluster. `run_part` backs up a shard's part of a list; None: it could not
    begin. `list_scope` lists a scope. `schedule` is that of the configuration in force. `on_change` is called
    when the host joins or is cut off. `contact` does what is to be done between, `put_aside` what is to be
    done where this shard was called dead."""

    run_part: Callable[[Scope, Listing], Awaitable[Run | None]]
    list_scope: ListScope
    schedule: Callable[[], Sequence[Due]]
    on_change: Callable[[], None]
    contact: Callable[[], Awaitable[None]] = _nothing
    put_aside: Callable[[], Awaitable[None]] = _nothing


class Host:
    """Takes part in the cluster of a configuration. `trouble` is why it does not, at the moment; `next_times`
    are when the schedule's discoveries are due."""

    def __init__(
        self,
        config: Config,
        me: Me,
        doings: Doings,
        *,
        database: Database,
        leases: ClusterLeases,
        clock: Clock,
    ) -> None:
        self.trouble: str | None = "it has not joined the cluster yet"
        self.next_times: dict[str, datetime] = {}
        self.leases = leases
        self._config, self._doings, self._clock = config, doings, clock
        self._database = database
        self._manager = manager_of(self._database)
        self._membership = Membership(self._database, me, clock)
        self._queue: ClusterQueue | None = None
        lanes = [Lane(me.name, SLOTS, self._work), Lane(DISCOVER_QUEUE, DISCOVERIES, self._discover)]
        self._worker = Worker(self._database, self._manager, lanes, clock)
        self._discoverer = Discoverer(
            self._database, self._manager, self._worker, clock,
            list_scope=doings.list_scope, scopes=lambda: [one.scope for one in doings.schedule()],
        )  # fmt: skip
        self._serving: asyncio.Task[None] | None = None
        self._conflicts: list[tuple[str, list[str]]] = []

    def queue_of(self, work: Work, local: Queue) -> Queue:
        """The queue of this host's hooks; `local` does what concerns this host alone."""
        self._queue = ClusterQueue(
            self._database, self._manager, self._clock, shard=self._membership.me.name, work=work,
            local=local, wake=self._worker.wake,
        )  # fmt: skip
        return self._queue

    def use(self, config: Config, me: Me) -> None:
        """From now on, do as this configuration says. Its cluster is the same."""
        self._config = config
        self._membership.me = me

    async def start(self) -> None:
        """Join the cluster, and take part from now on, in a task of its own. Raises Locked where another
        daemon is this shard, UsageError where the database is not for this host, and CredentialRefused. A
        database that cannot be reached is no error: it is waited for."""
        try:
            await self._join()
        except DatabaseDown as error:
            self._cut_off(error)
        self._serving = asyncio.ensure_future(self._serve())

    async def stop(self) -> None:
        """Leave: what is being done is put back."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._worker.stop()
        await self._membership.leave()
        await self.leases.finish()
        await self._database.close()

    async def _join(self, *, wait: float | None = None) -> None:
        async with self._database.session() as connection:
            await schema.check(connection)
        if not self._membership.is_held:
            try:
                await self._membership.join(wait=wait)
            except CalledDead:
                await self._doings.put_aside()
                raise
        await self._worker.register()
        await self._membership.beat(self._worker.id)
        await self._report()
        self.next_times = await note_due(self._database, self._manager, self._doings.schedule())
        if self.trouble is not None:
            self.trouble = None
            _log.info("cluster.joined", shard=self._membership.me.name)
            self._doings.on_change()

    async def _serve(self) -> None:
        """Take part until the end, however often the database is away."""
        retry = RETRY_FIRST
        while True:
            try:
                if self.trouble is not None:
                    await self._join(wait=0)
                retry = RETRY_FIRST
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._worker.fetch())
                    group.create_task(self._beat())
                    group.create_task(self._tend())
            except Exception as error:  # noqa: BLE001 - a service survives unexpected errors, and logs them
                self._cut_off(error)
            await self._clock.sleep(retry)
            retry = min(2 * retry, RETRY_LAST)

    def _cut_off(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, MirrorError):
            reason = error.message
        else:
            _log.error("cluster.failed", exc_info=error)
            reason = f"{type(error).__name__}: {error}"
        if self.trouble != reason:
            _log.warning("cluster.cut_off", shard=self._membership.me.name, reason=reason)
        self.trouble = reason
        self._doings.on_change()

    async def _tend(self) -> None:
        while True:
            await self._doings.contact()
            await self._clock.sleep(BEAT_SECONDS)

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(BEAT_SECONDS)
            await self._membership.beat(self._worker.id)
            await self._worker.beat()
            self.next_times = await note_due(self._database, self._manager, self._doings.schedule())

    async def _report(self) -> None:
        """Report what this store holds, and say which repositories another store holds too."""
        held = await asyncio.to_thread(held_by, self._config)
        async with self._database.transaction(seconds=120) as connection:
            await report_holdings(connection, self._membership.me.name, held)
            found = [one for one in await conflicts(connection) if self._membership.me.name in one[1]]
        for uuid, shards in found:
            if (uuid, shards) not in self._conflicts:
                name = next((one.full_name for one in held if one.uuid == uuid), uuid)
                hint = "nothing is written to either; keep one of the two folders, and move the other away"
                _log.error("cluster.two_folders", repository=name, uuid=uuid, shards=shards, hint=hint)
        self._conflicts = found

    async def _report_if_readable(self) -> None:
        try:
            await self._report()
        except DatabaseDown:
            raise
        except (MirrorError, OSError) as error:
            _log.error("cluster.not_reported", reason=str(error))

    async def _work(self, job: Job) -> None:
        if job.task_name == PART:
            await self._part(str(job.task_kwargs["job"]))
        elif self._queue is not None:
            await self._queue.work(job.task_kwargs)

    async def _discover(self, job: Job) -> None:
        await self._discoverer.discover(job)

    async def _part(self, job: str) -> None:
        """Back up this shard's part of a list."""
        async with self._database.transaction() as connection:
            part = await parts.take(connection, self._membership.me.name, job)
            if part is not None and part.age > STALE_SECONDS:
                _log.warning("cluster.part_too_old", job=job, hours=int(part.age / 3600))
                await parts.end(connection, part, None)
                await put(connection, self._manager, job)
                part = None
            contested_now = await contested(connection, self._membership.me.name)
        if part is None:
            return
        listing = Listing.from_json(part.listed)
        # It may have waited for long behind another.
        listing = replace(listing, younger=part.younger, contested={**listing.contested, **contested_now})
        await self._end(part, await self._doings.run_part(Scope.of_job(job)[1], listing))

    async def _end(self, part: parts.Part, run: Run | None) -> None:
        """Tell that a part has ended, once the database takes it, and what this store holds now. Others wait
        for that end, so it is told also where the store cannot be read."""
        while True:
            try:
                await self._report_if_readable()
                async with self._database.transaction() as connection:
                    await parts.end(connection, part, run)
            except (DatabaseDown, CredentialRefused):  # whose password may be changed meanwhile
                await self._clock.sleep(RETRY_LAST)
            else:
                return
