"""What the rooms ask of the world outside: the time, and somebody to tell how far they are.

Only the edges (`cli`, `daemon`) hold the real ones; tests hold their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Use:
    """What one identity asked of one group of resources: how long ago each request was, in seconds, and
    for how many seconds more nothing may be asked."""

    identity: str
    group: str
    made: tuple[float, ...] = ()
    blocked: float = 0.0


class UseJournal(Protocol):
    """Where the use of the last hour is kept, for other processes and for the next one."""

    def exchange(self, own: Sequence[Use]) -> Sequence[Use]:
        """Keep what this process used, and give what others did of the same, in the same order. Never
        fails: where nothing can be kept or read, nobody else used anything."""
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
