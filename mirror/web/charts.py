"""The geometry of charts. Templates draw it as SVG; each chart has a table that says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.browse.runs import Day
from mirror.browse.usage import day_of
from mirror.model.words import result_of

CELL, GAP = 12, 3
# Exit codes after which something is owed, but nothing is broken.
_OPEN = (3, 75, 130)


@dataclass(frozen=True)
class Cell:
    """A day in the calendar."""

    x: int
    y: int
    tone: str
    words: str


@dataclass(frozen=True)
class Week:
    """A week in the calendar's table: how many runs there were, and how they ended at worst."""

    begin: datetime
    runs: int
    words: str


@dataclass(frozen=True)
class Calendar:
    """The runs of some weeks: a column for each week, a row for each day, and where months begin."""

    width: int
    height: int
    cells: tuple[Cell, ...]
    months: tuple[tuple[int, str], ...]
    weeks: tuple[Week, ...]


def calendar_of(days: Sequence[Day]) -> Calendar:
    """The calendar of days that begin with a Monday."""
    step, top, left = CELL + GAP, 18, 30
    cells, weeks = [], []
    months: list[tuple[int, str]] = []
    for number in range(0, len(days), 7):
        week = days[number : number + 7]
        x = left + number // 7 * step
        first = next((one.date for one in week if one.date.day <= 7), None)
        if first is not None and (not months or x - months[-1][0] > 2 * step):
            months.append((x, f"{first:%b}"))
        for row, one in enumerate(week):
            cells.append(Cell(x, top + row * step, tone_of(one.worst), _day_words(one)))
        known = [one.worst for one in week if one.worst is not None]
        worst = min(known, key=lambda code: (_tone_order(code), code), default=None)
        weeks.append(Week(week[0].date, sum(one.runs for one in week), _code_words(worst)))
    width = left + len(weeks) * step
    return Calendar(width, top + 7 * step, tuple(cells), tuple(months), tuple(weeks))


def tone_of(code: int | None) -> str:
    """What the colour of an exit code means; `none` where nothing ran."""
    if code is None:
        return "none"
    return "good" if code == 0 else "warn" if code in _OPEN else "bad"


def _tone_order(code: int) -> int:
    return ("bad", "warn", "good").index(tone_of(code))


def _code_words(code: int | None) -> str:
    return "nothing ran" if code is None else result_of(code)


def _day_words(one: Day) -> str:
    runs = f"{one.runs} run{'' if one.runs == 1 else 's'}, " if one.runs else ""
    return f"{one.date:%a} {one.date.day} {one.date:%b %Y}: {runs}{_code_words(one.worst)}"


@dataclass(frozen=True)
class Month:
    """The bytes that stood in the store at the end of a month, of those that stand there now; `height` is of
    the bar, in per cent."""

    begin: datetime
    bytes: int
    height: float


def growth(by_day: Mapping[int, int], *, now: datetime, months: int = 12) -> list[Month]:
    """The growth of the last months, from when the bytes were written."""
    ends = [_month_after(now)]
    for _ in range(months - 1):
        ends.insert(0, (ends[0] - timedelta(days=1)).replace(day=1))
    sums = [sum(size for day, size in by_day.items() if day < day_of(end)) for end in ends]
    most = max(sums, default=0) or 1
    begins = [(end - timedelta(days=1)).replace(day=1) for end in ends]
    return [Month(begin, size, 100 * size / most) for begin, size in zip(begins, sums, strict=True)]


def _month_after(when: datetime) -> datetime:
    first = when.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)
