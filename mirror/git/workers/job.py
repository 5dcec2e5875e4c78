"""Work for worker processes: a plain value that says what to do, and one that says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mirror.http import network

Tell = Callable[[str], None]
# Monotonic seconds.
Clock = Callable[[], float]
_R_co = TypeVar("_R_co", covariant=True)


class Job(Protocol[_R_co]):
    """A job; it and its result must survive pickling."""

    def do(self, tell: Tell, clock: Clock, /) -> _R_co:
        """Do it here and now, telling how far it is; raises what the work raises."""


@dataclass(frozen=True)
class NetworkJob:
    """Tell a worker how servers are reached. It comes before all other jobs."""

    network: network.Network

    def do(self, _tell: Tell, _clock: Clock, /) -> None:
        """Heed it from now on."""
        network.use(self.network)
