"""Work for worker processes: a plain value that says what to do, and one that says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mirror.http import network

# Called with a few words on how far a job is.
OnProgress = Callable[[str], None]
# Returns monotonic seconds.
Clock = Callable[[], float]
_R_co = TypeVar("_R_co", covariant=True)


class Job(Protocol[_R_co]):
    """A job; it and its result must survive pickling."""

    def do(self, progress: OnProgress, clock: Clock, /) -> _R_co:
        """Do it here and now, telling how far it is; raises what the work raises."""


def no_progress(_: str) -> None:
    """The progress callback of a caller that has no use for one."""


@dataclass(frozen=True)
class NetworkJob:
    """Tell a worker how servers are reached. It comes before all other jobs."""

    network: network.Network

    def do(self, _progress: OnProgress, _clock: Clock, /) -> None:
        """Heed it from now on."""
        network.use(self.network)
