"""When a request that failed is sent again, and after what wait: the same for the API, git and LFS."""

from __future__ import annotations

import random
from collections.abc import Callable

TRIES_MAX = 5
BACKOFF_FIRST = 1.0
BACKOFF_MAX = 60.0
# A failing server may ask for patience, but is not obeyed for ever.
WAIT_MAX = 300.0


def is_passing(status: int) -> bool:
    """Whether what is refused with this status may go better later."""
    return status in (408, 425, 429) or (status >= 500 and status not in (501, 505, 507, 509))


def wait_before(
    tried: int,
    told: float | None,
    *,
    first: float | None = None,
    chance: Callable[[], float] = random.random,
) -> float | None:
    """How many seconds to wait before the next try; None where there is to be none.

    `tried` is how many tries there were, `told` what the server asks for, `chance` a number from 0 to 1
    that keeps many clients from coming back in step.
    """
    if tried >= TRIES_MAX:
        return None
    wait = min(BACKOFF_MAX, (BACKOFF_FIRST if first is None else first) * 2.0 ** (tried - 1))
    wait *= 0.5 + chance() / 2
    return float(wait if told is None else max(wait, told))
