"""The request budget: one ledger for each identity and group of resources.

Bitbucket counts requests over a rolling hour: 1,000 for most, up to 10,000 for access tokens of large paid
workspaces, 5,000 for files. The true limit is learned from headers and refusals. A reserve is never used, so
that a restore can start at any time. A journal shares the use with other processes, and keeps that of earlier
ones, even if they were killed.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum

from mirror.bitbucket.failures import RateLimited
from mirror.logs import get_logger
from mirror.model import DONE, Clock, NoProgress, Progress, Use, UseJournal, time_text
from mirror.model.live import BudgetLeft

HOUR = 3600.0
LIMIT_DEFAULT = 1000
# By group of resources, the documented limit where it differs from LIMIT_DEFAULT.
LIMITS_OF = {"files": 5000}
# Requests that spare others leave them one of so many of the hour's limit.
SPARED = 4
# No lower limit is inferred from a refusal: a burst may be refused at the start of an hour.
LIMIT_LEAST = 60
# Shorter waits, in seconds, are not reported: they only let other requests go first.
REPORTED_FROM = 0.01
LOGGED_EVERY = 60.0
# After this many requests or seconds, the use is exchanged with the journal.
EXCHANGE_REQUESTS = 20
EXCHANGE_SECONDS = 30.0
# The longest wait after a refusal, in seconds: the window itself.
WAIT_MAX = HOUR

_log = get_logger("bitbucket")


class Priority(IntEnum):
    """Order of requests while the rate limit leaves too few for all: the lowest value goes first.

    IDLE requests leave a quarter of the hour's limit to others (`SPARED`).
    """

    FIRST = 0  # lists of what exists and what changed
    OPEN = 1  # details of open pull requests and issues, and settings that were never saved
    CLOSED = 2  # details of closed ones
    OLD = 3  # settings whose week is over, logs and test reports
    IDLE = 4  # only with requests that nothing else needs


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
    # Waiting callers, as (priority, turn). The lowest gets the next request.
    waiting: list[tuple[int, int]] = field(default_factory=list)
    # When the last logged wait ends, and by run (the id of its Progress) how many callers show a wait.
    logged_until: float = 0.0
    shown: Counter[int] = field(default_factory=Counter)

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


class Budget:
    """Counts requests and allows new ones. All clients of a process share one.

    `reserve` requests of each hour are left unused. `limit` is the assumed limit of an hour until the server
    reports one. `patience` is how long, in seconds, one request may wait before RateLimited is raised.
    `id` identifies this budget in the journal.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        reserve: int = 0,
        limit: int = LIMIT_DEFAULT,
        patience: float = 2 * HOUR,
    ) -> None:
        self._clock = clock
        self.patience = patience
        self.id = secrets.token_hex(8)
        self._ledgers: dict[tuple[str, str], _Ledger] = {}
        self._names: dict[str, str] = {}
        self._turns = itertools.count()
        self._journal: UseJournal | None = None
        self._exchanged, self._since_then = 0.0, 0
        self.allow(reserve=reserve, limit=limit)

    def allow(self, *, reserve: int, limit: int) -> None:
        """Set the reserve, and the assumed limit where no server has reported one."""
        self._reserve, self._limit = max(0, reserve), limit
        for (_, group), ledger in self._ledgers.items():
            if not ledger.limit_known and not ledger.inferred_until:
                ledger.limit = self._assumed(group)

    def _assumed(self, group: str) -> int:
        """The assumed limit of a group until the server reports one. A configured limit below LIMIT_DEFAULT
        applies to all groups."""
        usual = LIMITS_OF.get(group)
        return self._limit if usual is None or self._limit < LIMIT_DEFAULT else max(usual, self._limit)

    def share(self, journal: UseJournal) -> None:
        """Exchange the use with `journal` from now on."""
        self._journal = journal
        self.exchange()

    def exchange(self) -> None:
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
            ledger = self._ledgers[identity, group] = _Ledger(self._assumed(group))
        now = self._clock.monotonic()
        if is_new or self._since_then >= EXCHANGE_REQUESTS or now - self._exchanged >= EXCHANGE_SECONDS:
            self.exchange()
        if ledger.inferred_until and now >= ledger.inferred_until:
            ledger.limit, ledger.inferred_until = self._assumed(group), 0.0
        ledger.forget(now - HOUR)
        return ledger

    def left(self, identity: str, group: str, *, spares: bool = False) -> int:
        """The number of requests that can be made right now without waiting; see `acquire` for `spares`."""
        ledger = self._ledger(identity, group)
        if self._clock.monotonic() < ledger.blocked_until:
            return 0
        return max(0, self._allowed(ledger, spares=spares) - ledger.used)

    def used(self, identity: str, group: str) -> tuple[int, int]:
        """The requests in the last hour, and the limit as far as known."""
        ledger = self._ledger(identity, group)
        return ledger.used, ledger.limit

    def name(self, identity: str, name: str) -> None:
        """What `report` calls an identity. The first name stays: several credentials may share it."""
        if name:
            self._names.setdefault(identity, name)

    def report(self) -> list[BudgetLeft]:
        """The requests of the last hour of each identity that has a name, by group. Any thread may ask; it
        waits for nothing, and asks no other process."""
        since = self._clock.monotonic() - HOUR
        found = []
        for (identity, group), ledger in list(self._ledgers.items()):
            name = self._names.get(identity)
            if name is not None:
                found.append(BudgetLeft(name, group, ledger.used_since(since), ledger.limit))
        return sorted(found, key=lambda one: (one.credential, one.group))

    def _allowed(self, ledger: _Ledger, *, spares: bool = False) -> int:
        # A reserve larger than the limit must not block everything for ever.
        spared = ledger.limit // SPARED if spares else 0
        return max(1, max(1, ledger.limit - self._reserve) - spared)

    async def acquire(
        self,
        identity: str,
        group: str,
        *,
        priority: Priority = Priority.FIRST,
        since: float | None = None,
        until: float | None = None,
        progress: Progress | None = None,
        spares: bool = False,
    ) -> None:
        """Wait for the right to make one request, and count it. Of those who wait, the one with the
        lowest `priority` value has the next.

        `since` is when (monotonic) the waiting began, where this is not the first try; `until` is
        when it must have ended, where that is sooner than the budget's patience. `progress` is told of
        waits. A request that `spares` leaves a quarter of the hour's limit to others, as those that are IDLE
        do. Raises RateLimited where it would take longer.
        """
        began = self._clock.monotonic() if since is None else since
        latest = began + self.patience if until is None else until
        turn, spares = (int(priority), next(self._turns)), spares or priority is Priority.IDLE
        ledger = self._ledger(identity, group)
        ledger.waiting.append(turn)
        shown = _ShownWait(progress or NoProgress(), group, ledger.shown)
        try:
            while True:
                wait = self._wait(self._ledger(identity, group), turn, spares=spares)
                if wait is None:
                    self._made(ledger, 1)
                    return
                if self._clock.monotonic() + wait > latest:
                    raise self._refusal(wait)
                if wait >= REPORTED_FROM:
                    shown.show(wait)
                    self._log_wait(group, ledger, wait)
                await self._clock.sleep(max(wait, 0.001))
        finally:
            ledger.waiting.remove(turn)
            shown.end()

    def _made(self, ledger: _Ledger, requests: int) -> None:
        ledger.made.extend([self._clock.monotonic()] * requests)
        self._since_then += requests

    def _wait(self, ledger: _Ledger, turn: tuple[int, int], *, spares: bool) -> float | None:
        """How long, in seconds, this request must wait; None where it may be sent."""
        now = self._clock.monotonic()
        if now < ledger.blocked_until:
            return ledger.blocked_until - now
        allowed = self._allowed(ledger, spares=spares)
        # Waiting callers that go first are counted in already.
        before = sum(1 for one in ledger.waiting if one < turn)
        if ledger.used + before < allowed:
            return None
        if ledger.used >= allowed:
            return ledger.nth(ledger.used - allowed) + HOUR - now
        return 0.001

    def _refusal(self, wait: float) -> RateLimited:
        resume = self._clock.now() + timedelta(seconds=wait)
        error = RateLimited(f"the rate limit leaves no requests before {time_text(resume)}")
        error.resume_at = resume
        return error

    def _log_wait(self, group: str, ledger: _Ledger, wait: float) -> None:
        # Many requests wait for the same moment; log it once.
        ends = self._clock.monotonic() + wait
        if ends < ledger.logged_until + LOGGED_EVERY:
            return
        ledger.logged_until = ends
        resumes = self._clock.now() + timedelta(seconds=wait)
        _log.info(
            "budget.waiting",
            group=group,
            used=ledger.used,
            limit=ledger.limit,
            reserve=ledger.limit - self._allowed(ledger),
            resumes=time_text(resumes),
        )

    def count(self, identity: str, group: str, requests: int) -> None:
        """Count requests that were sent without `acquire`: those repeated after a renewal of the token."""
        self._made(self._ledger(identity, group), requests)

    def block(self, identity: str, group: str, seconds: float) -> None:
        """Send nothing for `seconds` after a refusal, at most for the window.

        Where no header ever reported the limit, it is inferred from the requests so far, for an hour.
        """
        ledger = self._ledger(identity, group)
        now = self._clock.monotonic()
        ledger.blocked_until = max(ledger.blocked_until, now + min(max(seconds, 0.0), WAIT_MAX))
        if not ledger.limit_known and LIMIT_LEAST <= ledger.used < ledger.limit:
            ledger.limit, ledger.inferred_until = ledger.used, now + HOUR
        self.exchange()

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """Learn the limit, and the use by others, from the headers of a response."""
        ledger = self._ledger(identity, group)
        if limit is None or limit <= 0:
            return
        ledger.limit, ledger.limit_known, ledger.inferred_until = limit, True, 0.0
        if remaining is not None and 0 <= remaining <= limit:
            # Others may use the same identity: count the requests that are not ours.
            unseen = (limit - remaining) - len(ledger.made) - ledger.inferred_count
            if unseen > 0:
                ledger.inferred.append((self._clock.monotonic(), unseen))


class _ShownWait:
    """The wait of one caller as its run shows it: until the last of its callers goes on. `shown` counts
    them."""

    def __init__(self, progress: Progress, group: str, shown: Counter[int]) -> None:
        self._progress = progress
        self._subject = "rate limit" if group == "api" else f"rate limit of {group}"
        self._shown = shown
        self._is_shown = False

    def show(self, seconds: float) -> None:
        """Tell that requests go on in so many seconds."""
        if not self._is_shown:
            self._is_shown = True
            self._shown[id(self._progress)] += 1
        self._progress.wait(self._subject, seconds)

    def end(self) -> None:
        """Tell that they go on, where this was the last caller that waited."""
        if not self._is_shown:
            return
        self._shown[id(self._progress)] -= 1
        if self._shown[id(self._progress)] <= 0:
            del self._shown[id(self._progress)]
            self._progress.report(self._subject, DONE)
