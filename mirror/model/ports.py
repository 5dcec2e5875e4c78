"""Interfaces of the outside world: the clock, progress reports, and request counts of other processes.

Only the edges (`cli`, `daemon`) implement them; tests have their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The time. No room below the edges reads the machine's clock."""

    def now(self) -> datetime:
        """The current time, timezone-aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since a fixed point; never decreases."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking."""
        ...


@dataclass(frozen=True)
class Use:
    """The requests of one identity for one group of resources: the age of each in seconds (`made`), and for
    how many more seconds requests are blocked."""

    identity: str
    group: str
    made: tuple[float, ...] = ()
    blocked: float = 0.0


class UseJournal(Protocol):
    """Shares the requests of the last hour with other processes and the next one."""

    def exchange(self, own: Sequence[Use]) -> Sequence[Use]:
        """Store this process's requests, and return those of others for the same identities and groups, in
        the same order. Never raises: without storage, there are no others."""
        ...


class Progress(Protocol):
    """Receives the progress of long work. Cheap to call often."""

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """`subject` (such as a repository's full name) is at `stage`, with counts if they are known.

        The stage `done` ends the subject.
        """
        ...


class NoProgress:
    """A Progress that ignores all reports."""

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Ignore the report."""
