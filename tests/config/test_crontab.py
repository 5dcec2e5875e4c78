"""Crontab lines follow crontab(5) and cron(8).

The second opinion is a literal reading of the manuals: walk through real time, minute by minute, and check
for each minute whether the line matches the wall clock.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.config.crontab import parse

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
MINUTE = timedelta(minutes=1)
LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
NAMES: tuple[list[str], ...] = (
    [], [], [], ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
)  # fmt: skip


@functools.cache
def matches_field(text: str, value: int, index: int) -> bool:
    """One field and one value, as in crontab(5)."""
    low, high = LIMITS[index]
    for element in text.lower().split(","):
        body, _, step = element.partition("/")
        first, dash, last = (str(low), "-", str(high)) if body == "*" else body.partition("-")

        def number(word: str, is_last: bool) -> int:
            if word in NAMES[index]:
                found = NAMES[index].index(word) + (1 if index == 3 else 0)
                return 7 if index == 4 and is_last and found == 0 else found
            return int(word)

        begin = number(first, False)
        end = number(last, True) if dash else begin
        if any(
            one % 7 == value if index == 4 else one == value for one in range(begin, end + 1, int(step or 1))
        ):
            return True
    return False


def matches(line: str, wall: datetime) -> bool:
    """A whole line and one minute of the wall clock, as in crontab(5)."""
    minute, hour, day, month, weekday = line.split()
    if not (
        matches_field(minute, wall.minute, 0)
        and matches_field(hour, wall.hour, 1)
        and matches_field(month, wall.month, 3)
    ):
        return False
    by_day = matches_field(day, wall.day, 2)
    by_weekday = matches_field(weekday, wall.isoweekday() % 7, 4)
    both_restricted = day[0] != "*" and weekday[0] != "*"
    return by_day or by_weekday if both_restricted else by_day and by_weekday


def fires(line: str, zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[datetime]:
    """cron(8): each minute that the clock shows. A job for a fixed time runs right after the change if the
    clock skips that time, and does not run twice if the clock goes back."""
    for_a_time = not any(field.startswith("*") for field in line.split()[:2])
    moment = begin
    shown = (begin - MINUTE).astimezone(zone).replace(tzinfo=None)
    latest = shown  # the latest time that the wall clock has shown
    while moment < end:
        wall = moment.astimezone(zone).replace(tzinfo=None)
        if not for_a_time:
            due = matches(line, wall)
        elif wall <= latest:
            due = False
        else:
            skipped = latest + MINUTE
            due = False
            while skipped <= wall:
                due = due or matches(line, skipped)
                skipped += MINUTE
        if due:
            yield moment
        latest = max(latest, wall)
        moment += MINUTE


def ours(line: str, zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[datetime]:
    crontab = parse(line)
    moment = crontab.next_after(begin - timedelta(microseconds=1), zone)
    while moment is not None and moment < end:
        yield moment
        moment = crontab.next_after(moment, zone)


def element(low: int, high: int, names: list[str], first: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high).map(str)
    named = st.sampled_from(names) if names else numbers
    rising = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    steps = st.integers(1, high)
    return st.one_of(
        st.just("*"),
        numbers,
        named,
        rising.map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.tuples(rising, steps).map(lambda one: f"{one[0][0]}-{one[0][1]}/{one[1]}"),
        steps.map(lambda step: f"*/{step}"),
    )


def some_field(index: int) -> st.SearchStrategy[str]:
    low, high = LIMITS[index]
    one = element(low, high, list(NAMES[index]), low)
    return st.lists(one, min_size=1, max_size=3).map(",".join)


# Hours around the clock changes, so that the test covers them.
small_hours = st.one_of(some_field(1), st.sampled_from(["1", "2", "3", "1-3", "2,3", "*", "*/2", "1,2"]))
lines = st.tuples(some_field(0), small_hours, some_field(2), some_field(3), some_field(4)).map(" ".join)
every_day = st.tuples(some_field(0), small_hours, st.just("* * *")).map(" ".join)
CHANGES = {
    "UTC": [datetime(2026, 3, 29, tzinfo=UTC)],
    "Europe/Berlin": [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)],
    "America/New_York": [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2026, 4, 4, 12, tzinfo=UTC), datetime(2026, 10, 3, 12, tzinfo=UTC)],
}


@settings(max_examples=60, deadline=None)
@given(line=every_day, zone=st.sampled_from(ZONES), index=st.integers(0, 1))
def test_every_line_on_nights_when_the_clock_changes(line: str, zone: str, index: int) -> None:
    change = CHANGES[zone][index % len(CHANGES[zone])]
    begin, end = change - timedelta(hours=14), change + timedelta(hours=26)
    place = ZoneInfo(zone)
    assert list(ours(line, place, begin, end)) == list(fires(line, place, begin, end))


@settings(max_examples=30, deadline=None)
@given(line=lines, zone=st.sampled_from(ZONES), day=st.integers(0, 365 * 4))
def test_every_line_on_any_days(line: str, zone: str, day: int) -> None:
    try:
        parse(line)
    except ValueError as error:
        assert "never fires" in str(error)
        return
    begin = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=day)
    end, place = begin + timedelta(days=3), ZoneInfo(zone)
    assert list(ours(line, place, begin, end)) == list(fires(line, place, begin, end))


YEARS = (
    "0 5 1 * mon", "30 2 * * *", "30 3 * * sun", "15 6 13 * 5", "0 0 29 2 *", "0 12 */2 * 1-5",
    "45 1-3 1-7 3,4,10,11 7", "0 4 31 * *",
)  # fmt: skip


@pytest.mark.parametrize("line", YEARS)
@pytest.mark.parametrize("zone", ZONES)
def test_over_years(line: str, zone: str) -> None:
    """For each day, the line fires at the times of that day and at no other."""
    place = ZoneInfo(zone)
    begin, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2033, 1, 1, tzinfo=UTC)
    found = list(ours(line, place, begin, end))
    days = {moment.astimezone(place).date() for moment in found}
    whole_day = "* * " + line.split(maxsplit=2)[2]
    day = datetime(2024, 1, 2, tzinfo=UTC)
    while day < datetime(2032, 12, 30, tzinfo=UTC):
        assert (day.date() in days) == matches(whole_day, day), day
        day += timedelta(days=1)
    assert len(found) == len(set(found))


def at(zone: str, *parts: int) -> str:
    moment = datetime(parts[0], parts[1], parts[2], tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = parse("30 2 * * *").next_after(moment, ZoneInfo(zone))
    assert found is not None
    return found.astimezone(ZoneInfo(zone)).isoformat()


def test_a_time_that_comes_twice_and_a_time_that_does_not_come() -> None:
    assert at("Europe/Berlin", 2026, 10, 25) == "2026-10-25T02:30:00+02:00"
    following = parse("30 2 * * *").next_after(
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin")
    )
    assert following == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert at("Europe/Berlin", 2026, 3, 29) == "2026-03-29T03:00:00+02:00"
    assert at("Australia/Lord_Howe", 2026, 10, 4) == "2026-10-04T02:30:00+11:00"


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("@daily", "0 0 * * *"), ("@MIDNIGHT", "0 0 * * *"), ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * sun"), ("@monthly", "0 0 1 * *"), ("@yearly", "0 0 1 jan *"),
        ("@annually", "0 0 1 1 *"), ("0 6 * * 5-7", "0 6 * * fri,sat,sun"),
        ("0 6 * * sat-sun", "0 6 * * 6,0"),
        ("0 6 * * 0-7", "0 6 * * 0-6"), ("0\t6  * JAN-Mar *", "0 6 * 1-3 *"),
    ],
)  # fmt: skip
def test_lines_that_mean_the_same(line: str, same: str) -> None:
    one, other = parse(line), parse(same)
    assert (one.minutes, one.hours, one.days, one.months, one.weekdays) == (
        other.minutes, other.hours, other.days, other.months, other.weekdays,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("99 * * * *", "0 to 59"), ("* 24 * * *", "0 to 23"), ("* * 0 * *", "1 to 31"),
        ("* * * 13 *", "1 to 12"),
        ("* * * * 8", "0 to 7"), ("0 0 * * nosuchday", "day of week"), ("0 0 * * fri-mon", "must ascend"),
        ("0 0 * 11-2 *", "must ascend"), ("*/0 * * * *", "step of 0"), ("5/15 * * * *", "5-59/15"),
        ("0 0 L * *", "'l'"), ("0 0 ? * *", "crontab(5)"), ("0 0 * * 5#2", "crontab(5)"), ("0 0 * *", "five"),
        ("* * * * * *", "five"), ("@reboot", "@reboot"), ("@never", "five"), ("", "five"),
        ("0 0 31 2 *", "never fires"), ("0 0 30-31 feb */2", "never fires"),
        ("0 0 31 2,4,6,9,11 *", "never fires"),
        ("0 0 , * *", "crontab(5)"), ("0 0 1-5-9 * *", "crontab(5)"),
    ],
)  # fmt: skip
def test_what_is_no_crontab_line_is_refused(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(line)


def test_a_rare_day_is_found() -> None:
    found = parse("0 0 29 2 *").next_after(datetime(2097, 1, 1, tzinfo=UTC), ZoneInfo("UTC"))
    assert found == datetime(2104, 2, 29, tzinfo=UTC)
    # Both fields are restricted: either may match, so a day that never comes does not matter.
    assert parse("0 0 31 2 mon").next_after(datetime(2026, 2, 1, tzinfo=UTC), ZoneInfo("UTC")) == datetime(
        2026, 2, 2, tzinfo=UTC
    )
