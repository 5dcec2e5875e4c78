"""Removing on purpose: snapshots that retention does not keep (`prune`), erasures, and accepted losses. Each
is a run with a record."""

from mirror.prune.accept import accept_loss
from mirror.prune.common import RunCancelled
from mirror.prune.erase import ErasureTarget, erase
from mirror.prune.prune import prune

__all__ = ["ErasureTarget", "RunCancelled", "accept_loss", "erase", "prune"]
