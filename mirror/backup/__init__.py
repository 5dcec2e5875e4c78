"""Backing up: one run over the configured workspaces. See `run`."""

from mirror.backup.run import RunCancelled, run

__all__ = ["RunCancelled", "run"]
