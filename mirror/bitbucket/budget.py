"""The hour's requests: one ledger for each identity and group of resources.

Bitbucket counts over a rolling hour: 1,000 for most, up to 10,000 for access tokens of large paid
workspaces. Headers and refusals teach the true limit. A reserve is never touched, so that a
restore can begin at any time.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum

from mirror.bitbucket.failures import RateLimited
from mirror.logs import get_logger
from mirror.model import Clock, time_text

HOUR = 3600.0
LIMIT_DEFAULT = 1000
LIMIT_MAX = 10_000
# A refusal teaches no limit below this: a burst may be refused at the hour's very beginning.
LIMIT_LEAST = 60
# A refusal that names no time is waited out for at most the window itself.
WAIT_MAX = HOUR

_log = get_logger("bitbucket")


class Worth(IntEnum):
    """How much a request matters where there are not enough for all: the lowest goes first.

    IDLE ones leave a quarter of the hour's requests to others.
    """

    FIRST = 0  # what there is, and what has changed
    OPEN = 1  # what belongs to open things, or was never saved at all
    CLOSED = 2  # what belongs to closed ones
    OLD = 3  # what is to be looked at again, and what is kept for the record
    IDLE = 4  # when nobody else wants to ask


@dataclass
class _Ledger:
    limit: int
    # Until when a limit that a refusal taught is believed; headers are believed until they change.
    taught_until: float = 0.0
    is_told: bool = False
    made: deque[float] = field(default_factory=deque)
    blocked_until: float = 0.0
    # Who waits: worth and turn. The first of them has the next request.
    waiting: list[tuple[int, int]] = field(default_factory=list)
    # When the last wait that was logged ends: many requests wait for the same moment.
    logged_until: float = 0.0


class Budget:
    """Requests made and allowed. Share one among all clients of a process.

    `reserve` requests of each hour are left unused. `limit` is what each hour is taken to allow until
    the server tells. `patience` is how long, in seconds, one request may wait in all before
    RateLimited is raised.
    """

    def __init__(
        self, clock: Clock, *, reserve: int = 0, limit: int = LIMIT_DEFAULT, patience: float = 2 * HOUR
    ) -> None:
        self._clock = clock
        self._reserve = max(0, reserve)
        self._limit = limit
        self.patience = patience
        self._ledgers: dict[tuple[str, str], _Ledger] = {}
        self._turns = itertools.count()

    def _ledger(self, identity: str, group: str) -> _Ledger:
        ledger = self._ledgers.setdefault((identity, group), _Ledger(self._limit))
        now = self._clock.monotonic()
        if ledger.taught_until and now >= ledger.taught_until:
            ledger.limit, ledger.taught_until = self._limit, 0.0
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

    async def acquire(
        self,
        identity: str,
        group: str,
        *,
        worth: Worth = Worth.FIRST,
        since: float | None = None,
        until: float | None = None,
    ) -> None:
        """Wait for the right to make one request, and count it. Of those who wait, the one of most
        `worth` has the next.

        `since` is when (monotonic) the waiting began, where this is not the first try; `until` is
        when it must have ended, where that is sooner than the budget's patience. Raises RateLimited
        where it would take longer.
        """
        began = self._clock.monotonic() if since is None else since
        latest = began + self.patience if until is None else until
        turn = (int(worth), next(self._turns))
        ledger = self._ledger(identity, group)
        ledger.waiting.append(turn)
        try:
            while True:
                wait = self._wait(self._ledger(identity, group), worth, turn)
                if wait is None:
                    ledger.made.append(self._clock.monotonic())
                    return
                if self._clock.monotonic() + wait > latest:
                    raise self._refusal(wait)
                self._tell(group, ledger, wait)
                await self._clock.sleep(max(wait, 0.001))
        finally:
            ledger.waiting.remove(turn)

    def _wait(self, ledger: _Ledger, worth: Worth, turn: tuple[int, int]) -> float | None:
        """For how long this one must wait; None where it may go."""
        now = self._clock.monotonic()
        if now < ledger.blocked_until:
            return ledger.blocked_until - now
        allowed = self._allowed(ledger)
        if worth is Worth.IDLE:
            allowed = max(1, allowed - ledger.limit // 4)
        # Who waits with more worth has been counted in already.
        before = sum(1 for one in ledger.waiting if one < turn)
        if len(ledger.made) + before < allowed:
            return None
        if len(ledger.made) >= allowed:
            return ledger.made[len(ledger.made) - allowed] + HOUR - now
        return 0.001

    def _refusal(self, wait: float) -> RateLimited:
        resume = self._clock.now() + timedelta(seconds=wait)
        error = RateLimited(f"the rate limit leaves no requests before {time_text(resume)}")
        error.resume_at = resume
        return error

    def _tell(self, group: str, ledger: _Ledger, wait: float) -> None:
        now = self._clock.monotonic()
        if now + wait < ledger.logged_until + 1:
            return
        ledger.logged_until = now + wait
        _log.info(
            "budget.waiting",
            group=group,
            used=len(ledger.made),
            limit=ledger.limit,
            reserve=ledger.limit - self._allowed(ledger),
            resumes=time_text(self._clock.now() + timedelta(seconds=wait)),
        )

    def count(self, identity: str, group: str, requests: int) -> None:
        """Count requests that were made without asking first (a renewal's second try)."""
        self._ledger(identity, group).made.extend([self._clock.monotonic()] * requests)

    def block(self, identity: str, group: str, seconds: float) -> None:
        """A refusal: nothing more for `seconds` (bounded by the window).

        Where no header ever told the limit, what was made until now is taken for it, for an hour.
        """
        ledger = self._ledger(identity, group)
        now = self._clock.monotonic()
        ledger.blocked_until = max(ledger.blocked_until, now + min(max(seconds, 0.0), WAIT_MAX))
        if not ledger.is_told and LIMIT_LEAST <= len(ledger.made) < ledger.limit:
            ledger.limit, ledger.taught_until = len(ledger.made), now + HOUR

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """What the headers of an answer say of the limit and of what others have used of it."""
        ledger = self._ledger(identity, group)
        if limit is None or not 0 < limit <= LIMIT_MAX:
            return
        ledger.limit, ledger.is_told, ledger.taught_until = limit, True, 0.0
        if remaining is not None and 0 <= remaining <= limit:
            # Somebody else may use the same identity; count what we did not make ourselves.
            unseen = (limit - remaining) - len(ledger.made)
            now = self._clock.monotonic()
            ledger.made.extend([now] * max(0, unseen))
