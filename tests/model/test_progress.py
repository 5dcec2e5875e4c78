"""The picture of a run that progress reports give, and whether its estimate is honest."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import DONE, LATER
from mirror.model.estimate import HOUR, SMOOTHING, Estimate, Known, Underway, raw_estimate
from mirror.model.live import Picture
from mirror.model.progress import Gatherer

STEP = 0.25


class Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def simulated(
    durations: list[float], costs: list[float], width: int, *, counted: bool = False
) -> Iterator[tuple[float, Picture]]:
    """The pictures of a run whose subjects take these durations, `width` side by side, each with the time
    that is truly left. With `counted` each subject reports how far it is."""
    clock = Hands()
    gatherer = Gatherer(clock)
    names = [f"acme/{number}" for number in range(len(durations))]
    gatherer.expect(dict(zip(names, costs, strict=True)))
    slots = [0.0] * width
    plan = []
    for name, seconds in zip(names, durations, strict=True):
        slot = slots.index(min(slots))
        plan.append((slots[slot], slots[slot] + seconds, name))
        slots[slot] += seconds
    end, passed = max(slots), 0.0
    while passed <= end + STEP:
        for begin, over, name in plan:
            if over <= passed:
                gatherer.report(name, DONE)
            elif begin <= passed:
                if counted:
                    gatherer.report(name, "git", int(1000 * (passed - begin) / (over - begin)), 1000)
                else:
                    gatherer.report(name, "git")
        yield max(0.0, end - passed), gatherer.picture()
        clock.now += STEP
        passed += STEP


def test_it_counts_what_it_is_told() -> None:
    clock = Hands()
    gatherer = Gatherer(clock)
    assert gatherer.picture() == Picture()
    gatherer.expect({"acme/a": 1, "acme/b": 1}, more=True)
    gatherer.report("acme/a", "git", 3, 9)
    gatherer.received(3, 700)
    gatherer.requested(1, 899, 1000)
    clock.now += 5
    seen = gatherer.picture()
    assert (seen.done, seen.total, seen.seconds, seen.seconds_left) == (0, None, 5.0, None)
    assert [(one.subject, one.stage, one.done, one.total) for one in seen.activities] == [
        ("acme/a", "git", 3, 9)
    ]
    assert (seen.objects, seen.bytes, seen.requests, seen.requests_left) == (3, 700, 1, 899)
    gatherer.expect({"acme/c": 1})
    gatherer.report("acme/a", DONE)
    gatherer.report("acme/a", DONE)
    gatherer.report("rate limit", DONE)  # nobody expected it, so it is none of the three
    gatherer.report("acme/b", "git")
    gatherer.report("acme/b", LATER)
    seen = gatherer.picture()
    assert (seen.done, seen.total, seen.activities) == (1, 3, ())
    gatherer.report("acme/b", "pull_requests")
    gatherer.report("acme/b", DONE)
    gatherer.report("acme/c", DONE)
    seen = gatherer.picture()
    assert (seen.done, seen.total, seen.seconds_left) == (3, 3, 0.0)


def test_many_threads_may_report() -> None:
    gatherer = Gatherer(Hands())
    gatherer.expect({f"{one}/{number}": 1 for one in range(4) for number in range(200)})

    def work(one: int) -> None:
        for number in range(200):
            gatherer.report(f"{one}/{number}", "git")
            gatherer.received(1, 10)
            gatherer.picture()
            gatherer.report(f"{one}/{number}", DONE)

    threads = [threading.Thread(target=work, args=(one,)) for one in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = gatherer.picture()
    assert (seen.done, seen.objects, seen.bytes, seen.activities) == (800, 800, 8000, ())


@given(
    st.lists(st.tuples(st.floats(0.1, 40), st.floats(0.1, 50)), min_size=1, max_size=40),
    st.integers(1, 6),
    st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_run_gets_a_negative_estimate(work: list[tuple[float, float]], width: int, counted: bool) -> None:
    """However wrong the costs are, the estimate is never negative, and reaches 0 at the end."""
    done, seen = 0, None
    for _, seen in simulated([one for one, _ in work], [cost for _, cost in work], width, counted=counted):
        assert done <= seen.done <= (seen.total or 0)
        assert seen.seconds_left is None or seen.seconds_left >= 0
        done = seen.done
    assert seen is not None and (seen.done, seen.seconds_left) == (len(work), 0.0)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("counted", [False, True])
def test_an_estimate_with_right_costs_is_right(width: int, counted: bool) -> None:
    """New repositories first, which cost ten times as much as the others, as in a backup."""
    durations = [4.0] * 30 + [0.4] * 300
    costs = [10.0] * 30 + [1.0] * 300
    for truth, seen in simulated(durations, costs, width, counted=counted):
        if seen.done > 8 and seen.seconds_left is not None:
            assert seen.seconds_left == pytest.approx(truth, rel=0.2, abs=6)
    assert seen.seconds_left == 0.0


def test_wrong_costs_are_corrected_on_the_way() -> None:
    """Every repository costs the same, which nobody knew."""
    durations, costs = [1.0] * 200, [10.0] * 100 + [1.0] * 100
    errors = [
        abs(seen.seconds_left - truth)
        for truth, seen in simulated(durations, costs, 4)
        if seen.seconds_left is not None
    ]
    assert errors[-1] < 1 and max(errors[-20:]) < 6


def test_one_giant_at_the_end_gets_no_invented_estimate() -> None:
    """All have the same cost, and the last takes a hundred times as long: soon nobody knows."""
    for truth, seen in simulated([1.0] * 50 + [300.0], [1.0] * 51, 4):
        if seen.seconds_left:
            assert truth > 280 or seen.done == 51
    for truth, seen in simulated([1.0] * 50 + [300.0], [1.0] * 51, 4, counted=True):
        if truth < 200:  # where somebody counts, it is known
            assert seen.seconds_left == pytest.approx(truth, rel=0.1, abs=3)


def test_the_rate_limit_is_part_of_the_estimate() -> None:
    known = Known(60.0, 10.0, 10.0, requests=500, left=500, limit=1000)
    assert raw_estimate(known) == pytest.approx(60)
    known = Known(60.0, 10.0, 10.0, requests=500, left=0, limit=1000)
    assert raw_estimate(known) == pytest.approx(60 + HOUR / 2)
    known = Known(60.0, 10.0, 0.0, requests=500, due=2000, left=0, limit=1000)
    assert raw_estimate(known) == pytest.approx(240 + 2 * HOUR)
    known = Known(60.0, 10.0, 10.0, requests=5, left=0, limit=1000, waiting=720)
    assert raw_estimate(known) == pytest.approx(60 + 720)


def test_a_wait_does_not_slow_the_pace() -> None:
    clock = Hands()
    gatherer = Gatherer(clock)
    gatherer.expect({str(number): 1 for number in range(100)})
    for number in range(50):
        clock.now += 1
        gatherer.report(str(number), DONE)
    assert gatherer.picture().seconds_left == pytest.approx(50)
    gatherer.wait("rate limit", 720)
    clock.now += 360
    seen = gatherer.picture()
    assert seen.waiting == 360 and seen.seconds_left == pytest.approx(410, abs=1)
    clock.now += 360
    gatherer.report("rate limit", DONE)
    clock.now += 1
    seen = gatherer.picture()
    assert seen.waiting is None and seen.seconds_left == pytest.approx(50, abs=15)


def test_too_little_is_no_base_for_an_estimate() -> None:
    assert raw_estimate(Known(1.0, 5.0, 5.0)) is None
    assert raw_estimate(Known(60.0, 1.0, 99.0)) is None
    assert raw_estimate(Known(60.0, 0.0, 0.0, [Underway(1.0, 60.0)])) is None
    assert raw_estimate(Known(60.0, 0.0, 0.0, [Underway(1.0, 60.0, 0.5)])) == pytest.approx(60)


@given(st.lists(st.tuples(st.floats(0, 10), st.none() | st.floats(0, 1e6)), max_size=50))
@settings(deadline=None, derandomize=True)
def test_what_is_shown_counts_down_and_never_jumps(steps: list[tuple[float, float | None]]) -> None:
    """It moves towards what is observed by the part of the difference that belongs to the time passed."""
    estimate, now = Estimate(), 0.0
    before: float | None = None
    for passed, raw in steps:
        now += passed
        shown = estimate.update(now, raw)
        assert (shown is None) == (raw is None)
        if shown is not None and raw and before is not None:
            counted = max(0.0, before - passed)
            assert min(counted, raw) - 1e-6 <= shown <= max(counted, raw) + 1e-6
            assert abs(shown - counted) <= passed / SMOOTHING * abs(raw - counted) + 1e-6
        before = shown
