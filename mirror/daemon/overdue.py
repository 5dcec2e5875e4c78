"""Which jobs are overdue: none ended for two intervals of its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from mirror.config import Config, Every, Trigger
from mirror.config.crontab import parse
from mirror.daemon.jobs import Kind
from mirror.daemon.schedule import triggers
from mirror.model import time_text
from mirror.notify.conditions import Condition, Event, Report


def overdue_report(
    config: Config,
    now: datetime,
    *,
    since: datetime,
    ended: Mapping[Kind, datetime],
    running: Mapping[Kind, datetime],
) -> Report:
    """The jobs that are overdue at `now`.

    `since` is when the daemon began to keep the schedule: it runs at once what it missed before. `ended` is
    when a job of each kind last ended; `running`, since when one runs. A first job, however long, is not
    overdue.
    """
    conditions = []
    for kind, trigger in triggers(config):
        last, begun = ended.get(kind), running.get(kind)
        if trigger is None or (begun is not None and last is None):
            continue
        base = max(one for one in (since, last, begun) if one is not None)
        limit = two_intervals_after(base, trigger, config.schedule.timezone)
        if limit is None or now <= limit:
            continue
        text = f"{kind} is overdue: none has ended since {time_text(last or since)}"
        if begun is not None:
            text += f", one has been running since {time_text(begun)}"
        conditions.append(Condition(kind, "", Event.OVERDUE, 1, text))
    return Report("schedule", tuple(conditions))


def two_intervals_after(moment: datetime, trigger: Trigger, timezone: str) -> datetime | None:
    """The second time after `moment` at which a job is due; None where there is none."""
    if isinstance(trigger, Every):
        return moment + 2 * trigger.interval
    line, zone = parse(trigger.text), ZoneInfo(timezone)
    first = line.next_after(moment, zone)
    return line.next_after(first + timedelta(seconds=1), zone) if first is not None else None
