"""Jobs for worker processes: a job and its result are plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mirror.git.pack.limits import PackLimits
from mirror.http import network

# Called with a few words on how far a job is, and how much is done of how much, where that is known.
Tell = Callable[[str, int | None, int | None], None]
# Called with numbers of git objects and bytes that were received, or read where the work is to read.
Received = Callable[[int, int], None]
# Returns monotonic seconds.
Clock = Callable[[], float]
_R_co = TypeVar("_R_co", covariant=True)


def _nobody(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class OnProgress:
    """What a job calls now and then. Cheap, and safe in any thread."""

    tell: Tell = _nobody
    received: Received = _nobody

    def __call__(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Tell how far the job is: `done` of `total`, where that is known."""
        self.tell(text, done, total)


class Job(Protocol[_R_co]):
    """A job; it and its result must survive pickling."""

    def do(self, progress: OnProgress, clock: Clock, limits: PackLimits, /) -> _R_co:
        """Do the job in this process. `progress` is called now and then; packs are received within
        `limits`. Raises what the work raises."""


# The progress of a caller that has no use for it.
no_progress = OnProgress()


@dataclass(frozen=True)
class NetworkJob:
    """Give a worker the network settings. It is the first job of each worker."""

    network: network.Network

    def do(self, _progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> None:
        """Use these settings from now on."""
        network.use(self.network)
