"""Which failed requests are sent again, and after which delay: the same for the API, git and LFS."""

from __future__ import annotations

import random
from collections.abc import Callable

TRIES_MAX = 5
BACKOFF_FIRST = 1.0
BACKOFF_MAX = 60.0
# The longest delay, in seconds, that a server may ask for; longer ones are not waited out.
WAIT_MAX = 300.0


def is_retryable(status: int) -> bool:
    """Whether a request that was refused with this status may succeed later."""
    return status in (408, 425, 429) or (status >= 500 and status not in (501, 505, 507, 509))


def retry_delay(
    attempts: int,
    asked: float | None,
    *,
    first: float | None = None,
    chance: Callable[[], float] = random.random,
) -> float | None:
    """The seconds to wait before the next attempt; None after the last one.

    `attempts` is how many were made, `asked` the delay that the server asks for. `first` and `chance`: see
    `backoff`.
    """
    if attempts >= TRIES_MAX:
        return None
    delay = backoff(attempts, first=first, chance=chance)
    return delay if asked is None else max(delay, asked)


def backoff(
    attempts: int,
    *,
    first: float | None = None,
    most: float = BACKOFF_MAX,
    chance: Callable[[], float] = random.random,
) -> float:
    """An exponential delay in seconds after `attempts`, from `first` (None: BACKOFF_FIRST) to `most`.

    `chance` returns a number from 0 to 1: the jitter, so that many clients do not retry at the same moment.
    """
    delay = min(most, (BACKOFF_FIRST if first is None else first) * 2.0 ** (attempts - 1))
    return delay * (0.5 + chance() / 2)
