"""Warnings in the log about credentials that expire: 30, 14, 7 and 1 days ahead, and once they have.

What was warned of is kept in the store's cache, as that of notices is: a restart does not repeat it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mirror.config import Config
from mirror.connect.notices import expiring_report
from mirror.logs import get_logger
from mirror.notify.conditions import Event
from mirror.notify.judgement import judge
from mirror.notify.memory import Memory, Topic
from mirror.store.format.layout import CACHE

# The topic of the warnings, beside that of the notices about the same credentials.
_TOPIC = "credentials in the log"

_log = get_logger("daemon")


class ExpiryWarnings:
    """Warns of the credentials of a configuration. Where the store cannot be read or written, this process
    remembers what it warned of."""

    def __init__(self) -> None:
        self._warned: dict[Path, Topic] = {}

    def look(self, config: Config, now: datetime) -> None:
        """Log each credential that has come nearer to its expiry by one of the steps."""
        memory = Memory(config.store / CACHE)
        before = self._warned.get(config.store) or memory.read(_TOPIC)
        report = replace(expiring_report(config, now.date()), topic=_TOPIC)
        verdict = judge(report, before, now=now, on=(Event.EXPIRING,))
        for one in verdict.conditions if verdict.kind == "new" else ():
            if one.notified is None:
                _log.warning("daemon.credential_expires", fault=one.condition.text)
        self._warned[config.store] = verdict.if_sent
        memory.write(_TOPIC, verdict.if_sent)
