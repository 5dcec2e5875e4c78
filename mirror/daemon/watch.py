"""Watches the clock: wakes the schedule, and notices a machine that slept and a clock that was set."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from mirror.model import Clock

# How often the clock is looked at, in seconds.
WAKE_SECONDS = 30.0
# A clock that is off by less was only adjusted.
STEP_LEAST = timedelta(minutes=1)


async def watch(clock: Clock, wake: Callable[[], None], stepped: Callable[[timedelta], None]) -> None:
    """Call `wake` every half minute, for ever.

    Where the time of day went on by more or less than the time that passed, call `stepped` with the
    difference before: it is positive after a sleep, and where the clock was set forward.
    """
    day, passed = clock.now(), clock.monotonic()
    while True:
        await clock.sleep(WAKE_SECONDS)
        new_day, new_passed = clock.now(), clock.monotonic()
        step = (new_day - day) - timedelta(seconds=new_passed - passed)
        day, passed = new_day, new_passed
        if abs(step) >= STEP_LEAST:
            stepped(step)
        wake()
