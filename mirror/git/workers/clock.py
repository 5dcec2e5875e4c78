"""Time, as a worker process needs it: it is an edge of its own, and no Clock can be handed to it."""

from __future__ import annotations

import time


class Watch:
    """The machine's time, for what lapses and for what asks to be tried later."""

    def monotonic(self) -> float:
        """Seconds from some fixed point; never goes back."""
        return time.monotonic()

    def now(self) -> float:
        """The time of day in seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait; other threads go on."""
        time.sleep(seconds)
