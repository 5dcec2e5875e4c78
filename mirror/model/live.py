"""What is happening now: the picture of running work, and what a service tells its page.

The edges implement the ports: a terminal and a page draw the same `Picture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Activity:
    """What is done for one subject, such as a repository, with counts where they are known."""

    subject: str
    stage: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Picture:
    """The progress of one run so far.

    `done` of `total` subjects are finished (`total` None: not known yet). `objects`, `bytes` and `requests`
    are what the run has received and sent; `requests_left` is what the hour's budget still has. `seconds`
    have passed; `seconds_left` is an estimate, None where there is no honest one. `waiting` is for how many
    more seconds the rate limit holds requests back, where it does.
    """

    activities: tuple[Activity, ...] = ()
    done: int = 0
    total: int | None = None
    objects: int = 0
    bytes: int = 0
    requests: int = 0
    requests_left: int | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    waiting: float | None = None


@dataclass(frozen=True)
class RunningJob:
    """A job of the service that runs: its kind, its workspace (None: all), and since when."""

    kind: str
    workspace: str | None
    since: datetime
    picture: Picture = field(default_factory=Picture)


@dataclass(frozen=True)
class NextJob:
    """When a job of the schedule runs next (None: never), and how its schedule reads."""

    kind: str
    workspace: str | None
    time: datetime | None
    schedule: str
    is_overdue: bool = False


@dataclass(frozen=True)
class BudgetLeft:
    """The hour's requests of one credential, named by its place in the configuration, for one group."""

    credential: str
    group: str
    used: int
    limit: int


@dataclass(frozen=True)
class HooksState:
    """What hooks did since the service started, and whether they proved true in the last whole polls."""

    received: int = 0
    refused: int = 0
    announced: int = 0
    unannounced_changes: int = 0
    are_trusted: bool = False
    last: datetime | None = None


class HookEvents(Protocol):
    """Takes what the hooks' door receives. Never blocks, and never raises."""

    def announce(self, uuid: str | None, event: bytes) -> None:
        """A true hook came about the repository `uuid`, in Bitbucket's form (None: about none). A hook that
        is sent once more has the same `event`."""
        ...

    def refuse(self) -> None:
        """A request was refused."""
        ...


class Live(Protocol):
    """What a running service tells its page. Cheap, and never blocks."""

    def since(self) -> datetime:
        """When the service started."""
        ...

    def running(self) -> Sequence[RunningJob]:
        """The jobs that run now."""
        ...

    def following(self) -> Sequence[NextJob]:
        """The jobs of the schedule."""
        ...

    def budget(self) -> Sequence[BudgetLeft]:
        """The hour's requests of each credential."""
        ...

    def hooks(self) -> HooksState | None:
        """What hooks did; None where there are none."""
        ...

    def not_ready(self) -> Sequence[str]:
        """Why the service is not ready, for `/readyz`; empty where it is."""
        ...
