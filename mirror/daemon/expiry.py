"""Warnings in the log about credentials that expire: 30, 14, 7 and 1 days ahead, and once they have.

What was warned of is kept in the store's cache, as that of notices is: a restart does not repeat it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from mirror.config import Config
from mirror.connect.notices import expiring_report
from mirror.logs import get_logger
from mirror.notify.conditions import Event
from mirror.notify.judgement import judge
from mirror.notify.memory import Memory
from mirror.store.format.layout import CACHE

# The topic of the warnings, beside that of the notices about the same credentials.
_TOPIC = "credentials in the log"

_log = get_logger("daemon")


def warn_of_expiry(config: Config, now: datetime) -> None:
    """Log each credential that has come nearer to its expiry by one of the steps."""
    report = replace(expiring_report(config, now.date()), topic=_TOPIC)
    memory = Memory(config.store / CACHE)
    verdict = judge(report, memory.read(_TOPIC), now=now, on=(Event.EXPIRING,))
    for one in verdict.conditions if verdict.kind == "new" else ():
        if one.notified is None:
            _log.warning("daemon.credential_expires", fault=one.condition.text)
    memory.write(_TOPIC, verdict.if_sent)
