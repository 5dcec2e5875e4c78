"""Warnings about tokens that are about to expire."""

from __future__ import annotations

from datetime import date

from mirror.config.settings import Config
from mirror.errors import Fault

# Days ahead at which the daemon warns again; every other command warns from the first one on.
WARN_DAYS = (30, 14, 7, 1)


def expiring(config: Config, today: date) -> list[tuple[int, Fault]]:
    """The tokens that expire within 30 days or have expired, each with the days left (negative once
    expired), the most urgent first."""
    found = []
    for one in config.expiries:
        left = (one.expires - today).days
        if left > WARN_DAYS[0]:
            continue
        when = f"in {left} day{'s' if left != 1 else ''}, on" if left > 0 else "today,"
        state = f"expires {when} {one.expires}" if left >= 0 else f"expired on {one.expires}"
        remedy = "make a new token, and set its expiry date here"
        found.append((left, Fault(one.line, one.key, f"the {one.kind} {state}", remedy)))
    return sorted(found, key=lambda item: (item[0], item[1].key))
