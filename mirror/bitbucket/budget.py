"""The hour's requests: one ledger for each identity and group of resources.

Bitbucket counts over a rolling hour: 1,000 for most, up to 10,000 for access tokens of large paid
workspaces. Headers and refusals teach the true limit. A reserve is never touched, so that a
restore can begin at any time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta

from mirror.bitbucket.failures import RateLimited
from mirror.logs import get_logger
from mirror.model import Clock, time_text

HOUR = 3600.0
LIMIT_DEFAULT = 1000
LIMIT_MAX = 10_000
# A refusal that names no time is waited out for at most the window itself.
WAIT_MAX = HOUR

_log = get_logger("bitbucket")


@dataclass
class _Ledger:
    limit: int = LIMIT_DEFAULT
    made: deque[float] = field(default_factory=deque)
    blocked_until: float = 0.0
    # When the last wait that was logged ends: many requests wait for the same moment.
    logged_until: float = 0.0


class Budget:
    """Requests made and allowed. Share one among all clients of a process.

    `reserve` requests of each hour are left unused. `patience` is how long, in seconds, one
    request may wait in all before RateLimited is raised.
    """

    def __init__(self, clock: Clock, *, reserve: int = 0, patience: float = 2 * HOUR) -> None:
        self._clock = clock
        self._reserve = max(0, reserve)
        self.patience = patience
        self._ledgers: dict[tuple[str, str], _Ledger] = {}

    def _ledger(self, identity: str, group: str) -> _Ledger:
        ledger = self._ledgers.setdefault((identity, group), _Ledger())
        now = self._clock.monotonic()
        while ledger.made and ledger.made[0] <= now - HOUR:
            ledger.made.popleft()
        return ledger

    def left(self, identity: str, group: str) -> int:
        """How many requests may be made right now without waiting."""
        ledger = self._ledger(identity, group)
        if self._clock.monotonic() < ledger.blocked_until:
            return 0
        return max(0, self._allowed(ledger) - len(ledger.made))

    def used(self, identity: str, group: str) -> tuple[int, int]:
        """Requests made in the last hour, and the limit as far as it is known."""
        ledger = self._ledger(identity, group)
        return len(ledger.made), ledger.limit

    def _allowed(self, ledger: _Ledger) -> int:
        # A reserve larger than the limit must not stop everything for ever.
        return max(1, ledger.limit - self._reserve)

    async def acquire(self, identity: str, group: str, *, since: float | None = None) -> None:
        """Wait for the right to make one request, and count it.

        `since` is when (monotonic) the waiting began, where this is not the first try. Raises
        RateLimited where that would take longer than the budget's patience.
        """
        began = self._clock.monotonic() if since is None else since
        while True:
            ledger = self._ledger(identity, group)
            now = self._clock.monotonic()
            if now < ledger.blocked_until:
                wait = ledger.blocked_until - now
            elif len(ledger.made) >= self._allowed(ledger):
                wait = ledger.made[len(ledger.made) - self._allowed(ledger)] + HOUR - now
            else:
                ledger.made.append(now)
                return
            resume = self._clock.now() + timedelta(seconds=wait)
            if now - began + wait > self.patience:
                error = RateLimited(f"the rate limit leaves no requests before {time_text(resume)}")
                error.resume_at = resume
                raise error
            if now + wait >= ledger.logged_until + 1:
                ledger.logged_until = now + wait
                _log.info(
                    "budget.waiting",
                    group=group,
                    used=len(ledger.made),
                    limit=ledger.limit,
                    reserve=ledger.limit - self._allowed(ledger),
                    resumes=time_text(resume),
                )
            await self._clock.sleep(max(wait, 0.001))

    def count(self, identity: str, group: str, requests: int) -> None:
        """Count requests that were made without asking first (a renewal's second try)."""
        self._ledger(identity, group).made.extend([self._clock.monotonic()] * requests)

    def block(self, identity: str, group: str, seconds: float) -> None:
        """A refusal: nothing more for `seconds` (bounded by the window)."""
        ledger = self._ledger(identity, group)
        until = self._clock.monotonic() + min(max(seconds, 0.0), WAIT_MAX)
        ledger.blocked_until = max(ledger.blocked_until, until)

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """What the headers of an answer say of the limit and of what others have used of it."""
        ledger = self._ledger(identity, group)
        if limit is None or not 0 < limit <= LIMIT_MAX:
            return
        ledger.limit = limit
        if remaining is not None and 0 <= remaining <= limit:
            # Somebody else may use the same identity; count what we did not make ourselves.
            unseen = (limit - remaining) - len(ledger.made)
            now = self._clock.monotonic()
            ledger.made.extend([now] * max(0, unseen))
