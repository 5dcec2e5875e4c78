"""Interfaces of the outside world: the clock, progress reports, and request counts of other processes.

Only the edges (`cli`, `daemon`) implement them, with `progress.py` for what both show; tests have their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


# Stages that end the work on a subject: for good, or until its next turn in the same run.
DONE, LATER = "done", "later"


class Progress(Protocol):
    """Receives the progress of long work. Cheap to call often, and from any thread."""

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """`subject` (such as a repository's full name) is at `stage`, with counts if they are known.

        The stage `DONE` ends the subject; `LATER` says that it goes on after others had their turn.
        """
        ...

    def expect(self, costs: Mapping[str, float], *, more: bool = False) -> None:
        """These subjects will be worked on, each with its likely cost in any unit, the same for all.

        With `more` others follow that are not known yet, so nobody can say how much there is in all.
        """
        ...

    def received(self, objects: int, size: int) -> None:
        """So many more git objects and bytes were received, or read where the work is to read."""
        ...

    def requested(self, requests: int, left: int | None, limit: int | None) -> None:
        """So many more requests were sent to the API. `left` may be sent now, and `limit` in an hour; None
        where that is not known."""
        ...

    def due(self, requests: int) -> None:
        """So many requests are known to be needed still."""
        ...

    def wait(self, subject: str, seconds: float) -> None:
        """`subject` (such as the rate limit) lets requests go on in so many seconds. `DONE` ends it."""
        ...


class NoProgress:
    """A Progress that ignores everything."""

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Ignore it."""

    def expect(self, costs: Mapping[str, float], *, more: bool = False) -> None:
        """Ignore it."""

    def received(self, objects: int, size: int) -> None:
        """Ignore it."""

    def requested(self, requests: int, left: int | None, limit: int | None) -> None:
        """Ignore it."""

    def due(self, requests: int) -> None:
        """Ignore it."""

    def wait(self, subject: str, seconds: float) -> None:
        """Ignore it."""
