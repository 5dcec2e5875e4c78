"""When each job runs: the schedule, kept by APScheduler."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from mirror.config import Config
from mirror.daemon.jobs import Kind
from mirror.daemon.schedule import first_run, make_trigger, triggers
from mirror.daemon.state import State

# How often the service looks, in minutes, for what is overdue, and for notices that must be repeated.
LOOK_MINUTES = 10
# The id of that job beside those of the schedule.
_LOOK = "notices"


class Timetable:
    """Calls `due` each time a job is due, and `look` every ten minutes."""

    def __init__(self, due: Callable[[Kind], None], look: Callable[[], None]) -> None:
        self._due, self._look = due, look
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def plan(self, config: Config, state: State, now: datetime) -> None:
        """Follow the schedule of this configuration from now on; what is overdue runs at once."""
        self._scheduler.remove_all_jobs()
        schedule = config.schedule
        for kind, trigger in triggers(config):
            if trigger is None:
                continue
            last = state.began.get(kind)
            first = first_run(trigger, schedule.timezone, now=now, last=last)
            if kind != "backup" and last is None and schedule.backup is not None:
                first = None  # a new store has nothing to verify, prune or rehearse yet
            self._scheduler.add_job(
                _call,
                make_trigger(trigger, schedule.timezone, start=first or now),
                args=[self._due, kind],
                id=kind,
                coalesce=True,
                misfire_grace_time=None,
                **({"next_run_time": first} if first is not None else {}),
            )
        self._scheduler.add_job(
            _call, "interval", minutes=LOOK_MINUTES, args=[self._look], id=_LOOK, coalesce=True
        )

    def next_times(self) -> dict[Kind, datetime]:
        """When each job is due next."""
        jobs: list[Any] = self._scheduler.get_jobs()
        return {job.id: job.next_run_time for job in jobs if job.id != _LOOK and job.next_run_time}

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
    function(*arguments)
