"""The queue of jobs that hooks cause, in the database (the port `Queue`).

A hook may arrive at any host: its job goes to the shard that holds the repository. What no shard holds yet
starts a discovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from procrastinate.manager import JobManager

from mirror.cluster.database import Connection, Database, DatabaseDown
from mirror.cluster.discovery import announce_new
from mirror.cluster.jobs import BACKUP, HOOK_PRIORITY, backup_lock, defer
from mirror.cluster.placement import owner_of
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock
from mirror.model.queue import Job, Queue, Work

# While the database is away, so many jobs wait here; more are dropped: the schedule finds what they
# announced.
WAITING_MAX = 10_000
RETRY_SECONDS = 2.0

_log = get_logger("cluster")


class ClusterQueue:
    """Takes the jobs of this host's hooks, and does those of its `shard`. `local` does what is not about one
    repository; `wake` has the worker look for jobs."""

    def __init__(
        self,
        database: Database,
        manager: JobManager,
        clock: Clock,
        *,
        shard: str,
        work: Work,
        local: Queue,
        wake: Callable[[], None],
    ) -> None:
        self._database, self._manager, self._clock = database, manager, clock
        self._shard, self._work, self._local, self._wake = shard, work, local, wake
        # Jobs that the database does not have yet, each with the time (monotonic) at which it is due.
        self._waiting: dict[tuple[str, str], tuple[Job, float]] = {}
        self._sending: asyncio.Task[None] | None = None
        self._is_stopped = False

    def put(self, job: Job, *, after: float) -> None:
        """See `Queue.put`."""
        if job.kind != "backup":
            self._local.put(job, after=after)
            return
        if self._is_stopped:
            return
        due = self._clock.monotonic() + after
        before = self._waiting.get(job.key)
        if before is not None:
            self._waiting[job.key] = before[0].joined(job), min(before[1], due)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting[job.key] = job, due
        else:
            _log.warning("cluster.hook_dropped", repository=job.subject)
            return
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        """Give the database what waits here, as soon as it takes it."""
        while self._waiting:
            key = next(iter(self._waiting))
            job, due = self._waiting[key]
            after = max(0.0, due - self._clock.monotonic())
            try:
                async with self._database.transaction() as connection:
                    await self._defer(connection, job, after)
            except DatabaseDown:
                await self._clock.sleep(RETRY_SECONDS)
                continue
            except MirrorError as error:
                _log.warning("cluster.hook_dropped", repository=job.subject, reason=error.message)
            if self._waiting.get(key) == (job, due):
                del self._waiting[key]
            asyncio.get_running_loop().call_later(after, self._wake)

    async def _defer(self, connection: Connection, job: Job, after: float) -> None:
        uuid = job.subject.lower()
        shard = await owner_of(connection, uuid)
        if shard is None:
            await announce_new(connection, self._manager, uuid)
            return
        lock = backup_lock(uuid)
        arguments = {
            "uuid": job.subject, "git_only": job.git_only, "is_news": job.is_news, "host": self._shard
        }  # fmt: skip
        is_new = await defer(
            self._manager, connection, queue=shard, task=BACKUP, lock=lock, arguments=arguments, after=after,
            priority=HOOK_PRIORITY,
        )  # fmt: skip
        if not is_new:
            await connection.execute(
                "UPDATE procrastinate_jobs SET args = args || jsonb_build_object("
                "'git_only', (args->>'git_only')::boolean AND %s,"
                "'is_news', (args->>'is_news')::boolean OR %s,"
                "'host', CASE WHEN args->>'host' = %s THEN %s ELSE '' END)"
                " WHERE queueing_lock = %s AND status = 'todo'",
                [job.git_only, job.is_news, self._shard, self._shard, lock],
            )

    async def work(self, arguments: dict[str, Any]) -> None:
        """Do a job of this shard's queue. One whose repository is another's by now goes there."""
        job = Job(
            "backup", arguments["uuid"], arguments["git_only"], arguments["is_news"],
            is_foreign=arguments["host"] != self._shard,
        )  # fmt: skip
        async with self._database.session() as connection:
            owner = await owner_of(connection, job.subject.lower())
        if owner == self._shard:
            await self._work(job)
        elif owner is not None:
            self.put(job, after=0.0)

    async def stop(self) -> None:
        """See `Queue.stop`. What the database has stays there."""
        self._is_stopped = True
        await self._local.stop()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
