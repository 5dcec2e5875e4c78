"""Jobs that concern one subject each, and the port of the queue that has them done.

Jobs are plain values, so that a queue can keep them in a database and hand them to other hosts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from mirror.model.runs import RunKind

# A run of the schedule, or a list of all workspaces.
JobKind = Literal[RunKind, "discover"]


@dataclass(frozen=True)
class Job:
    """Work on one subject: the uuid of a repository, a run of the schedule (`Scope.job`), or empty for
    everything.

    `git_only`: the API is not asked. `is_news`: a hook that never came before asks for it. `is_foreign`:
    another host received a hook that asks for it.
    """

    kind: JobKind
    subject: str
    git_only: bool = False
    is_news: bool = False
    is_foreign: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What may run once, and wait once, at a time."""
        return self.kind, self.subject

    def joined(self, other: Job) -> Job:
        """One job for both. They have the same key."""
        git_only, is_news = self.git_only and other.git_only, self.is_news or other.is_news
        return Job(self.kind, self.subject, git_only, is_news, self.is_foreign or other.is_foreign)


class Queue(Protocol):
    """Takes jobs, and has them done."""

    def put(self, job: Job, *, after: float) -> None:
        """Do the job in `after` seconds, at the earliest. It joins one with its key that waits, whose time
        stays unless this one is sooner. Never blocks, and never raises."""
        ...

    async def stop(self) -> None:
        """Do nothing more: what waits is dropped, what runs is cancelled and has ended."""
        ...


# Does a job. It says what goes wrong, and raises only when it is cancelled.
Work = Callable[[Job], Awaitable[None]]
# Makes the queue whose jobs are done so.
QueueOf = Callable[[Work], Queue]
