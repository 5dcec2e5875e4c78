"""The least rate of every transfer: what trickles is given up, however little each wait is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

# What stays below this rate (bytes a second, over so many seconds) is given up. A pack may have pauses in
# which a server works; a document has none.
RATE_MIN = 1000
RATE_OVER = 600.0
RATE_OVER_SHORT = 60.0


class TooSlow(Exception):
    """What comes is too slow to be waited for."""


class Pace:
    """Whether what comes is too slow to be waited for, by `clock` (monotonic seconds; None: never)."""

    def __init__(self, clock: Callable[[], float] | None, over: float | None = None) -> None:
        self._clock = clock
        self._over = over
        self.begin()

    def begin(self) -> None:
        """It counts from now on."""
        self._since = self._clock() if self._clock is not None else 0.0
        self._bytes = 0

    def is_too_slow(self, more: int) -> bool:
        """`more` bytes have come."""
        self._bytes += more
        over = RATE_OVER if self._over is None else self._over
        if self._clock is None or (passed := self._clock() - self._since) < over:
            return False
        is_slow = self._bytes < RATE_MIN * passed
        self._since, self._bytes = self._clock(), 0
        return is_slow


def too_slow() -> str:
    """The message about a server whose transfer is given up."""
    return f"sends less than {RATE_MIN} bytes a second; given up"


async def paced(source: AsyncIterator[bytes], *, seconds: float | None = None) -> AsyncIterator[bytes]:
    """The same bytes, as long as they come at the least rate, and within `seconds` in all where that is
    given. Raises TooSlow."""
    clock = asyncio.get_running_loop().time
    pace = Pace(clock, RATE_OVER_SHORT)
    end = clock() + seconds if seconds is not None else None
    while True:
        try:
            async with asyncio.timeout_at(end):
                chunk = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TooSlow(f"the server took longer than {seconds:.0f} s") from None
        if pace.is_too_slow(len(chunk)):
            raise TooSlow(f"the server {too_slow()}")
        yield chunk
