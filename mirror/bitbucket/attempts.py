"""One request on its way through several tries: with which sign-in next, after what wait, and when
it is over."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from mirror.auth.signin import SignIn
from mirror.bitbucket.answers import Verdict
from mirror.bitbucket.budget import HOUR, Budget, Worth
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, Denied, NotFound, RateLimited
from mirror.errors import CredentialRefused, MirrorError, UsageError
from mirror.logs import get_logger
from mirror.model import Clock

TRIES_MAX = 5
# Refusals for the rate limit are waited out and do not count as tries; a server that never stops
# refusing is left in the end, whatever it says of the wait.
REFUSALS_MAX = 50
BACKOFF_FIRST = 1.0
BACKOFF_MAX = 60.0
# A failing server may ask for patience, but is not obeyed for ever.
WAIT_MAX = 300.0

_log = get_logger("bitbucket")


@dataclass
class Attempts:
    """What became of one request so far. `only` binds it to one sign-in; `worth` and `until` are the
    budget's."""

    endpoint: Endpoint
    url: str
    since: float
    only: SignIn | None = None
    worth: Worth = Worth.FIRST
    until: float | None = None
    tries: int = 0
    refusals: int = 0
    failed: dict[int, tuple[SignIn, MirrorError]] = field(default_factory=dict)


class Desk:
    """Chooses the sign-in for each request and decides what follows a failure.

    What one sign-in may not read is asked with the next; which may read what is remembered, so that
    it is not tried again for every request. Raises nothing but what a request came to.
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

    def choose(self, attempts: Attempts) -> SignIn:
        """The sign-in for the next try. Raises what the request came to where none is left."""
        candidates = [attempts.only] if attempts.only is not None else self.sign_ins
        if not candidates:
            raise UsageError("there is no credential to ask with", hint="name one in the configuration")
        usable = [
            one for one in candidates if id(one) not in self._refused and id(one) not in attempts.failed
        ]
        if not usable:
            raise self._outcome(attempts, candidates)
        return min(usable, key=lambda one: self._rank(one, attempts))

    def _rank(self, one: SignIn, attempts: Attempts) -> tuple[bool, int]:
        blind = any((id(one), what) in self._blind for what in (attempts.endpoint.name, _place(attempts.url)))
        return blind, -self.budget.left(one.identity, attempts.endpoint.group)

    def _outcome(self, attempts: Attempts, candidates: Sequence[SignIn]) -> MirrorError:
        failures = [error for _, error in attempts.failed.values()]
        denied = next((error for error in failures if isinstance(error, Denied)), None)
        api_error = next((error for error in failures if isinstance(error, ApiError)), None)
        refused = next((self._refused[id(one)] for one in candidates if id(one) in self._refused), None)
        outcome = denied or api_error or refused
        assert outcome is not None
        return outcome

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
        if not verdict.again or attempts.tries >= TRIES_MAX:
            raise error
        wait = self._spread(min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** (attempts.tries - 1)))
        if verdict.wait is not None:
            wait = max(wait, min(verdict.wait, WAIT_MAX))
        await self._clock.sleep(wait)

    def _block(self, attempts: Attempts, sign_in: SignIn, told: float | None) -> None:
        """Nothing more by this identity for a while; the budget does the waiting."""
        wait = self._spread(min(HOUR, BACKOFF_FIRST * 2 ** (attempts.refusals - 1)))
        if told:
            wait = told + self._jitter.random()
        self.budget.block(sign_in.identity, attempts.endpoint.group, wait)

    def _spread(self, longest: float) -> float:
        return longest * (0.5 + self._jitter.random() / 2)

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
