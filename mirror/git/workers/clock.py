"""The clock of worker processes, to which no Clock object can be passed."""

from __future__ import annotations

import time


class Watch:
    """The system clock, for expiry times and for delays before a retry."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; never goes back."""
        return time.monotonic()

    def now(self) -> float:
        """Seconds since 1970 (UTC)."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""
        time.sleep(seconds)
