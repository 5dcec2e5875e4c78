"""How fresh repositories are, against the schedule where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from mirror.browse.copied import CopyStatus
from mirror.browse.lateness import CLOCKS_DIFFER, late
from mirror.browse.status import RepositoryStatus, Status
from mirror.config import After, Config, Every, Schedule
from mirror.config.crontab import parse
from mirror.model import time_from_text, time_text

# Where no schedule is known, nothing is too old; ages are counted all the same.
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_STEPS = (_HOUR, 6 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY, 30 * _DAY)
# An address to which no copy was ever good is told for so long.
FORGOTTEN = timedelta(days=30)
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
    return _two_of(config.schedule if scope is None else config.schedule_of(scope), "backup")


def _two_of(schedule: Schedule, kind: str) -> timedelta | None:
    """The longest time that two jobs of a kind may take; None for a kind that has no times of its own."""
    trigger = schedule.of(kind)
    if isinstance(trigger, Every):
        return 2 * trigger.interval
    if trigger is None or isinstance(trigger, After):
        return None
    return _longest_two(trigger.text, schedule.timezone)


def copies_in(found: Status, config: Config | None, now: datetime | None = None) -> list[CopyStatus]:
    """The copies that are configured, made or not, then those that only run records know and that were good
    once, or tried within FORGOTTEN before the last run: a mistyped address is told no longer. Each that at
    `now` was not good for two intervals of its schedule is late; without a schedule, or without `now`, none
    is."""
    last = max((time_from_text(run["ended"]) for run in found.jobs.values()), default=None)
    others = {one.to: one for one in found.copies if not _is_forgotten(one, last)}
    if config is None:
        return list(others.values())
    made = {one.to: one for one in found.copies}
    limit = _two_copies(config)
    several = []
    for address in dict.fromkeys(one.to for one in config.copies):
        others.pop(address, None)
        one = made.get(address) or CopyStatus(address, folders=found.folders, behind=found.folders)
        several.append(replace(one, is_configured=True, late=_too_old(one.last_good, limit, now)))
    return several + [replace(one, is_configured=False) for one in others.values()]


def _is_forgotten(one: CopyStatus, last: datetime | None) -> bool:
    """Whether a copy was never good, and not tried for long when the store's `last` run ended."""
    if one.last_good is not None or one.last is None or last is None:
        return False
    return last - time_from_text(one.last["ended"]) > FORGOTTEN


def _too_old(good: datetime | None, limit: timedelta | None, now: datetime | None) -> str:
    """That a copy was last good too long ago; empty where that is not so, or it never was."""
    if limit is None or good is None or now is None:
        return ""
    if good - now > CLOCKS_DIFFER:
        return f"was last good at {time_text(good)}, in the future: a wrong clock"
    return f"was last good at {time_text(good)}" if now - good > limit else ""


def _two_copies(config: Config) -> timedelta | None:
    """Two intervals of the schedule of copies; of one that follows backups, of those that run least often."""
    if not isinstance(config.schedule.copy, After):
        return _two_of(config.schedule, "copy")
    followed = config.schedule.copy.kind
    several = [_two_of(config.schedule_of(scope), followed) for scope in config.scopes(followed)]
    return max((one for one in several if one is not None), default=None)


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
    never = unknown = 0
    for one in several:
        if one.is_settled:
            continue
        if one.is_unknown:
            unknown += 1
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
    found += [Bar("never", never, is_late=True)] if never else []
    return [*found, Bar("unknown", unknown, is_late=True)] if unknown else found
