"""When what runs: the schedule's triggers, and what is overdue at start."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from mirror.config import Config, Cron, Every, Trigger
from mirror.errors import ConfigError, Fault, UsageError

Kind = Literal["backup", "verify", "prune"]

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


def triggers(config: Config) -> tuple[tuple[Kind, Trigger | None], ...]:
    """Each kind of run with when it is due; None: never."""
    schedule = config.schedule
    return ("backup", schedule.backup), ("verify", schedule.verify), ("prune", schedule.prune)


def check(config: Config, *, now: datetime) -> None:
    """Raise ConfigError where the schedule cannot be kept, so that the daemon would not start."""
    faults = []
    for kind, trigger in triggers(config):
        try:
            if trigger is not None:
                make_trigger(trigger, config.schedule.timezone, start=now)
        except UsageError as error:
            remedy = 'give five cron fields such as "0 */4 * * *", or "every 4h"'
            faults.append(Fault(None, f"schedule.{kind}", error.message, remedy))
    if config.schedule.prune is not None and not any(one.retention for one in config.workspaces):
        problem = "is set, and no retention: nothing could ever be let go"
        remedy = "add retention: {keep_daily: 30}, or take schedule.prune out"
        faults.append(Fault(None, "schedule.prune", problem, remedy))
    if faults:
        raise ConfigError(str(config.source or "the configuration"), faults)


def _day_of_week(field: str) -> str:
    """Cron's numbers (0 and 7 are Sunday) as names: the scheduler's own numbers begin on Monday."""

    def named(text: str) -> str:
        return _DAYS[int(text)] if text.isdigit() and int(text) < len(_DAYS) else text

    parts = []
    for part in field.lower().split(","):
        base, slash, step = part.partition("/")
        first, dash, last = base.partition("-")
        if dash and first.isdigit() and last.isdigit() and step == "":
            # A range may begin on Sunday, which the scheduler's week ends with.
            parts += [_DAYS[day] for day in range(int(first), int(last) + 1)]
        else:
            parts.append(named(first) + (f"-{named(last)}" if dash else "") + (slash + step))
    return ",".join(dict.fromkeys(parts))


def make_trigger(trigger: Trigger, timezone: str, *, start: datetime) -> BaseTrigger:
    """The scheduler's trigger for a configured one. Raises UsageError for an impossible cron line."""
    if isinstance(trigger, Every):
        return IntervalTrigger(
            seconds=int(trigger.interval.total_seconds()), start_date=start, timezone="UTC"
        )
    minute, hour, day, month, weekday = trigger.text.split()
    try:
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=_day_of_week(weekday),
            timezone=ZoneInfo(timezone),
        )  # fmt: skip
    except (ValueError, IndexError) as error:
        raise UsageError(f"the schedule {trigger.text!r} cannot be understood: {error}") from None


def first_run(trigger: Trigger, timezone: str, *, now: datetime, last: datetime | None) -> datetime | None:
    """When a job runs first: now where it is overdue, None where its trigger decides.

    `last` is when it last began; None means never. What was due since then and did not run, because
    the machine slept or the service was down, runs at once, and once.
    """
    if last is None:
        return now
    if isinstance(trigger, Every):
        due = last + trigger.interval
        return now if due <= now else due
    following = make_trigger(trigger, timezone, start=last).get_next_fire_time(
        None, last + timedelta(seconds=1)
    )
    return now if following is not None and following <= now else None


def describe(trigger: Trigger | None) -> str:
    """A trigger for a person."""
    if trigger is None:
        return "never"
    return trigger.text if isinstance(trigger, Cron) else f"every {trigger.interval}"
