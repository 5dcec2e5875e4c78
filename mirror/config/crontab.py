"""When a crontab line fires: the fields of crontab(5), and the rules of cron(8) for clock changes."""

from __future__ import annotations

import calendar
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ELEMENT = re.compile(r"(?:(\*)|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/([0-9]{1,3}))?")
# A weekday on which 29 February falls comes again within 40 years, also across 2100.
_DAYS_AHEAD = 41 * 366
# A Monday, and how many times after it are compared.
_FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_GAPS = 100


@dataclass(frozen=True)
class _Field:
    name: str
    first: int
    last: int
    names: dict[str, int]


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True)
class Crontab:
    """A parsed line. Weekdays count from Sunday, 0.

    `either_day`: both day fields are restricted, so a day that matches one of them is enough.
    `is_periodic`: minute or hour begins with `*`. Such a job follows local time. Any other job is for a
    certain time of day: it runs once where the clock goes back over that time, and right after the change
    where the clock skips it.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    is_periodic: bool
    # A cache of the instants of a few days, by zone and day.
    _known: dict[tuple[str, date], list[datetime]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """The first time after `moment` at which the line fires, in UTC. None: not in 40 years."""
        day = moment.astimezone(zone).date() - timedelta(days=1)  # a clock change may move it across midnight
        for _ in range(_DAYS_AHEAD):
            if self.has_day(day):
                instants = self._instants(day, zone)
                index = bisect_right(instants, moment)
                if index < len(instants):
                    return instants[index]
            day += timedelta(days=1)
        return None

    def shortest_gap(self, zone: ZoneInfo) -> timedelta | None:
        """The shortest time between two of the next hundred times; None where there are not two in 40 years.
        Counted from a fixed day, so that it is the same whenever it is asked."""
        gaps: list[timedelta] = []
        first = self.next_after(_FIRST_DAY, zone)
        while first is not None and len(gaps) < _GAPS:
            second = self.next_after(first, zone)
            if second is None:
                break
            gaps.append(second - first)
            first = second
        return min(gaps, default=None)

    def has_day(self, day: date) -> bool:
        """Whether the line fires on this day."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_month or by_week) if self.either_day else (by_month and by_week)

    def _instants(self, day: date, zone: ZoneInfo) -> list[datetime]:
        key = (zone.key, day)
        if key not in self._known:
            if len(self._known) > 3:
                self._known.clear()
            found = {
                instant
                for hour in self.hours
                for minute in self.minutes
                for instant in self._instants_of(datetime.combine(day, time(hour, minute)), zone)
            }
            self._known[key] = sorted(found)
        return self._known[key]

    def _instants_of(self, wall: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """The instants of a local time: none, one or two."""
        earlier = wall.replace(tzinfo=zone).astimezone(UTC)
        if earlier.astimezone(zone).replace(tzinfo=None) != wall:
            if not self.is_periodic:
                yield _end_of_gap(earlier, zone)
            return
        yield earlier
        later = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        if later != earlier and self.is_periodic:
            yield later


def _end_of_gap(after: datetime, zone: ZoneInfo) -> datetime:
    """The instant of the clock change that skipped a local time. `after` is later, by less than the
    change."""
    offset = after.astimezone(zone).utcoffset()
    minute = timedelta(minutes=1)
    while (after - minute).astimezone(zone).utcoffset() == offset:
        after -= minute
    return after


def parse(text: str) -> Crontab:
    """The five fields of `text`, or one of cron's nicknames such as `@daily`. Raises ValueError, also
    for a line that never fires."""
    text = text.strip().lower()
    if text == "@reboot":
        raise ValueError("cannot be @reboot: the daemon runs overdue jobs at its start anyway")
    fields = NICKNAMES.get(text, text).split()
    if len(fields) != len(_FIELDS):
        raise ValueError('should be five cron fields such as "0 */4 * * *", or "every 4h"')
    minutes, hours, days, months, weekdays = (
        _values(field, kind) for field, kind in zip(fields, _FIELDS, strict=True)
    )
    # A field that begins with * counts as unrestricted for cron, */2 too.
    either_day = not fields[2].startswith("*") and not fields[4].startswith("*")
    line = Crontab(
        minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either_day,
        is_periodic=fields[0].startswith("*") or fields[1].startswith("*"),
    )  # fmt: skip
    if not either_day and all(min(days) > _DAYS_IN_MONTH[month - 1] for month in months):
        raise ValueError("never fires: none of its months has such a day")
    return line


def _values(text: str, kind: _Field) -> frozenset[int]:
    found: set[int] = set()
    for element in text.split(","):
        match = _ELEMENT.fullmatch(element)
        if match is None:
            raise ValueError(f"has {element!r} for its {kind.name}, which is not valid in crontab(5)")
        star, low, high, step = match.groups()
        if step is not None and int(step) == 0:
            raise ValueError(f"has {element!r} for its {kind.name}: a step of 0")
        if step is not None and star is None and high is None:
            raise ValueError(
                f"has {element!r} for its {kind.name}: a step needs a range, such as {low}-{kind.last}/{step}"
            )
        first = kind.first if star else _number(low, kind)
        last = kind.last if star else _number(high or low, kind)
        if high == "sun":
            last = 7
        if first > last:
            raise ValueError(
                f"has {element!r} for its {kind.name}: a range must ascend; write two, separated by a comma"
            )
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, kind: _Field) -> int:
    number = int(text) if text.isdigit() else kind.names.get(text)
    if number is None or not kind.first <= number <= kind.last:
        raise ValueError(f"has {text!r} for its {kind.name}, which should be {kind.first} to {kind.last}")
    return number
