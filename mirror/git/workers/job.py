"""Jobs for worker processes: a job and its result are plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mirror.git.pack.limits import PackLimits
from mirror.http import network

# Called with a few words on how far a job is.
OnProgress = Callable[[str], None]
# Returns monotonic seconds.
Clock = Callable[[], float]
_R_co = TypeVar("_R_co", covariant=True)


class Job(Protocol[_R_co]):
    """A job; it and its result must survive pickling."""

    def do(self, progress: OnProgress, clock: Clock, limits: PackLimits, /) -> _R_co:
        """Do the job in this process. `progress` is called now and then; packs are received within
        `limits`. Raises what the work raises."""


def no_progress(_: str) -> None:
    """The progress callback of a caller that has no use for one."""


@dataclass(frozen=True)
class NetworkJob:
    """Give a worker the network settings. It is the first job of each worker."""

    network: network.Network

    def do(self, _progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> None:
        """Use these settings from now on."""
        network.use(self.network)
