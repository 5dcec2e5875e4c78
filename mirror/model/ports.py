"""What the rooms ask of the world outside: the time, and somebody to tell how far they are.

Only the edges (`cli`, `daemon`) hold the real ones; tests hold their own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time, injected: no room below the edges reads the machine's clock."""

    def now(self) -> datetime:
        """The time of day, aware and in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from some fixed point; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; other work goes on."""
        ...


class Progress(Protocol):
    """Somebody to tell how far a long piece of work is. Cheap to call often."""

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """`subject` (a repository's full name, say) is at `stage`; counts where they are known.

        Stage `done` ends the subject.
        """
        ...


class NoProgress:
    """A Progress that nobody watches."""

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Forget it."""
