"""How long a run still takes, as far as that can be said honestly. See `Estimate`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

HOUR = 3600.0
# Before so much time (seconds) and so large a part of the work, nothing is known.
SECONDS_LEAST = 2.0
PART_LEAST = 0.02
# A subject may take so much longer (seconds) than the rest of the work before there is no estimate.
OVERDUE_LEAST = 5.0
# Sums of costs that differ by less than this part are the same.
_NOTHING = 1e-9
# How fast the estimate follows what is observed, in seconds.
SMOOTHING = 10.0


@dataclass(frozen=True)
class Underway:
    """A subject that is worked on: its `cost`, for how many `seconds`, and which part of it is done (0 to 1,
    None where nobody counts)."""

    cost: float
    seconds: float
    part: float | None = None


@dataclass(frozen=True)
class Known:
    """What is known of a run. `seconds` is the time since it began, without waits for the rate limit.

    `done` is the cost of the work whose first turn is over, `queued` of what has not begun. `requests` were
    sent; `due` are known to be needed after all first turns; `left` may be sent now and `limit` in an hour.
    `waiting` is for how many seconds the rate limit holds requests back.
    """

    seconds: float
    done: float
    queued: float
    underway: Sequence[Underway] = ()
    requests: int = 0
    due: int = 0
    left: int | None = None
    limit: int | None = None
    waiting: float = 0.0


def raw_estimate(known: Known) -> float | None:
    """The seconds that the rest takes at the pace so far, and that the rate limit holds it back; None where
    there is no honest estimate: too little is done, or one subject takes longer than all that is left."""
    counted = known.done + sum(one.cost * (one.part or 0.0) for one in known.underway)
    total = known.done + known.queued + sum(one.cost for one in known.underway)
    asking = known.due * known.seconds / known.requests if known.requests else 0.0
    if total - counted <= _NOTHING * total:
        return asking + _held_back(known, 0.0) if known.due else 0.0
    if known.seconds < SECONDS_LEAST or counted < PART_LEAST * total:
        return None
    # Where nobody counts, half of it is the best guess.
    done = counted + sum(one.cost / 2 for one in known.underway if one.part is None)
    pace = done / known.seconds
    seconds = (total - done) / pace
    # What one subject gets of the pace, while as many as now are worked on side by side.
    own = pace / max(1, len(known.underway))
    for one in known.underway:
        if one.part:
            seconds = max(seconds, one.seconds * (1 - one.part) / one.part)
        elif one.seconds - one.cost / own > max(seconds, OVERDUE_LEAST):
            return None
    return seconds + asking + _held_back(known, (total - done) / done)


def _held_back(known: Known, rest: float) -> float:
    """For how long, in seconds, the rate limit holds the run back. `rest` is the work left, as a multiple of
    what is done."""
    needed = known.due + known.requests * rest
    if known.left is None or not known.limit:
        return known.waiting
    return max(known.waiting, (needed - known.left) / known.limit * HOUR, 0.0)


class Estimate:
    """The estimate that people see: it counts down with the clock, and follows what is observed smoothly."""

    def __init__(self) -> None:
        self._shown: float | None = None
        self._at = 0.0

    def update(self, now: float, raw: float | None) -> float | None:
        """The seconds left at `now` (monotonic), after `raw` was observed: never negative; None for None."""
        if raw is None or self._shown is None or raw == 0.0:
            self._shown = raw
        else:
            passed = max(0.0, now - self._at)
            counted = max(0.0, self._shown - passed)
            self._shown = counted + (raw - counted) * (1 - math.exp(-passed / SMOOTHING))
        self._at = now
        return self._shown
