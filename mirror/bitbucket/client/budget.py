"""Requests per hour, before Bitbucket refuses any.

Bitbucket counts by the kind of resource over a rolling hour: by token for access tokens, by user for API
tokens and app passwords. So the budget's key is identity and group. Whoever lends the requests counts them
(the port `Leases`); the budget gives what was lent to those who wait, the most urgent first.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter, defaultdict
from datetime import timedelta
from enum import IntEnum

from mirror.bitbucket.client.local_leases import HOUR, LIMIT_DEFAULT, LocalLeases
from mirror.bitbucket.failures import RateLimited
from mirror.logs import get_logger
from mirror.model import DONE, Clock, NoProgress, Progress, UseJournal, time_text
from mirror.model.leases import Hour, Lease, Leases
from mirror.model.live import BudgetLeft

# So many requests are borrowed at a time, if nobody waits for more.
BORROWED = 20
# Shorter waits, in seconds, are not reported: they only let other requests go first.
REPORTED_FROM = 0.01
LOGGED_EVERY = 60.0
# A lender that lends nothing is not asked again any sooner, in seconds.
ASKED_AGAIN = 0.5
# How long, in seconds, one request may wait.
PATIENCE = 2 * HOUR
# A right to send a request that nobody has.
NOT_LENT = float("-inf")

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


class _Purse:
    """What was lent for one identity and group, and who waits for it."""

    def __init__(self) -> None:
        self.lease, self.unsent = Lease(0), 0
        self.asking = asyncio.Lock()
        # Waiting callers, as (priority, turn). The lowest gets the next request.
        self.waiting: list[tuple[int, int]] = []
        # When the last logged wait ends, and by run (the id of its Progress) how many callers show a wait.
        self.logged_until = 0.0
        self.shown: Counter[int] = Counter()

    def left(self, now: float) -> int:
        """How many requests may be sent now. Those of a lease that ran out are `unsent`, and can be given
        back."""
        return self.unsent if now < self.lease.until else 0

    def put(self, lease: Lease) -> None:
        """From now on, give from this lease."""
        self.lease, self.unsent = lease, lease.requests

    def take(self) -> float:
        """Give one request; returns until when it may be sent."""
        self.unsent -= 1
        return self.lease.until

    def empty(self) -> int:
        """Give no more of the lease; returns how many of it were not given."""
        unsent, self.unsent = self.unsent, 0
        return unsent


class Budget:
    """Gives out the requests of each hour. All clients of a process share one.

    `leases` lends them; without one, this process counts for itself: `reserve` requests of each hour are left
    unused, and `limit` is the assumed limit of an hour until the server reports one. `patience` is how long,
    in seconds, one request may wait before RateLimited is raised. `id` identifies this budget in the journal.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        reserve: int = 0,
        limit: int = LIMIT_DEFAULT,
        patience: float = PATIENCE,
        leases: Leases | None = None,
    ) -> None:
        self._clock = clock
        self.patience = patience
        self.id = secrets.token_hex(8)
        self._leases: Leases = LocalLeases(clock) if leases is None else leases
        self._purses: defaultdict[tuple[str, str], _Purse] = defaultdict(_Purse)
        self._names: dict[str, str] = {}
        self._turns = itertools.count()
        self.allow(reserve=reserve, limit=limit)

    def allow(self, *, reserve: int, limit: int) -> None:
        """Set the reserve, and the assumed limit where no server has reported one."""
        self._leases.allow(reserve=reserve, limit=limit)

    def share(self, journal: UseJournal) -> None:
        """Exchange the use with `journal` from now on."""
        self._leases.share(journal)

    async def settle(self) -> None:
        """A run is over: give back what was lent and not sent, and let others know what was used."""
        for key in list(self._purses):
            await self._give_back(key)
        self._leases.settle()

    def left(self, identity: str, group: str, *, spares: bool = False) -> int:
        """The number of requests that can be made right now without waiting, as far as is known; see
        `acquire` for `spares`."""
        hour = self._leases.hour(identity, group, spares=spares)
        purse = self._purses.get((identity, group))
        unsent = 0 if purse is None else purse.unsent
        return 0 if hour.blocked > 0 else max(0, unsent + hour.free)

    def used(self, identity: str, group: str) -> tuple[int, int]:
        """The requests in the last hour, and the limit as far as known."""
        hour = self._leases.hour(identity, group, spares=False)
        return hour.used, hour.limit

    def name(self, identity: str, name: str) -> None:
        """What `report` calls an identity. The first name stays: several credentials may share it."""
        if name:
            self._names.setdefault(identity, name)

    def report(self) -> list[BudgetLeft]:
        """The requests of the last hour of each identity that has a name, by group. Any thread may ask; it
        waits for nothing, and asks no other process."""
        found = [
            BudgetLeft(self._names[identity], group, used, limit)
            for identity, group, used, limit in self._leases.hours()
            if identity in self._names
        ]
        return sorted(found, key=lambda one: (one.credential, one.group))

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
    ) -> float:
        """Wait for the right to send one request; returns until when (monotonic) it may be sent. Of those
        who wait, the one with the lowest `priority` value has the next.

        `since` is when (monotonic) the waiting began, where this is not the first try; `until` is
        when it must have ended, where that is sooner than the budget's patience. `progress` is told of
        waits. A request that `spares` leaves a quarter of the hour's limit to others, as those that are IDLE
        do. Raises RateLimited where it would take longer, and TryLater where the lender cannot be reached.
        """
        began = self._clock.monotonic() if since is None else since
        latest = began + self.patience if until is None else until
        turn, spares = (int(priority), next(self._turns)), spares or priority is Priority.IDLE
        key = identity, group
        purse = self._purses[key]
        purse.waiting.append(turn)
        shown = _ShownWait(progress or NoProgress(), group, purse.shown)
        try:
            while True:
                wait = await self._prepare(key, turn, spares=spares)
                if wait is None:
                    return purse.take()
                if not wait:
                    continue
                if self._clock.monotonic() + wait > latest:
                    raise self._refusal(wait)
                if wait >= REPORTED_FROM:
                    shown.show(wait)
                    self._log_wait(group, purse, wait, self._leases.hour(*key, spares=False))
                await self._clock.sleep(max(wait, 0.001))
        finally:
            purse.waiting.remove(turn)
            shown.end()

    async def _prepare(self, key: tuple[str, str], turn: tuple[int, int], *, spares: bool) -> float | None:
        """How long, in seconds, this request must wait; None where the purse has one for it. 0: it has more
        now, and somebody who goes first may have come."""
        purse, hour = self._purses[key], self._leases.hour(*key, spares=spares)
        if hour.blocked > 0:
            return hour.blocked
        if purse.asking.locked():  # what is known of the hour does not have what is being lent
            async with purse.asking:
                return 0.0
        # Waiting callers that go first are counted in already.
        before = sum(1 for one in purse.waiting if one < turn)
        free = purse.unsent + hour.free
        if free <= before:
            # The hour of a request may end at this very moment, but for what numbers round to.
            return 0.001 if free > 0 else max(hour.again, 0.001)
        if purse.left(self._clock.monotonic()):
            return None
        async with purse.asking:
            await self._give_back(key)
            lease = await self._leases.lease(*key, max(BORROWED, len(purse.waiting)), spares=spares)
            purse.put(lease)
        return 0.0 if lease.requests else max(lease.again, ASKED_AGAIN)

    async def _give_back(self, key: tuple[str, str]) -> None:
        purse = self._purses[key]
        lease, unsent = purse.lease, purse.empty()
        if unsent:
            await self._leases.give_back(*key, lease, unsent)

    def is_over(self, right: float) -> bool:
        """Whether the right to send a request, as `acquire` gave it, has run out."""
        return self._clock.monotonic() >= right

    def _refusal(self, wait: float) -> RateLimited:
        resume = self._clock.now() + timedelta(seconds=wait)
        error = RateLimited(f"the rate limit leaves no requests before {time_text(resume)}")
        error.resume_at = resume
        return error

    def _log_wait(self, group: str, purse: _Purse, wait: float, hour: Hour) -> None:
        # Many requests wait for the same moment; log it once.
        ends = self._clock.monotonic() + wait
        if ends < purse.logged_until + LOGGED_EVERY:
            return
        purse.logged_until = ends
        resumes = self._clock.now() + timedelta(seconds=wait)
        _log.info(
            "budget.waiting",
            group=group,
            used=hour.used,
            limit=hour.limit,
            reserve=hour.limit - hour.used - hour.free,
            resumes=time_text(resumes),
        )

    def block(self, identity: str, group: str, seconds: float) -> None:
        """Send nothing for `seconds` after a refusal, at most for the window."""
        self._leases.block(identity, group, seconds)

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """Learn the limit, and the use by others, from the headers of a response."""
        self._leases.learn(identity, group, limit=limit, remaining=remaining)


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
