"""The state of a request over several attempts, and which sign-in makes the next one, after which delay."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from mirror.auth.signin import SignIn
from mirror.bitbucket.client.budget import NOT_LENT, Budget, Priority
from mirror.bitbucket.client.change import Change
from mirror.bitbucket.client.local_leases import HOUR
from mirror.bitbucket.client.responses import Failure
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import Denied, NotFound, RateLimited
from mirror.errors import CredentialRefused, MirrorError, UsageError
from mirror.http.retries import TRIES_MAX, WAIT_MAX, backoff, retry_delay
from mirror.logs import get_logger
from mirror.model import Clock

# Refusals for the rate limit are waited out and do not count as attempts, up to this many.
REFUSALS_MAX = 50

__all__ = ["TRIES_MAX", "WAIT_MAX", "CredentialChoice", "Request"]

_log = get_logger("bitbucket")


# The kinds of credential that act for a user. Bitbucket takes some changes from these alone.
OF_USERS = frozenset({"api_token", "app_password"})


@dataclass
class Request:
    """The state of one request. `only` limits it to one sign-in. `priority`, `since`, `until` and `spares`
    are for the budget. `change` is what it sends, None where it reads. `right` is until when (monotonic) the
    budget lets it be sent once."""

    endpoint: Endpoint
    url: str
    since: float
    only: SignIn | None = None
    priority: Priority = Priority.FIRST
    until: float | None = None
    spares: bool = False
    change: Change | None = None
    tries: int = 0
    refusals: int = 0
    failed: dict[int, tuple[SignIn, MirrorError]] = field(default_factory=dict)
    # By sign-in: the number of 401s, and which were confirmed as valid since; the sign-in for the next
    # attempt; and the order number of the last attempt.
    unauthorized: Counter[int] = field(default_factory=Counter)
    confirmed: set[int] = field(default_factory=set)
    retry_with: SignIn | None = None
    sent: int = 0
    right: float = NOT_LENT


class CredentialChoice:
    """Chooses the sign-in for each request and decides what follows a failure.

    What one sign-in may not read is requested with the next one. That is remembered, so that later requests
    start with the right one.
    """

    def __init__(
        self, sign_ins: Sequence[SignIn], budget: Budget, clock: Clock, jitter: random.Random
    ) -> None:
        self.sign_ins = tuple(sign_ins)
        self.budget = budget
        self._clock = clock
        self._jitter = jitter
        self._refused: dict[int, CredentialRefused] = {}
        # Sign-ins that could not read what another could: with the endpoint's name where a scope is
        # missing, else with the repository or other place.
        self._without_access: set[tuple[int, str]] = set()

    def choose(self, request: Request) -> SignIn | None:
        """The sign-in for the next attempt; None where none is left."""
        candidates = self.candidates(request)
        if not candidates:
            raise UsageError("there is no credential", hint="name one in the configuration")
        usable = [one for one in candidates if id(one) not in self._refused and id(one) not in request.failed]
        if request.retry_with is not None and request.retry_with in usable:
            return request.retry_with
        return min(usable, key=lambda one: self._rank(one, request), default=None)

    def candidates(self, request: Request) -> Sequence[SignIn]:
        """The sign-ins that may make this request."""
        return [request.only] if request.only is not None else self.sign_ins

    def _rank(self, one: SignIn, request: Request) -> tuple[bool, bool, int]:
        needs_user = request.change is not None and request.change.needs_user
        blind = any(
            (id(one), what) in self._without_access for what in (request.endpoint.name, _place(request.url))
        )
        return (
            needs_user and one.kind not in OF_USERS,
            blind,
            -self.budget.left(one.identity, request.endpoint.group),
        )

    async def final_error(
        self, request: Request, can_see: Callable[[SignIn], Awaitable[bool]]
    ) -> MirrorError:
        """The error of a request that failed with every sign-in.

        A 404 counts where its sign-in `can_see` the place around the resource: it outweighs refusals of
        others. Otherwise the resource may be hidden from it, and a refusal of another outweighs the 404.
        """
        failures = list(request.failed.values())
        absent = [(one, error) for one, error in failures if isinstance(error, NotFound)]
        denied = [error for _, error in failures if isinstance(error, Denied)]
        refused = [self._refused[id(one)] for one in self.candidates(request) if id(one) in self._refused]
        if denied or refused:
            for one, error in absent:
                if await can_see(one):
                    return error
        scoped = [error for error in denied if error.required]
        return [*scoped, *denied, *refused, *(error for _, error in failures)][0]

    async def handle_failure(self, request: Request, sign_in: SignIn, failure: Failure) -> None:
        """Prepare the next attempt, and wait for it. Raises the error where there is none."""
        error = failure.error
        if isinstance(error, CredentialRefused):
            if id(sign_in) not in self._refused:
                _log.warning("bitbucket.credential_refused", credential=sign_in.label)
                self._refused[id(sign_in)] = error
            return
        if isinstance(error, Denied | NotFound):
            # A resource that is hidden from this credential can be a 404 too.
            request.failed[id(sign_in)] = (sign_in, error)
            return
        if isinstance(error, RateLimited) and request.refusals < REFUSALS_MAX:
            request.refusals += 1
            self._block(request, sign_in, failure.wait)
            return
        request.tries += 1
        asked = None if failure.wait is None else min(failure.wait, WAIT_MAX)
        wait = retry_delay(request.tries, asked, chance=self._jitter.random) if failure.retryable else None
        if wait is None:
            raise error
        await self._clock.sleep(wait)

    def _block(self, request: Request, sign_in: SignIn, asked: float | None) -> None:
        """Make the budget send nothing more by this identity for a while."""
        wait = backoff(request.refusals, most=HOUR, chance=self._jitter.random)
        if asked:
            wait = asked + self._jitter.random()
        self.budget.block(sign_in.identity, request.endpoint.group, wait)

    def note_success(self, request: Request) -> None:
        """Remember which sign-ins could not read what another one could."""
        for key, (_, error) in request.failed.items():
            scoped = isinstance(error, Denied) and bool(error.required)
            self._without_access.add((key, request.endpoint.name if scoped else _place(request.url)))

    def refusal(self, sign_in: SignIn) -> CredentialRefused | None:
        """The refusal of a sign-in, if it was refused."""
        return self._refused.get(id(sign_in))


def _place(url: str) -> str:
    """The URL up to the repository, or a shorter URL as a whole."""
    return "/".join(url.partition("?")[0].split("/")[:7])
