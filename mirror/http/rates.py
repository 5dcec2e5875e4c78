"""The minimum rate of every transfer: one that falls below it is given up, however short each wait is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class MinimumRate:
    """Bytes a second, on average over a window in seconds: `window` for packs, because a server may pause
    while it works, and `short_window` for documents."""

    bytes_per_second: float = 1000
    window: float = 600.0
    short_window: float = 60.0

    @property
    def violation(self) -> str:
        """What to say of a server that stays below it."""
        return f"sends less than {self.bytes_per_second:.0f} bytes a second; given up"


class TooSlow(Exception):
    """A transfer fell below the minimum rate."""


class RateMeter:
    """Measures one transfer against `minimum`, over windows of `window` seconds (None: `minimum.window`).

    `clock` returns monotonic seconds; with None no transfer is too slow.
    """

    def __init__(
        self, clock: Callable[[], float] | None, minimum: MinimumRate, window: float | None = None
    ) -> None:
        self._clock = clock
        self._minimum = minimum
        self._window = minimum.window if window is None else window
        self.begin()

    def begin(self) -> None:
        """Start a new window now."""
        self._since = self._clock() if self._clock is not None else 0.0
        self._bytes = 0

    def is_too_slow(self, received: int) -> bool:
        """Count `received` more bytes; True where the window that ends now was below the minimum rate."""
        self._bytes += received
        if self._clock is None or (elapsed := self._clock() - self._since) < self._window:
            return False
        is_slow = self._bytes < self._minimum.bytes_per_second * elapsed
        self._since, self._bytes = self._clock(), 0
        return is_slow


async def at_least_rate(
    source: AsyncIterator[bytes], minimum: MinimumRate, *, seconds: float | None = None
) -> AsyncIterator[bytes]:
    """Yield the chunks of `source` while they arrive at the `minimum` rate over its short window, and within
    `seconds` in all where that is given. Raises TooSlow."""
    clock = asyncio.get_running_loop().time
    meter = RateMeter(clock, minimum, minimum.short_window)
    end = clock() + seconds if seconds is not None else None
    while True:
        try:
            async with asyncio.timeout_at(end):
                chunk = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TooSlow(f"the server took longer than {seconds:.0f} s") from None
        if meter.is_too_slow(len(chunk)):
            raise TooSlow(f"the server {minimum.violation}")
        yield chunk
