"""A daemon that lives through weeks within seconds: its clock moves when a test says so."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import apscheduler.schedulers.base
import pytest

from mirror.config import Config
from mirror.daemon.listening import Listeners, no_listeners
from mirror.daemon.service import _Service
from mirror.daemon.watch import WAKE_SECONDS

# How long, in seconds, a test waits at most for what must happen.
PATIENCE = 120.0


class DrivenClock:
    """Sleeping for less than half a minute takes no time and moves the clock. Whoever sleeps for longer waits
    until the test has moved the clock so far."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._elapsed = 0.0
        self._parked: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """The time counts from this call, not from when a task that is made of it begins: the test may move
        the clock before that."""
        return self._nap(seconds) if seconds < WAKE_SECONDS else self._wait(self._elapsed + seconds)

    async def _nap(self, seconds: float) -> None:
        self._elapsed += seconds
        await asyncio.sleep(0)

    async def _wait(self, until: float) -> None:
        if until > self._elapsed:
            parked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._parked.append((until, parked))
            await parked

    def move(self, seconds: float) -> None:
        """Time passes."""
        self._elapsed += max(seconds, 0.0)
        due = [one for when, one in self._parked if when <= self._elapsed]
        self._parked = [(when, one) for when, one in self._parked if when > self._elapsed and not one.done()]
        for one in due:
            if not one.done():
                one.set_result(None)

    def set(self, by: timedelta) -> None:
        """The clock is set; no time passes. A machine that slept finds its clock set forward as well."""
        self._start += by

    def move_to_next_sleeper(self) -> None:
        """Move as far as whoever must wait the shortest, other than the watch of the clock."""
        ahead = sorted(when for when, one in self._parked if not one.done())
        if len(ahead) > 1:
            self.move(ahead[0] - self._elapsed)


def drive_the_scheduler(monkeypatch: pytest.MonkeyPatch, clock: DrivenClock) -> None:
    """Let APScheduler read this clock. Its own timer goes on in real time and never matters: the daemon wakes
    it by its clock."""

    class Driven(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return clock.now().astimezone(tz or UTC)

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Driven)


class Driven:
    """A running daemon, and its clock."""

    def __init__(self, service: _Service, clock: DrivenClock) -> None:
        self.service, self.clock = service, clock
        self.life: asyncio.Task[int] | None = None

    def is_idle(self) -> bool:
        """Whether no job runs or waits for its turn."""
        return not len(self.service.runner._queue)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; the clock moves on where the work waits for it."""
        async with asyncio.timeout(PATIENCE):
            for turn in range(1_000_000):
                for _ in range(20):  # what was called, and what that calls, have their turns
                    await asyncio.sleep(0)
                if condition():
                    return
                if self.life is not None and self.life.done():
                    raise AssertionError(f"the daemon ended: {self.life}")
                await asyncio.sleep(0.002)
                if turn % 100 == 99:
                    self.clock.move_to_next_sleeper()

    def is_settled(self) -> bool:
        """Whether all that was due has run."""
        following = self.service._timetable.next_times().values()
        return bool(following) and min(following) > self.clock.now() and self.is_idle()

    async def settle(self) -> None:
        """Wait until all that is due has run."""
        await self.until(self.is_settled)

    def move_to_next_run(self, before: datetime | None = None) -> None:
        """Move the clock to the next time at which a job is due, but not beyond `before`."""
        following = min(self.service._timetable.next_times().values())
        target = following if before is None else min(following, before)
        self.clock.move((target - self.clock.now()).total_seconds())

    async def live_until(self, moment: datetime) -> None:
        """Live on until this moment, with all runs that are due meanwhile."""
        await self.settle()
        while self.clock.now() < moment:
            self.move_to_next_run(moment)
            await self.settle()

    def is_backing_up(self) -> bool:
        """Whether a backup runs."""
        return any(job.startswith("backup") for job in self.service.state.running)

    async def live_until_backup(self) -> None:
        """Live on until a backup has begun."""
        while not self.is_backing_up():
            self.move_to_next_run()
            await self.until(lambda: self.is_backing_up() or self.is_settled())

    async def signal(self, number: int, done: Callable[[], bool]) -> None:
        """Send this process a signal that the daemon handles, and wait until that is done."""
        os.kill(os.getpid(), number)
        await self.until(done)

    async def reload(self, *, settle: bool = True) -> None:
        """SIGHUP; and, to `settle`, all that it makes due."""
        # The handler is called by the event loop; until then there is no reload to wait for.
        seen: list[object] = []
        before = self.service._reload

        async def reload() -> None:
            await before()
            seen.append(None)

        self.service._reload = reload  # type: ignore[method-assign]
        await self.signal(signal.SIGHUP, lambda: bool(seen))
        self.service._reload = before  # type: ignore[method-assign]
        if settle:
            await self.settle()


@asynccontextmanager
async def living(
    load: Callable[[], Config],
    clock: DrivenClock,
    monkeypatch: pytest.MonkeyPatch,
    listeners: Listeners = no_listeners,
) -> AsyncIterator[Driven]:
    """A daemon from its start to SIGTERM, after which it must have ended with 0."""
    drive_the_scheduler(monkeypatch, clock)
    daemon = Driven(_Service(load(), load, clock, os.environ, listeners), clock)
    daemon.life = asyncio.ensure_future(daemon.service.run())
    try:
        await daemon.until(lambda: bool(daemon.service._timetable.next_times()))
        yield daemon
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await daemon.life == 0
    finally:
        daemon.life.cancel()
        await asyncio.gather(daemon.life, return_exceptions=True)
