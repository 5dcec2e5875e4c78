"""The limits of a fetch over HTTP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchLimits:
    """When a fetch is given up.

    `advertisement_bytes`: the size of a list of refs (a million refs with the longest sensible names).
    `read_bytes`: how many bytes are waited for at a time. `preparing_seconds`: how long a server may take to
    prepare a pack while it reports progress.

    `failures` and `repeated_failures`: after how many failed requests for objects the fetch ends; the second
    is for refs that failed in the last run, too. `failures_per_success`: how many more each success allows.
    `failing_seconds`: how long failed requests in a row may take together.
    """

    advertisement_bytes: int = 256 << 20
    read_bytes: int = 1 << 16
    preparing_seconds: float = 4 * 3600.0
    failures: int = 60
    repeated_failures: int = 16
    failures_per_success: int = 8
    failing_seconds: float = 1800.0


DEFAULT_FETCH_LIMITS = FetchLimits()
