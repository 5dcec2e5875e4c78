"""The hour's requests: one ledger for each identity and group of resources.

Bitbucket counts over a rolling hour: 1,000 for most, up to 10,000 for access tokens of large paid
workspaces, 5,000 for files. What headers say is believed, whatever its size; they and refusals teach the
true limit. A reserve is never touched, so that a restore can begin at any time. A journal tells what other
processes used, and an earlier one that was killed.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum

from mirror.bitbucket.failures import RateLimited
from mirror.logs import get_logger
from mirror.model import Clock, NoProgress, Progress, Use, UseJournal, time_text

HOUR = 3600.0
LIMIT_DEFAULT = 1000
# By group of resources: the limit that Bitbucket's documents name, where it is not the usual one.
LIMITS_OF = {"files": 5000}
# A refusal teaches no limit below this: a burst may be refused at the hour's very beginning.
LIMIT_LEAST = 60
# A shorter wait is only for those who go first.
TOLD_FROM = 0.01
LOGGED_EVERY = 60.0
# After so many requests, or seconds, the journal is told of them and asked for those of others.
EXCHANGE_REQUESTS = 20
EXCHANGE_SECONDS = 30.0
# A refusal that names no time is waited out for at most the window itself.
WAIT_MAX = HOUR

_log = get_logger("bitbucket")


class Priority(IntEnum):
    """Order of requests while the rate limit leaves too few for all: the lowest value goes first.

    IDLE requests leave a quarter of the hour's limit to others.
    """

    FIRST = 0  # lists of what exists and what changed
    OPEN = 1  # details of open pull requests and issues, and settings that were never saved
    CLOSED = 2  # details of closed ones
    OLD = 3  # settings whose week is over, logs and test reports
    IDLE = 4  # only with requests that nothing else needs


@dataclass
class _Ledger:
    limit: int
    # Until when a limit that a refusal taught is believed; headers are believed until they change.
    taught_until: float = 0.0
    is_told: bool = False
    # When each request was made, by ourselves; by whom ever, as headers tell of the rest; by others, as
    # the journal tells of them. The last two may well speak of the same ones.
    made: deque[float] = field(default_factory=deque)
    told: deque[tuple[float, int]] = field(default_factory=deque)  # so many at a time
    others: deque[float] = field(default_factory=deque)
    blocked_until: float = 0.0
    # Waiting callers, as (priority, turn). The lowest gets the next request.
    waiting: list[tuple[int, int]] = field(default_factory=list)
    # When the last wait that was logged ends, and whether somebody is told of one now.
    logged_until: float = 0.0
    is_shown: bool = False

    @property
    def used(self) -> int:
        """How many requests of the last hour there were."""
        return len(self.made) + max(self.count_told, len(self.others))

    @property
    def count_told(self) -> int:
        """How many requests only the headers account for."""
        return sum(count for _, count in self.told)

    def forget(self, before: float) -> None:
        """Requests from before then count no more."""
        for several in (self.made, self.others):
            while several and several[0] <= before:
                several.popleft()
        while self.told and self.told[0][0] <= before:
            self.told.popleft()

    def nth(self, number: int) -> float:
        """When the request of this number was made, counted from the oldest."""
        others = [(one, 1) for one in self.others]
        if self.count_told > len(others):
            others = list(self.told)
        times = sorted([*((one, 1) for one in self.made), *others])
        before = itertools.accumulate(count for _, count in times)
        return next(when for (when, _), so_far in zip(times, before, strict=True) if so_far > number)


class Budget:
    """Requests made and allowed. Share one among all clients of a process.

    `reserve` requests of each hour are left unused. `limit` is what each hour is taken to allow until
    the server tells. `patience` is how long, in seconds, one request may wait in all before
    RateLimited is raised. `progress` is told of waiting. `id` tells this budget's use from others'.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        reserve: int = 0,
        limit: int = LIMIT_DEFAULT,
        patience: float = 2 * HOUR,
        progress: Progress | None = None,
    ) -> None:
        self._clock = clock
        self.patience = patience
        self.progress = progress or NoProgress()
        self.id = secrets.token_hex(8)
        self._ledgers: dict[tuple[str, str], _Ledger] = {}
        self._turns = itertools.count()
        self._journal: UseJournal | None = None
        self._exchanged, self._since_then = 0.0, 0
        self.allow(reserve=reserve, limit=limit)

    def allow(self, *, reserve: int, limit: int) -> None:
        """What each hour allows from now on, where no server has told, and what is left of it."""
        self._reserve, self._limit = max(0, reserve), limit
        for (_, group), ledger in self._ledgers.items():
            if not ledger.is_told and not ledger.taught_until:
                ledger.limit = self._assumed(group)

    def _assumed(self, group: str) -> int:
        """What an hour is taken to allow in a group until the server tells: a limit that is set lower
        than the usual lowers them all."""
        usual = LIMITS_OF.get(group)
        return self._limit if usual is None or self._limit < LIMIT_DEFAULT else max(usual, self._limit)

    def share(self, journal: UseJournal) -> None:
        """Tell `journal` of what is used from now on, and believe what it tells of others."""
        self._journal = journal
        self.exchange()

    def exchange(self) -> None:
        """Bring the journal up to date, and what is known of others."""
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
        if ledger.taught_until and now >= ledger.taught_until:
            ledger.limit, ledger.taught_until = self._assumed(group), 0.0
        ledger.forget(now - HOUR)
        return ledger

    def left(self, identity: str, group: str) -> int:
        """How many requests may be made right now without waiting."""
        ledger = self._ledger(identity, group)
        if self._clock.monotonic() < ledger.blocked_until:
            return 0
        return max(0, self._allowed(ledger) - ledger.used)

    def used(self, identity: str, group: str) -> tuple[int, int]:
        """Requests made in the last hour, and the limit as far as it is known."""
        ledger = self._ledger(identity, group)
        return ledger.used, ledger.limit

    def _allowed(self, ledger: _Ledger) -> int:
        # A reserve larger than the limit must not stop everything for ever.
        return max(1, ledger.limit - self._reserve)

    async def acquire(
        self,
        identity: str,
        group: str,
        *,
        priority: Priority = Priority.FIRST,
        since: float | None = None,
        until: float | None = None,
    ) -> None:
        """Wait for the right to make one request, and count it. Of those who wait, the one with the
        lowest `priority` value has the next.

        `since` is when (monotonic) the waiting began, where this is not the first try; `until` is
        when it must have ended, where that is sooner than the budget's patience. Raises RateLimited
        where it would take longer.
        """
        began = self._clock.monotonic() if since is None else since
        latest = began + self.patience if until is None else until
        turn = (int(priority), next(self._turns))
        ledger = self._ledger(identity, group)
        ledger.waiting.append(turn)
        try:
            while True:
                wait = self._wait(self._ledger(identity, group), priority, turn)
                if wait is None:
                    self._made(ledger, 1)
                    return
                if self._clock.monotonic() + wait > latest:
                    raise self._refusal(wait)
                self._tell(group, ledger, wait)
                await self._clock.sleep(max(wait, 0.001))
        finally:
            ledger.waiting.remove(turn)
            if not ledger.waiting and ledger.is_shown:
                ledger.is_shown = False
                self.progress.report(_subject(group), "done")

    def _made(self, ledger: _Ledger, requests: int) -> None:
        ledger.made.extend([self._clock.monotonic()] * requests)
        self._since_then += requests

    def _wait(self, ledger: _Ledger, priority: Priority, turn: tuple[int, int]) -> float | None:
        """For how long this one must wait; None where it may go."""
        now = self._clock.monotonic()
        if now < ledger.blocked_until:
            return ledger.blocked_until - now
        allowed = self._allowed(ledger)
        if priority is Priority.IDLE:
            allowed = max(1, allowed - ledger.limit // 4)
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

    def _tell(self, group: str, ledger: _Ledger, wait: float) -> None:
        if wait < TOLD_FROM:
            return
        resumes = self._clock.now() + timedelta(seconds=wait)
        ledger.is_shown = True
        told = f"resumes {resumes:%H:%M} UTC, {ledger.used:,} of {ledger.limit:,} used"
        self.progress.report(_subject(group), told)
        # Many wait for the same moment, and one after the other for the next free request.
        ends = self._clock.monotonic() + wait
        if ends < ledger.logged_until + LOGGED_EVERY:
            return
        ledger.logged_until = ends
        _log.info(
            "budget.waiting",
            group=group,
            used=ledger.used,
            limit=ledger.limit,
            reserve=ledger.limit - self._allowed(ledger),
            resumes=time_text(resumes),
        )

    def count(self, identity: str, group: str, requests: int) -> None:
        """Count requests that were made without asking first (a renewal's second try)."""
        self._made(self._ledger(identity, group), requests)

    def block(self, identity: str, group: str, seconds: float) -> None:
        """A refusal: nothing more for `seconds` (bounded by the window).

        Where no header ever told the limit, what was made until now is taken for it, for an hour.
        """
        ledger = self._ledger(identity, group)
        now = self._clock.monotonic()
        ledger.blocked_until = max(ledger.blocked_until, now + min(max(seconds, 0.0), WAIT_MAX))
        if not ledger.is_told and LIMIT_LEAST <= ledger.used < ledger.limit:
            ledger.limit, ledger.taught_until = ledger.used, now + HOUR
        self.exchange()

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """What the headers of an answer say of the limit and of what others have used of it."""
        ledger = self._ledger(identity, group)
        if limit is None or limit <= 0:
            return
        ledger.limit, ledger.is_told, ledger.taught_until = limit, True, 0.0
        if remaining is not None and 0 <= remaining <= limit:
            # Somebody else may use the same identity; count what we did not make ourselves.
            unseen = (limit - remaining) - len(ledger.made) - ledger.count_told
            if unseen > 0:
                ledger.told.append((self._clock.monotonic(), unseen))


def _subject(group: str) -> str:
    return "rate limit" if group == "api" else f"rate limit of {group}"
