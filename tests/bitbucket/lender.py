"""A lender in memory to whom several borrowers go, as hosts go to a database."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from mirror.bitbucket.client.local_leases import HOUR, allowed_of
from mirror.errors import TryLater
from mirror.model import UseJournal
from mirror.model.leases import Hour, Lease
from tests.auth import helpers

SECONDS = 30.0


class FakeClock(helpers.FakeClock):
    """Time that passes only while somebody sleeps, and lets others go on meanwhile."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await asyncio.sleep(0)


class Lender:
    """Lends at most so many requests in any hour. What it lent counts until an hour after the last moment at
    which it may be sent, unless it is given back."""

    def __init__(self, clock: FakeClock, limit: int) -> None:
        self.clock, self.limit = clock, limit
        self.lent: dict[str, tuple[int, float]] = {}
        self.blocked_until = 0.0
        self.is_reachable = True
        self.asked = 0
        self._ids = itertools.count()

    def used(self) -> int:
        now = self.clock.monotonic()
        self.lent = {name: one for name, one in self.lent.items() if one[1] + HOUR > now}
        return sum(requests for requests, _ in self.lent.values())

    def again(self) -> float:
        ends = [until for _, until in self.lent.values()]
        return min(ends) + HOUR - self.clock.monotonic() if ends else 0.0

    def lend(self, most: int) -> Lease:
        self.asked += 1
        if not self.is_reachable:
            raise TryLater("the lender cannot be reached, so nothing is sent")
        now = self.clock.monotonic()
        requests = max(0, most)
        if not requests:
            return Lease(0, again=self.again())
        name, until = str(next(self._ids)), now + SECONDS
        self.lent[name] = (requests, until)
        return Lease(requests, until, id=name)


class Borrower:
    """What one host knows of the lender (the port `Leases`). Each word with it takes a moment."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender
        self._reserve = 0

    def allow(self, *, reserve: int, limit: int) -> None:
        self._reserve = reserve

    def _allowed(self, *, spares: bool) -> int:
        return allowed_of(self.lender.limit, reserve=self._reserve, spares=spares)

    async def lease(self, identity: str, group: str, want: int, *, spares: bool) -> Lease:
        await asyncio.sleep(0)
        used = self.lender.used()
        lease = self.lender.lend(min(want, self._allowed(spares=spares) - used))
        await asyncio.sleep(0)
        return lease

    async def give_back(self, identity: str, group: str, lease: Lease, unused: int) -> None:
        await asyncio.sleep(0)
        requests, until = self.lender.lent.get(lease.id, (0, 0.0))
        if self.lender.is_reachable and requests:
            self.lender.lent[lease.id] = (requests - unused, until)

    def hour(self, identity: str, group: str, *, spares: bool) -> Hour:
        now, used = self.lender.clock.monotonic(), self.lender.used()
        free = self._allowed(spares=spares) - used
        blocked = max(0.0, self.lender.blocked_until - now)
        return Hour(used, self.lender.limit, free, self.lender.again(), blocked)

    def hours(self) -> Sequence[tuple[str, str, int, int]]:
        return [("me", "api", self.lender.used(), self.lender.limit)]

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """It knows the limit."""

    def block(self, identity: str, group: str, seconds: float) -> None:
        self.lender.blocked_until = self.lender.clock.monotonic() + seconds

    def share(self, journal: UseJournal) -> None:
        """It counts everything itself."""

    def settle(self) -> None:
        """It is told everything at once."""
