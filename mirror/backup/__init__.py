"""Backing up: one run over the configured workspaces. See `run`."""

from mirror.backup.backup import RunCancelled, run

__all__ = ["RunCancelled", "run"]
