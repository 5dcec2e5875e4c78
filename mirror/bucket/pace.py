"""A rate of bytes that all uploads of a process share."""

from __future__ import annotations

from mirror.model import Clock


class Pace:
    """At most `rate` bytes a second over all uploads; None: as fast as it goes."""

    def __init__(self, rate: int | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._free_at = 0.0

    async def wait(self, size: int) -> None:
        """Return when `size` bytes may be sent: when those that were asked for before had their time."""
        if self._rate is None:
            return
        now = self._clock.monotonic()
        begin = max(now, self._free_at)
        self._free_at = begin + size / self._rate
        if begin > now:
            await self._clock.sleep(begin - now)
