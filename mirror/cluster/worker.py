"""Does the jobs of this host's queues, and goes on doing them while the database is away.

procrastinate's own worker ends with its first lost connection, and takes its jobs along. A backup of hours
need not end because PostgreSQL was restarted: here jobs are tasks of their own, and what is to be told of
them waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from mirror.cluster import reaper
from mirror.cluster.connector import JobGone
from mirror.cluster.database import Database, DatabaseDown, mapped
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock

# A queue is looked at so often, in seconds, where no notice came: a job may have waited for its time.
POLL_SECONDS = 2.0
# Where procrastinate tells of new jobs.
_CHANNEL = "procrastinate_any_queue_v1"
# How long, in seconds, the end of the worker waits for the database.
STOP_SECONDS = 10.0

_log = get_logger("cluster")


@dataclass(frozen=True)
class Lane:
    """A queue, how many of its jobs are done side by side, and what does one. It is cancelled at the end of
    the process; its job is put back then."""

    queue: str
    slots: int
    work: Callable[[Job], Awaitable[None]]


class Worker:
    """Does the jobs of some lanes. The first lane is this process's alone."""

    def __init__(self, database: Database, manager: JobManager, lanes: Sequence[Lane], clock: Clock) -> None:
        self._database, self._manager, self._lanes, self._clock = database, manager, lanes, clock
        self.id: int | None = None
        self._ids: set[int] = set()
        self._tasks: dict[int, tuple[Lane, asyncio.Task[None]]] = {}
        # Jobs that ended and of which the database does not know it yet; False: to be put back.
        self._ended: dict[int, bool] = {}
        self._wake = asyncio.Event()

    @property
    def running(self) -> set[int]:
        """The jobs that are being done, or of whose end the database does not know."""
        return {*self._tasks, *self._ended}

    def wake(self) -> None:
        """Look for jobs now."""
        self._wake.set()

    async def register(self) -> None:
        """Begin anew with the database: what this process does is its own again, what it does not do is put
        back."""
        self.id = await self._manager.register_worker()
        async with self._database.session() as connection:
            await connection.execute(
                "UPDATE procrastinate_jobs SET worker_id = %s WHERE id = ANY (%s) AND status = 'doing'",
                [self.id, list(self.running)],
            )
        await reaper.reap_own(self._database, self._lanes[0].queue, self.running, self._ids)
        for old in self._ids:
            await self._manager.unregister_worker(old)
        self._ids = {self.id}

    async def beat(self) -> None:
        """Report that this process lives, and put back the jobs of those that do not."""
        assert self.id is not None
        await self._manager.update_heartbeat(self.id)
        await reaper.reap(self._database, self._manager)

    async def fetch(self) -> None:
        """Do jobs as they come, until the database is away: raises what it raises."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._fetch())

    async def _listen(self) -> None:
        connection = await self._database.connect()
        try:
            with mapped():
                await connection.execute(f"LISTEN {_CHANNEL}")
                self._wake.set()
                while True:
                    async for _ in connection.notifies(timeout=10.0):
                        self._wake.set()
                    async with asyncio.timeout(10.0):
                        await connection.execute("SELECT 1")
        finally:
            await connection.close()

    async def _fetch(self) -> None:
        while True:
            self._wake.clear()
            await self._tell()
            for lane in self._lanes:
                await self._fill(lane)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()

    async def _fill(self, lane: Lane) -> None:
        assert self.id is not None
        while sum(one is lane for one, _ in self._tasks.values()) < lane.slots:
            try:
                job = await self._manager.fetch_job([lane.queue], self.id)
            except UniqueViolation:
                return  # another host began a job with the same lock at the same moment
            if job is None or job.id is None:
                return
            if job.id not in self._tasks:  # else it was put back while this process could not be heard
                self._ended.pop(job.id, None)
                self._tasks[job.id] = lane, asyncio.ensure_future(self._do(lane, job, job.id))

    async def _do(self, lane: Lane, job: Job, number: int) -> None:
        is_done: bool | None = True
        try:
            await lane.work(job)
        except asyncio.CancelledError:
            is_done = False
            raise
        except JobGone:
            is_done = None  # it is somebody else's by now, and theirs to end
        except DatabaseDown as error:
            is_done = False  # to be done once the database is back
            _log.info("cluster.job_waits", task=job.task_name, job=number, reason=error.message)
        except Exception:  # noqa: BLE001 - a service survives unexpected errors, and logs them
            _log.exception("cluster.job_failed", task=job.task_name, job=number)
        finally:
            del self._tasks[number]
            if is_done is not None:
                self._ended[number] = is_done
            self._wake.set()

    async def _tell(self) -> None:
        """Tell the database what ended."""
        for job, is_done in list(self._ended.items()):
            if is_done:
                with suppress(JobGone):  # it was put back, and a sibling joined it
                    await self._manager.finish_job_by_id_async(job, Status.SUCCEEDED, delete_job=True)
            else:
                await reaper.put_back(self._database, [job])
            self._ended.pop(job, None)

    async def stop(self) -> None:
        """Cancel what is being done, and put it back."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._tell()
                for one in self._ids:
                    await self._manager.unregister_worker(one)
        except (MirrorError, TimeoutError) as error:  # the next start puts them back
            _log.info("cluster.not_told", reason=str(error))
