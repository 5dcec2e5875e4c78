"""What stands in the way of a backup, found out before it is needed.

Each check says what it looked at, what it found and what to do. One that could not be made says so.
"""

from __future__ import annotations

from mirror.doctor.checks import Check, Report
from mirror.doctor.doctor import run
from mirror.doctor.record import record

__all__ = ["Check", "Report", "record", "run"]
