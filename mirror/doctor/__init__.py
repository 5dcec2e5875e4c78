"""Checks for what would prevent a complete backup.

Each check names what it examined, the finding and the remedy. One that could not be made says so.
"""

from __future__ import annotations

from mirror.doctor.checks import Check, Report
from mirror.doctor.doctor import run
from mirror.doctor.record import record

__all__ = ["Check", "Report", "record", "run"]
