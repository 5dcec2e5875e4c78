"""Warnings in the log about credentials that expire."""

from __future__ import annotations

from datetime import date

from mirror.config import WARN_DAYS, Config, expiring
from mirror.logs import get_logger

_log = get_logger("daemon")


class ExpiryWarnings:
    """Warns about each credential that expires soon: at start, and again with 14, 7 and 1 days left."""

    def __init__(self) -> None:
        # By key of the configuration, the days ahead of its last warning.
        self._warned: dict[str, int] = {}

    def look(self, config: Config, today: date) -> None:
        """Log what is new today."""
        name = str(config.source or "the configuration")
        steps: dict[str, int] = {}
        for left, fault in expiring(config, today):
            steps[fault.key] = min(days for days in WARN_DAYS if left <= days) if left >= 0 else -1
            if self._warned.get(fault.key) != steps[fault.key]:
                _log.warning("daemon.credential_expires", days_left=left, fault=fault.text(name))
        self._warned = steps
