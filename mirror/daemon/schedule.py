"""The jobs of the schedule, and when each is due."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from mirror.config import After, Config, Every, Schedule, Trigger
from mirror.config.crontab import Crontab, parse
from mirror.config.settings import shortest_interval
from mirror.daemon.jobs import KINDS, Kind
from mirror.model import Scope

# The jitter where the configuration has none: this share of the interval, and no more than this.
JITTER_SHARE = 0.05
JITTER_MAX = timedelta(minutes=5)


@dataclass(frozen=True)
class Job:
    """One job: runs of one kind and scope, at the times of `trigger`, each later by `delay`.

    Only the times of cron are delayed: an interval counts from the last run, and so spreads by itself. A job
    that follows another kind (`After`) has no times of its own.
    """

    kind: Kind
    scope: Scope
    trigger: Trigger
    timezone: str = "UTC"
    delay: timedelta = timedelta()

    @property
    def name(self) -> str:
        """The job in words: `backup`, or `backup of acme`."""
        return self.scope.job(self.kind)

    def due_after(self, moment: datetime) -> datetime | None:
        """The first time after `moment` at which it is due; None: never by the clock. A time that began
        before `moment` is past, even where its delay is not."""
        if isinstance(self.trigger, After):
            return None
        if isinstance(self.trigger, Every):
            return moment + self.trigger.interval
        following = parse(self.trigger.text).next_after(moment, ZoneInfo(self.timezone))
        return None if following is None else following + self.delay

    def first_run(self, now: datetime, last: datetime | None) -> datetime | None:
        """When it runs first, now where it is overdue; None: never.

        `last` is when it last began; None means never. A job that was due since then and did not run,
        because the machine slept or the service was down, runs once, at once.
        """
        if last is None or last > now:
            return now  # a run in the future had a wrong clock: ignore it
        # Records have whole seconds.
        since = last if isinstance(self.trigger, Every) else last + timedelta(seconds=1)
        due = self.due_after(since)
        return None if due is None else max(due, now)

    def scheduler_trigger(self, start: datetime) -> BaseTrigger:
        """The scheduler's trigger for it; an interval counts from `start`. A job that follows another kind
        has only this one time."""
        if isinstance(self.trigger, After):
            return DateTrigger(start, timezone="UTC")
        if isinstance(self.trigger, Every):
            seconds = int(self.trigger.interval.total_seconds())
            return IntervalTrigger(seconds=seconds, start_date=start, timezone="UTC")
        return CronTrigger(parse(self.trigger.text), self.timezone, self.delay)


class CronTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """Fires when cron would, and `delay` later; see `mirror.config.crontab`."""

    def __init__(self, line: Crontab, timezone: str, delay: timedelta) -> None:
        self._line, self._zone, self._delay = line, ZoneInfo(timezone), delay

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time after the previous one; without one, the first at or after `now`."""
        since = previous_fire_time or now - timedelta(microseconds=1)
        following = self._line.next_after(since, self._zone)
        return None if following is None else following + self._delay


def jobs_of(config: Config, store_id: str = "") -> tuple[Job, ...]:
    """The jobs of a configuration. `store_id` spreads those of different stores over the jitter."""
    return tuple(_jobs(config, store_id))


def _jobs(config: Config, store_id: str) -> Iterator[Job]:
    for kind in KINDS:
        for scope in config.scopes(kind):
            schedule = config.schedule_of(scope)
            trigger = schedule.of(kind)
            if trigger is not None:
                delay = _delay(schedule, kind, f"{store_id} {kind} {scope.only or ''}")
                yield Job(kind, scope, trigger, schedule.timezone, delay)


def _delay(schedule: Schedule, kind: Kind, key: str) -> timedelta:
    """How much later a job begins: a share of the jitter that is always the same for this `key`, so that a
    restart neither repeats nor skips a run."""
    if isinstance(schedule.of(kind), Every | After):
        return timedelta()
    interval = shortest_interval(schedule, kind)
    jitter = schedule.jitter
    if jitter is None:
        jitter = JITTER_MAX if interval is None else min(JITTER_SHARE * interval, JITTER_MAX)
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return timedelta(seconds=int(share * jitter.total_seconds()))
