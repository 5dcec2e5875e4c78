"""One request on its way through several tries: with which sign-in next, after what wait, and when
it is over."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from mirror.auth.signin import SignIn
from mirror.bitbucket.client.answers import Verdict
from mirror.bitbucket.client.budget import HOUR, Budget, Priority
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import Denied, NotFound, RateLimited
from mirror.errors import CredentialRefused, MirrorError, UsageError
from mirror.http.retries import TRIES_MAX, WAIT_MAX, backoff, retry_delay
from mirror.logs import get_logger
from mirror.model import Clock

# Refusals for the rate limit are waited out and do not count as tries; a server that never stops
# refusing is left in the end, whatever it says of the wait.
REFUSALS_MAX = 50

__all__ = ["TRIES_MAX", "WAIT_MAX", "Attempts", "Desk"]

_log = get_logger("bitbucket")


@dataclass
class Attempts:
    """What became of one request so far. `only` binds it to one sign-in; `priority` and `until` are the
    budget's."""

    endpoint: Endpoint
    url: str
    since: float
    only: SignIn | None = None
    priority: Priority = Priority.FIRST
    until: float | None = None
    tries: int = 0
    refusals: int = 0
    failed: dict[int, tuple[SignIn, MirrorError]] = field(default_factory=dict)
    # How often each sign-in got a 401, and which proved to be good meanwhile; the one that is to try
    # again; and when the last request was sent.
    doubted: Counter[int] = field(default_factory=Counter)
    checked: set[int] = field(default_factory=set)
    again: SignIn | None = None
    sent: int = 0


class Desk:
    """Chooses the sign-in for each request and decides what follows a failure.

    What one sign-in may not read is asked with the next; which may read what is remembered, so that
    it is not tried again for every request.
    """

    def __init__(
        self, sign_ins: Sequence[SignIn], budget: Budget, clock: Clock, jitter: random.Random
    ) -> None:
        self.sign_ins = tuple(sign_ins)
        self.budget = budget
        self._clock = clock
        self._jitter = jitter
        self._refused: dict[int, CredentialRefused] = {}
        # Sign-ins that could not read what another could: with an endpoint's name where a scope is
        # missing, else with the place (the first two parts of what the endpoint's path names).
        self._blind: set[tuple[int, str]] = set()

    def choose(self, attempts: Attempts) -> SignIn | None:
        """The sign-in for the next try; None where none is left."""
        candidates = self.candidates(attempts)
        if not candidates:
            raise UsageError("there is no credential to ask with", hint="name one in the configuration")
        usable = [
            one for one in candidates if id(one) not in self._refused and id(one) not in attempts.failed
        ]
        if attempts.again is not None and attempts.again in usable:
            return attempts.again
        return min(usable, key=lambda one: self._rank(one, attempts), default=None)

    def candidates(self, attempts: Attempts) -> Sequence[SignIn]:
        """Who may be asked."""
        return [attempts.only] if attempts.only is not None else self.sign_ins

    def _rank(self, one: SignIn, attempts: Attempts) -> tuple[bool, int]:
        blind = any((id(one), what) in self._blind for what in (attempts.endpoint.name, _place(attempts.url)))
        return blind, -self.budget.left(one.identity, attempts.endpoint.group)

    async def outcome(self, attempts: Attempts, sees: Callable[[SignIn], Awaitable[bool]]) -> MirrorError:
        """What a request came to that nobody was given.

        The answer of a sign-in that may know counts. A 404 is honest where the sign-in `sees` the place
        that is asked about: it outweighs that others are refused. Else the thing may be hidden from it,
        and a credential that was refused, or could not be asked, outweighs the 404.
        """
        failures = list(attempts.failed.values())
        absent = [(one, error) for one, error in failures if isinstance(error, NotFound)]
        denied = [error for _, error in failures if isinstance(error, Denied)]
        refused = [self._refused[id(one)] for one in self.candidates(attempts) if id(one) in self._refused]
        if denied or refused:
            for one, error in absent:
                if await sees(one):
                    return error
        scoped = [error for error in denied if error.required]
        return [*scoped, *denied, *refused, *(error for _, error in failures)][0]

    async def after(self, attempts: Attempts, sign_in: SignIn, verdict: Verdict) -> None:
        """Wait or make ready for the next try. Raises the failure where there is none."""
        error = verdict.error
        if isinstance(error, CredentialRefused):
            if id(sign_in) not in self._refused:
                _log.warning("bitbucket.credential_refused", credential=sign_in.label)
                self._refused[id(sign_in)] = error
            return
        if isinstance(error, Denied | NotFound):
            # What this credential may not see can be a 404, too.
            attempts.failed[id(sign_in)] = (sign_in, error)
            return
        if isinstance(error, RateLimited) and attempts.refusals < REFUSALS_MAX:
            attempts.refusals += 1
            self._block(attempts, sign_in, verdict.wait)
            return
        attempts.tries += 1
        told = None if verdict.wait is None else min(verdict.wait, WAIT_MAX)
        wait = retry_delay(attempts.tries, told, chance=self._jitter.random) if verdict.again else None
        if wait is None:
            raise error
        await self._clock.sleep(wait)

    def _block(self, attempts: Attempts, sign_in: SignIn, told: float | None) -> None:
        """Nothing more by this identity for a while; the budget does the waiting."""
        wait = backoff(attempts.refusals, most=HOUR, chance=self._jitter.random)
        if told:
            wait = told + self._jitter.random()
        self.budget.block(sign_in.identity, attempts.endpoint.group, wait)

    def succeeded(self, attempts: Attempts) -> None:
        """Remember who could not read what somebody else could."""
        for key, (_, error) in attempts.failed.items():
            scoped = isinstance(error, Denied) and bool(error.required)
            self._blind.add((key, attempts.endpoint.name if scoped else _place(attempts.url)))

    def refusal(self, sign_in: SignIn) -> CredentialRefused | None:
        """How a sign-in was refused, if it was."""
        return self._refused.get(id(sign_in))


def _place(url: str) -> str:
    """The address down to the repository, or the whole of a shorter one."""
    return "/".join(url.partition("?")[0].split("/")[:7])
