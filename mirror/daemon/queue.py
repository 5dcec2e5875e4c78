"""The queue within this process: one job runs and one waits for each subject."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from mirror.logs import get_logger
from mirror.model import Clock
from mirror.model.queue import Job, Work

_log = get_logger("daemon")


@dataclass
class _Place:
    """The place of one key: the job that waits, when (monotonic) it may begin, and the task that serves it.
    `sooner` is set when that time moves forward."""

    waiting: Job | None
    due: float
    task: asyncio.Task[None] | None = None
    sooner: asyncio.Event = field(default_factory=asyncio.Event)


class LocalQueue:
    """The queue within this process. `work` does a job, and logs what goes wrong. Jobs of different keys run
    side by side, those of one `turn` one after the other; what becomes due while a job waits for its turn
    joins it. How many run at a time is else for `work` to say, which knows what each waits for."""

    def __init__(
        self,
        work: Work,
        clock: Clock,
        turn: Callable[[Job], AbstractAsyncContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self._work = work
        self._clock = clock
        self._turn = turn
        self._places: dict[tuple[str, str], _Place] = {}
        self._is_stopped = False

    def put(self, job: Job, *, after: float) -> None:
        """See `Queue.put`."""
        if self._is_stopped:
            return
        due = self._clock.monotonic() + after
        place = self._places.get(job.key)
        if place is None:
            place = self._places[job.key] = _Place(job, due)
            place.task = asyncio.ensure_future(self._serve(job.key, place))
            return
        if place.waiting is None:
            place.waiting, place.due = job, due
            return
        place.waiting = place.waiting.joined(job)
        if due < place.due:
            place.due = due
            place.sooner.set()

    def __len__(self) -> int:
        """How many keys have a job that runs or waits."""
        return len(self._places)

    async def stop(self) -> None:
        """See `Queue.stop`."""
        self._is_stopped = True
        tasks = [place.task for place in self._places.values() if place.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._places.clear()

    async def _serve(self, key: tuple[str, str], place: _Place) -> None:
        """Do the jobs of one key, one after the other, until none waits."""
        while place.waiting is not None:
            await self._wait(place)
            async with self._turn(place.waiting):
                job, place.waiting = place.waiting, None
                try:
                    await self._work(job)
                except Exception:  # noqa: BLE001 - a service survives unexpected errors, and logs them
                    _log.exception("daemon.job_failed", kind=job.kind, subject=job.subject)
        del self._places[key]

    async def _wait(self, place: _Place) -> None:
        """Wait until the job of this place is due."""
        while (left := place.due - self._clock.monotonic()) > 0:
            place.sooner.clear()
            waits = {
                asyncio.ensure_future(self._clock.sleep(left)),
                asyncio.ensure_future(place.sooner.wait()),
            }
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waits:
                    one.cancel()
