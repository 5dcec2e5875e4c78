"""The daemon: runs backup, verify and prune by the schedule, unattended."""

from mirror.daemon.service import serve

__all__ = ["serve"]
