"""The daemon: backup and verify by the schedule, for years, without anybody looking."""

from mirror.daemon.service import serve

__all__ = ["serve"]
