"""Letting go, on purpose: what retention allows (`prune`), what somebody erases, and the losses that
somebody accepts. Each is a run with a record."""

from mirror.prune.accept import accept_loss
from mirror.prune.common import RunCancelled
from mirror.prune.erase import What, erase
from mirror.prune.prune import prune

__all__ = ["RunCancelled", "What", "accept_loss", "erase", "prune"]
