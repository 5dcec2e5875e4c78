"""The lender within one process: one ledger for each identity and group of resources.

Bitbucket counts requests over a rolling hour: 1,000 for most, up to 10,000 for access tokens of large paid
workspaces, 5,000 for files. The true limit is learned from headers and refusals. A reserve is never used, so
that a restore can start at any time. A journal shares the use with other processes of this host, and keeps
that of earlier ones, even if they were killed.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from mirror.model import Clock, Use, UseJournal
from mirror.model.leases import Hour, Lease

HOUR = 3600.0
LIMIT_DEFAULT = 1000
# By group of resources, the documented limit where it differs from LIMIT_DEFAULT.
LIMITS_OF = {"files": 5000}
# Requests that spare others leave them one of so many of the hour's limit.
SPARED = 4
# No lower limit is inferred from a refusal: a burst may be refused at the start of an hour.
LIMIT_LEAST = 60
# After this many requests or seconds, the use is exchanged with the journal.
EXCHANGE_REQUESTS = 20
EXCHANGE_SECONDS = 30.0
# The longest wait after a refusal, in seconds: the window itself.
WAIT_MAX = HOUR


def assumed_limit(group: str, limit: int) -> int:
    """The assumed limit of a group until the server reports one, where the configuration says `limit`. One
    below LIMIT_DEFAULT applies to all groups."""
    usual = LIMITS_OF.get(group)
    return limit if usual is None or limit < LIMIT_DEFAULT else max(usual, limit)


def allowed_of(limit: int, *, reserve: int, spares: bool = False) -> int:
    """How many requests of an hour's limit may be sent. A reserve larger than the limit must not block
    everything for ever."""
    return max(1, max(1, limit - reserve) - (limit // SPARED if spares else 0))


@dataclass
class _Ledger:
    limit: int
    # Until when a limit inferred from a refusal applies; one from headers applies until they change.
    inferred_until: float = 0.0
    limit_known: bool = False
    # Timestamps of requests: ours; others', inferred from rate-limit headers; others', from the shared
    # journal. The last two overlap, so only the larger counts.
    made: deque[float] = field(default_factory=deque)
    inferred: deque[tuple[float, int]] = field(default_factory=deque)  # each with a number of requests
    others: deque[float] = field(default_factory=deque)
    blocked_until: float = 0.0

    @property
    def used(self) -> int:
        """The number of requests in the last hour."""
        return len(self.made) + max(self.inferred_count, len(self.others))

    def used_since(self, time: float) -> int:
        """As `used`, of the requests after `time`; forgets nothing."""
        made, others, inferred = tuple(self.made), tuple(self.others), tuple(self.inferred)
        seen = sum(count for when, count in inferred if when > time)
        return sum(when > time for when in made) + max(seen, sum(when > time for when in others))

    @property
    def inferred_count(self) -> int:
        """The number of requests that are known only from headers."""
        return sum(count for _, count in self.inferred)

    def forget(self, before: float) -> None:
        """Drop requests from `before` or earlier."""
        for several in (self.made, self.others):
            while several and several[0] <= before:
                several.popleft()
        while self.inferred and self.inferred[0][0] <= before:
            self.inferred.popleft()

    def nth(self, number: int) -> float:
        """The time of request `number`, counted from the oldest, which is 0."""
        others = [(one, 1) for one in self.others]
        if self.inferred_count > len(others):
            others = list(self.inferred)
        times = sorted([*((one, 1) for one in self.made), *others])
        before = itertools.accumulate(count for _, count in times)
        return next(when for (when, _), so_far in zip(times, before, strict=True) if so_far > number)


class LocalLeases:
    """The lender within this process (the port `Leases`). It lends one request at a time: asking costs
    nothing here."""

    def __init__(self, clock: Clock, *, reserve: int = 0, limit: int = LIMIT_DEFAULT) -> None:
        self._clock = clock
        self._ledgers: dict[tuple[str, str], _Ledger] = {}
        self._journal: UseJournal | None = None
        self._exchanged, self._since_then = 0.0, 0
        self.allow(reserve=reserve, limit=limit)

    def allow(self, *, reserve: int, limit: int) -> None:
        """See `Leases.allow`."""
        self._reserve, self._limit = max(0, reserve), limit
        for (_, group), ledger in self._ledgers.items():
            if not ledger.limit_known and not ledger.inferred_until:
                ledger.limit = assumed_limit(group, limit)

    def share(self, journal: UseJournal) -> None:
        """See `Leases.share`."""
        self._journal = journal
        self.settle()

    def settle(self) -> None:
        """Write our use to the journal, and read that of others."""
        if self._journal is None:
            return
        now = self._clock.monotonic()
        self._exchanged, self._since_then = now, 0
        own = [
            Use(*key, tuple(now - one for one in ledger.made), max(0.0, ledger.blocked_until - now))
            for key, ledger in self._ledgers.items()
        ]
        for ledger, other in zip(self._ledgers.values(), self._journal.exchange(own), strict=True):
            ledger.others = deque(sorted(now - max(one, 0.0) for one in other.made))
            ledger.blocked_until = max(ledger.blocked_until, now + min(other.blocked, WAIT_MAX))

    def _ledger(self, identity: str, group: str) -> _Ledger:
        ledger = self._ledgers.get((identity, group))
        is_new = ledger is None
        if ledger is None:
            ledger = self._ledgers[identity, group] = _Ledger(assumed_limit(group, self._limit))
        now = self._clock.monotonic()
        if is_new or self._since_then >= EXCHANGE_REQUESTS or now - self._exchanged >= EXCHANGE_SECONDS:
            self.settle()
        if ledger.inferred_until and now >= ledger.inferred_until:
            ledger.limit, ledger.inferred_until = assumed_limit(group, self._limit), 0.0
        ledger.forget(now - HOUR)
        return ledger

    async def lease(self, identity: str, group: str, want: int, *, spares: bool) -> Lease:
        """See `Leases.lease`: one request, or none."""
        hour = self.hour(identity, group, spares=spares)
        if min(want, hour.free) < 1 or hour.blocked > 0:
            return Lease(0, again=max(hour.again, hour.blocked))
        self._ledger(identity, group).made.append(self._clock.monotonic())
        self._since_then += 1
        return Lease(1)

    async def give_back(self, identity: str, group: str, lease: Lease, unused: int) -> None:
        """See `Leases.give_back`. A request that was lent here is sent at once."""

    def hour(self, identity: str, group: str, *, spares: bool) -> Hour:
        """See `Leases.hour`."""
        ledger, now = self._ledger(identity, group), self._clock.monotonic()
        allowed = allowed_of(ledger.limit, reserve=self._reserve, spares=spares)
        free = allowed - ledger.used
        again = ledger.nth(ledger.used - allowed) + HOUR - now if free <= 0 else 0.0
        return Hour(ledger.used, ledger.limit, free, again, max(0.0, ledger.blocked_until - now))

    def hours(self) -> Sequence[tuple[str, str, int, int]]:
        """See `Leases.hours`."""
        since = self._clock.monotonic() - HOUR
        return [(*key, one.used_since(since), one.limit) for key, one in list(self._ledgers.items())]

    def block(self, identity: str, group: str, seconds: float) -> None:
        """See `Leases.block`: at most for the window.

        Where no header ever reported the limit, it is inferred from the requests so far, for an hour.
        """
        ledger = self._ledger(identity, group)
        now = self._clock.monotonic()
        ledger.blocked_until = max(ledger.blocked_until, now + min(max(seconds, 0.0), WAIT_MAX))
        if not ledger.limit_known and LIMIT_LEAST <= ledger.used < ledger.limit:
            ledger.limit, ledger.inferred_until = ledger.used, now + HOUR
        self.settle()

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """See `Leases.learn`: others may use the same identity."""
        ledger = self._ledger(identity, group)
        if limit is None or limit <= 0:
            return
        ledger.limit, ledger.limit_known, ledger.inferred_until = limit, True, 0.0
        if remaining is not None and 0 <= remaining <= limit:
            # Count the requests that are not ours.
            unseen = (limit - remaining) - len(ledger.made) - ledger.inferred_count
            if unseen > 0:
                ledger.inferred.append((self._clock.monotonic(), unseen))
