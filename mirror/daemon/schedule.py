"""The triggers of the schedule, and which jobs are overdue at start."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from mirror.config import Config, Every, Trigger
from mirror.config.crontab import Crontab, parse
from mirror.daemon.jobs import Kind


def triggers(config: Config) -> tuple[tuple[Kind, Trigger | None], ...]:
    """Each kind of run with its trigger; None: never."""
    schedule = config.schedule
    return (
        ("backup", schedule.backup),
        ("verify", schedule.verify),
        ("prune", schedule.prune),
        ("drill", schedule.drill),
    )


class CronTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """Fires when cron would; see `mirror.config.crontab`."""

    def __init__(self, line: Crontab, timezone: str) -> None:
        self._line = line
        self._zone = ZoneInfo(timezone)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time after the previous one; without one, the first at or after `now`."""
        return self._line.next_after(previous_fire_time or now - timedelta(microseconds=1), self._zone)


def make_trigger(trigger: Trigger, timezone: str, *, start: datetime) -> BaseTrigger:
    """The scheduler's trigger for a configured one."""
    if isinstance(trigger, Every):
        seconds = int(trigger.interval.total_seconds())
        return IntervalTrigger(seconds=seconds, start_date=start, timezone="UTC")
    return CronTrigger(parse(trigger.text), timezone)


def first_run(trigger: Trigger, timezone: str, *, now: datetime, last: datetime | None) -> datetime | None:
    """When a job runs first: now where it is overdue, None to leave it to its trigger.

    `last` is when it last began; None means never. A job that was due since then and did not run, because
    the machine slept or the service was down, runs once, at once.
    """
    if last is None or last > now:
        return now  # a run in the future had a wrong clock: ignore it
    if isinstance(trigger, Every):
        due = last + trigger.interval
        return due if due > now else now
    following = parse(trigger.text).next_after(last + timedelta(seconds=1), ZoneInfo(timezone))
    return now if following is not None and following <= now else None


def describe(trigger: Trigger | None) -> str:
    """A trigger as text for logs."""
    return "never" if trigger is None else trigger.text
