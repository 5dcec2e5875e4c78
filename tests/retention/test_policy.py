"""What retention keeps, and why: published cases of restic and borg as examples, and rules as properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.errors import UsageError
from mirror.model import Part, PartState, Snapshot, snapshot_id
from mirror.retention import Policy, decide, obstacle

NOW = datetime(2030, 1, 1, tzinfo=UTC)
COMPLETE = {"code": Part(PartState.COMPLETE), "issues": Part(PartState.COMPLETE)}


def taken(*times: datetime) -> list[Snapshot]:
    """Complete snapshots of these times, in this order."""
    return [
        Snapshot(snapshot_id(when), when, number, "1", "{u}", "acme/web", COMPLETE)
        for number, when in enumerate(times, start=1)
    ]


def lacking(snapshot: Snapshot, part: str = "issues", state: PartState = PartState.PARTIAL) -> Snapshot:
    """The snapshot with one part in another state."""
    return replace(snapshot, parts={**snapshot.parts, part: Part(state)})


def kept(policy: Policy, snapshots: Sequence[Snapshot], now: datetime = NOW) -> list[datetime]:
    """The times of the kept snapshots, the oldest first."""
    return [one.snapshot.time for one in decide(policy, snapshots, now=now) if one.keep]


def days(first: date, last: date, hour: int = 12) -> list[datetime]:
    """Noon of every day from `first` to `last`."""
    start = datetime(first.year, first.month, first.day, hour, tzinfo=UTC)
    return [start + timedelta(days=number) for number in range((last - first).days + 1)]


def test_restic_daily_counts_days_that_have_a_snapshot() -> None:
    # restic's documentation: one snapshot each Sunday, `--keep-daily 4` keeps the last four Sundays.
    sundays = [datetime(2017, 1, 1, 12, tzinfo=UTC) + timedelta(weeks=week) for week in range(12)]
    assert kept(Policy(keep_daily=4), taken(*sundays)) == sundays[-4:]


def test_restic_daily_keeps_the_newest_of_each_day() -> None:
    # restic's forum, "keep vs keep-within": of May 2nd it keeps the snapshot at 11, not the one at 8.
    may = [datetime(2023, 5, *at, tzinfo=UTC) for at in ((1, 8), (2, 8), (2, 11), (4, 9), (5, 10))]
    assert kept(Policy(keep_daily=4), taken(*may)) == [may[0], may[2], may[3], may[4]]
    assert kept(Policy(keep_within=timedelta(days=3)), taken(*may)) == may[2:]


def test_restic_rules_overlap() -> None:
    # restic's documentation: 7 daily, 5 weekly, 12 monthly and 75 yearly over a hundred years of days.
    every = days(date(1925, 1, 1), date(2024, 12, 29))
    found = decide(
        Policy(keep_daily=7, keep_weekly=5, keep_monthly=12, keep_yearly=75), taken(*every), now=NOW
    )
    by_rule = {
        name: [one.snapshot.time.date() for one in found if name in one.reasons]
        for name in ("daily", "weekly", "monthly", "yearly")
    }
    assert by_rule["daily"] == [date(2024, 12, day) for day in range(23, 30)]
    assert by_rule["weekly"] == [date(2024, 12, 1 + 7 * week) for week in range(5)]
    assert by_rule["monthly"][-3:] == [date(2024, 10, 31), date(2024, 11, 30), date(2024, 12, 29)]
    assert len(by_rule["monthly"]) == 12
    assert by_rule["yearly"] == [date(year, 12, 31) for year in range(1950, 2024)] + [date(2024, 12, 29)]


def test_borg_example_of_fourteen_days_six_months_and_a_year() -> None:
    # borg's prune example (docs/misc/prune-example.txt) excludes what earlier rules kept. Our rules count
    # independently, as restic's do: the newest day is also the newest of its month and year.
    every = days(date(2015, 1, 1), date(2016, 1, 1))
    ours = [when.date() for when in kept(Policy(keep_daily=14, keep_monthly=8, keep_yearly=3), taken(*every))]
    months = [date(2015, 6, 30), date(2015, 7, 31), date(2015, 8, 31), date(2015, 9, 30), date(2015, 10, 31)]
    assert ours == [
        date(2015, 1, 1), *months, date(2015, 11, 30),
        *(date(2015, 12, day) for day in range(19, 32)), date(2016, 1, 1),
    ]  # fmt: skip


def test_a_rule_that_is_not_full_keeps_the_oldest() -> None:
    every = days(date(2024, 3, 3), date(2024, 5, 20))
    found = decide(Policy(keep_monthly=24), taken(*every), now=NOW)
    assert {one.snapshot.time.date(): one.reasons for one in found if one.keep} == {
        date(2024, 3, 3): ("oldest monthly",),
        date(2024, 3, 31): ("monthly",),
        date(2024, 4, 30): ("monthly",),
        date(2024, 5, 20): ("monthly", "newest", "newest complete"),
    }


def test_iso_weeks_do_not_break_at_the_year() -> None:
    # 2024-12-30 to 2025-01-05 are one ISO week.
    every = days(date(2024, 12, 28), date(2025, 1, 6))
    assert [one.date() for one in kept(Policy(keep_weekly=2), taken(*every))] == [
        date(2025, 1, 5),
        date(2025, 1, 6),
    ]


def test_hours_are_utc() -> None:
    hour = datetime(2024, 10, 27, 0, 10, tzinfo=UTC)
    times = [hour + timedelta(minutes=20 * number) for number in range(9)]
    assert kept(Policy(keep_hourly=2), taken(*times)) == [times[5], times[8]]


def test_within_counts_from_the_newest_not_from_now() -> None:
    every = days(date(2020, 1, 1), date(2020, 1, 31))
    assert kept(Policy(keep_within=timedelta(days=2)), taken(*every)) == every[-3:]


def test_a_snapshot_from_the_future_is_kept_and_counts_for_nothing() -> None:
    past = days(date(2029, 12, 1), date(2029, 12, 10))
    wrong = datetime(2035, 1, 1, tzinfo=UTC)
    # The clock was wrong for one run in the middle.
    snapshots = taken(*past[:5], wrong, *past[5:])
    assert kept(Policy(keep_last=2), snapshots) == [wrong, *past[-2:]]
    assert kept(Policy(keep_within=timedelta(days=1)), snapshots) == [wrong, *past[-2:]]


def test_a_complete_snapshot_goes_before_a_newer_partial_one_of_its_period() -> None:
    morning, noon, night = taken(*(datetime(2024, 5, 1, hour, tzinfo=UTC) for hour in (6, 12, 18)))
    after = replace(taken(datetime(2024, 5, 2, tzinfo=UTC))[0], sequence=4)
    found = decide(Policy(keep_daily=2), [morning, noon, lacking(night), after], now=NOW)
    assert [one.snapshot.time.hour for one in found if one.keep] == [12, 0]


def test_the_newest_and_the_newest_complete_stay() -> None:
    every = taken(*days(date(2024, 1, 1), date(2024, 1, 9)))
    snapshots = [*every[:4], *(lacking(one) for one in every[4:])]
    found = decide(Policy(keep_last=1), snapshots, now=NOW)
    assert {one.snapshot.id: one.reasons for one in found if one.keep} == {
        every[3].id: ("newest complete",),
        every[8].id: ("last", "newest"),
    }
    # If issues are in accept_missing, the newest is complete, too.
    agreed = decide(Policy(keep_last=1), snapshots, now=NOW, accept_missing=("issues",))
    assert [one.snapshot.id for one in agreed if one.keep] == [every[8].id]


@pytest.mark.parametrize("policy", [Policy(), Policy(keep_last=-1), Policy(keep_last=3, keep_daily=-1)])
def test_a_policy_that_keeps_nothing_is_refused(policy: Policy) -> None:
    with pytest.raises(UsageError):
        decide(policy, taken(NOW - timedelta(days=1)), now=NOW)


def test_the_order_is_that_of_sequences_where_the_clock_went_back() -> None:
    times = [datetime(2024, 5, day, tzinfo=UTC) for day in (10, 11, 3, 4)]
    assert kept(Policy(keep_last=2), taken(*times)) == times[2:]


_moments = st.lists(
    st.tuples(
        st.integers(0, 4 * 365 * 24).map(lambda hours: NOW - timedelta(days=1200) + timedelta(hours=hours)),
        st.sampled_from([PartState.COMPLETE, PartState.PARTIAL, PartState.DENIED, PartState.GONE]),
    ),
    max_size=60,
    unique_by=lambda one: one[0],
).map(lambda found: [
    lacking(snapshot, state=state)
    for snapshot, (_, state) in zip(taken(*(when for when, _ in found)), found, strict=True)
])  # fmt: skip
_counts = st.integers(0, 20)
_policies = st.builds(
    Policy, _counts, _counts, _counts, _counts, _counts, _counts,
    st.none() | st.integers(0, 900).map(lambda hours: timedelta(hours=hours)),
).filter(lambda policy: not policy.is_empty)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(_policies, _moments)
def test_what_must_stay_stays(policy: Policy, snapshots: list[Snapshot]) -> None:
    found = decide(policy, snapshots, now=NOW)
    keep = {one.snapshot.id for one in found if one.keep}
    assert [one.snapshot for one in found] == snapshots
    assert all(one.reasons for one in found)
    assert {one.id for one in snapshots if one.time > NOW} <= keep
    if snapshots:
        assert snapshots[-1].id in keep
    complete = [one.id for one in snapshots if one.is_complete]
    assert set(complete[-1:]) <= keep
    past = [one for one in snapshots if one.time <= NOW]
    assert {one.id for one in past[max(0, len(past) - policy.keep_last) :]} <= keep or not policy.keep_last


@settings(max_examples=300, deadline=None)
@given(_policies, _moments)
def test_pruning_twice_drops_nothing_more(policy: Policy, snapshots: list[Snapshot]) -> None:
    once = [one.snapshot for one in decide(policy, snapshots, now=NOW) if one.keep]
    assert [one.snapshot for one in decide(policy, once, now=NOW) if one.keep] == once


@settings(max_examples=300, deadline=None)
@given(_policies, _moments, st.sampled_from(["keep_last", "keep_hourly", "keep_daily", "keep_yearly"]))
def test_a_larger_count_never_keeps_less(policy: Policy, snapshots: list[Snapshot], rule: str) -> None:
    more = replace(policy, **{rule: getattr(policy, rule) + 1})
    fewer = {one.snapshot.id for one in decide(policy, snapshots, now=NOW) if one.keep}
    many = {one.snapshot.id for one in decide(more, snapshots, now=NOW) if one.keep}
    # A rule that is not full keeps the oldest snapshot; once the rule is full, prune may remove it.
    assert fewer - many <= {one.id for one in [s for s in snapshots if s.time <= NOW][:1]}


@settings(max_examples=300, deadline=None)
@given(_policies, _moments)
def test_each_rule_keeps_as_many_as_it_says(policy: Policy, snapshots: list[Snapshot]) -> None:
    for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        by_rule = [one for one in decide(policy, snapshots, now=NOW) if name in one.reasons]
        assert len(by_rule) <= getattr(policy, f"keep_{name}")


class TestObstacle:
    """When prune may remove nothing."""

    def test_no_part_is_worse_than_in_the_last_complete_snapshot(self) -> None:
        first, second, third = taken(*days(date(2024, 1, 1), date(2024, 1, 3)))
        assert obstacle([first, second, third]) is None
        assert obstacle([first, second, lacking(third, state=PartState.GONE)]) is None
        assert obstacle([first, second, lacking(third, state=PartState.SKIPPED)]) is None

    @pytest.mark.parametrize("state", [PartState.PARTIAL, PartState.DENIED, PartState.UNAVAILABLE])
    def test_a_part_that_is_worse(self, state: PartState) -> None:
        first, second = taken(*days(date(2024, 1, 1), date(2024, 1, 2)))
        assert obstacle([first, lacking(second, state=state)]) is not None
        assert obstacle([first, lacking(second, state=state)], accept_missing=("issues",)) is None

    def test_a_part_that_is_no_longer_there(self) -> None:
        first, second = taken(*days(date(2024, 1, 1), date(2024, 1, 2)))
        fewer = replace(second, parts={"code": Part(PartState.PARTIAL)})
        assert obstacle([first, fewer]) is not None

    def test_without_a_complete_snapshot_nothing_goes(self) -> None:
        assert obstacle([lacking(one) for one in taken(*days(date(2024, 1, 1), date(2024, 1, 9)))])
        assert obstacle([])
