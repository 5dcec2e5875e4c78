"""The schedule, as a service."""
from mirror.daemon.service import serve

__all__ = ["serve"]
