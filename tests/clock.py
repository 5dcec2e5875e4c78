"""A clock that moves only when somebody sleeps."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Time for tests: sleeping takes no real time; it moves the clock."""

    def __init__(self, start: datetime = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)) -> None:
        self.start = start
        self.elapsed = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.elapsed += seconds


class HeldClock(FakeClock):
    """A clock that moves only when the test lets time pass: whoever sleeps for a second or more waits for
    it."""

    def __init__(self, start: datetime = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)) -> None:
        super().__init__(start)
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds < 1:
            self.elapsed += seconds
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        self._sleepers.append((self.elapsed + seconds, woken))
        await woken.wait()

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass, and let every task go on that slept until then."""
        await settle()
        self.elapsed += seconds
        for until, woken in self._sleepers:
            if until <= self.elapsed:
                woken.set()
        self._sleepers = [one for one in self._sleepers if not one[1].is_set()]
        await settle()


async def settle() -> None:
    """Let every task go on as far as it can without the outside world."""
    for _ in range(20):
        await asyncio.sleep(0)
