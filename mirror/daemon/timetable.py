"""When each job runs: the schedule, kept by APScheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from mirror.config import After, Config
from mirror.daemon.jobs import Kind
from mirror.daemon.schedule import jobs_of
from mirror.daemon.state import State
from mirror.logs import get_logger
from mirror.model import Scope

_log = get_logger("daemon")

# How often the service looks, in minutes, for what is overdue, and for notices that must be repeated.
LOOK_MINUTES = 10
# The id of that job beside those of the schedule.
_LOOK = "notices"


class Timetable:
    """Calls `due` each time a job is due, and `look` every ten minutes.

    In a cluster, backups are due as the cluster says: `elsewhere` are the times.
    """

    def __init__(
        self,
        config: Config,
        due: Callable[[Kind, Scope], None],
        look: Callable[[], None],
        elsewhere: Callable[[], Mapping[str, datetime]] = dict,
    ) -> None:
        self._due, self._look, self._elsewhere = due, look, elsewhere
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self.jobs = jobs_of(config)

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def plan(self, config: Config, state: State, now: datetime) -> None:
        """Follow the schedule of this configuration from now on; what is overdue runs at once."""
        self._scheduler.remove_all_jobs()
        self.jobs = jobs_of(config, state.store_id)
        is_backed_up = any(job.kind == "backup" for job in self.jobs)
        for job in self.jobs:
            if job.kind == "backup" and config.cluster is not None:
                continue
            last = state.last_began(job.kind, job.scope)
            first = job.first_run(now, last)
            if isinstance(job.trigger, After):
                first = now if state.has_ended_since(job.trigger.kind, last) else None
            elif job.kind != "backup" and last is None and is_backed_up:
                first = job.due_after(now)  # a new store has nothing to verify, prune or rehearse yet
            if first is not None:
                self._add(job.scheduler_trigger(first), first, job.name, self._due, job.kind, job.scope)
        self._add(
            IntervalTrigger(minutes=LOOK_MINUTES, start_date=now, timezone="UTC"), now, _LOOK, self._look
        )

    def _add(
        self, trigger: BaseTrigger, first: datetime, name: str, call: Callable[..., None], *arguments: object
    ) -> None:
        self._scheduler.add_job(
            _call,
            trigger,
            args=[call, *arguments],
            id=name,
            next_run_time=first,
            coalesce=True,
            misfire_grace_time=None,
        )

    def wake(self) -> None:
        """Look at the clock now: the scheduler's own timer stands still while the machine sleeps, and knows
        nothing of a clock that was set."""
        if self._scheduler.running:
            self._scheduler.wakeup()

    def next_times(self) -> dict[str, datetime]:
        """When each job is due next, by its name."""
        jobs: list[Any] = self._scheduler.get_jobs()
        own = {job.id: job.next_run_time for job in jobs if job.id != _LOOK and job.next_run_time}
        return {**self._elsewhere(), **own}

    def pause(self) -> None:
        """Call nothing more."""
        if self._scheduler.running:
            self._scheduler.pause()

    def shutdown(self) -> None:
        """End the scheduler."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)


async def _call(function: Callable[..., None], *arguments: object) -> None:
    """APScheduler calls plain functions in a thread, and coroutines in the event loop."""
    try:
        function(*arguments)
    except Exception:  # noqa: BLE001 - a service survives unexpected errors, and logs them
        _log.exception("daemon.failed")
