"""How fresh repositories are, against the schedule where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from mirror.browse.lateness import late
from mirror.browse.status import RepositoryStatus, Status
from mirror.config import Config, Every
from mirror.config.crontab import parse

# Where no schedule is known, nothing is too old; ages are counted all the same.
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_STEPS = (_HOUR, 6 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY, 30 * _DAY)
# How many times of a crontab line are looked at for its longest gap, from a day that never changes.
_TIMES, _ANY_DAY = 60, datetime(2026, 1, 1, tzinfo=UTC)
_NAMES = ("1 h", "6 h", "1 day", "2 days", "7 days", "30 days")


@dataclass(frozen=True)
class Bar:
    """How many repositories were last confirmed within some time (`words`); `is_late`: longer ago than they
    should be."""

    words: str
    count: int
    is_late: bool = False


def overdue(found: Status, config: Config | None, now: datetime) -> dict[str, str]:
    """What was not confirmed for two intervals of its schedule, by name, each with when it last was; nothing
    without a configuration."""
    if config is None:
        return {}
    names = [*(one.name for one in found.repositories), *(one.name for one in found.workspaces)]
    limits = {name: two_intervals(config, name) for name in {one.partition("/")[0] for one in names}}
    several: dict[str, str] = {}
    for limit in {one for one in limits.values() if one is not None}:
        told = late(found, most=limit, now=now)
        several |= {name: text for name, text in told.items() if limits.get(name.partition("/")[0]) == limit}
    return several


def two_intervals(config: Config, workspace: str) -> timedelta | None:
    """The longest time that two backups of a workspace may take by its schedule; None without one."""
    scope = next((one for one in config.scopes("backup") if one.has(workspace)), None)
    schedule = config.schedule if scope is None else config.schedule_of(scope)
    trigger = schedule.of("backup")
    if trigger is None or isinstance(trigger, Every):
        return None if trigger is None else 2 * trigger.interval
    return _longest_two(trigger.text, schedule.timezone)


@lru_cache(maxsize=64)
def _longest_two(text: str, timezone: str) -> timedelta | None:
    line, zone = parse(text), ZoneInfo(timezone)
    times: list[datetime] = []
    following = line.next_after(_ANY_DAY, zone)
    while following is not None and len(times) < _TIMES:
        times.append(following)
        following = line.next_after(following, zone)
    return max((after - one for one, after in zip(times, times[2:], strict=False)), default=None)


def bars(several: Sequence[RepositoryStatus], too_old: dict[str, str], now: datetime) -> list[Bar]:
    """Counts of repositories by how long ago they were last confirmed, those that still change only."""
    counts = [0] * (len(_STEPS) + 1)
    late_counts = [0] * (len(_STEPS) + 1)
    never = 0
    for one in several:
        if one.is_settled:
            continue
        if one.last_confirmed is None:
            never += 1
            continue
        ago = now - one.last_confirmed
        place = next((number for number, step in enumerate(_STEPS) if ago <= step), len(_STEPS))
        if one.name in too_old:
            late_counts[place] += 1
        else:
            counts[place] += 1
    names = [*(f"up to {name}" for name in _NAMES), f"over {_NAMES[-1]}"]
    found = []
    for name, good, bad in zip(names, counts, late_counts, strict=True):
        if good:
            found.append(Bar(name, good))
        if bad:
            found.append(Bar(name, bad, is_late=True))
    return [*found, Bar("never", never, is_late=True)] if never else found
