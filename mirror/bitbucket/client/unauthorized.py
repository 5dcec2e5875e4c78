"""Whether a 401 is about the credential or about one endpoint.

Bitbucket answers 401 for both ("invalid, expired, or not supported for this endpoint"), and occasionally for
no reason. So the credential is checked with something cheap that it could read before. If that fails too, the
credential is refused. If it succeeds, the request is repeated, and another 401 is the endpoint's own, like a
403.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator

from mirror.auth.signin import SignIn
from mirror.bitbucket.client.credential_choice import Request
from mirror.bitbucket.client.responses import Failure, denied_by_endpoint
from mirror.bitbucket.endpoints import REPOSITORY, USER, WORKSPACE, Endpoint
from mirror.bitbucket.failures import Denied, Refused
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.logs import get_logger
from mirror.model import Clock

# How many readable URLs of each credential are remembered for checks.
READABLE_MAX = 3
# An endpoint refuses the credential after this many 401s, while the credential is valid elsewhere.
TRIES = 3
# Seconds after which a 401 for no reason is over.
PAUSE = 1.0

_PLACES = re.compile(r"/(?:repositories|workspaces|snippets)/([^/?]+)")
_log = get_logger("bitbucket")

# An endpoint and a URL of it.
Readable = tuple[Endpoint, str]
# Sends a request with this sign-in alone; returns None for success, else the error.
Ask = Callable[[SignIn, Endpoint, str], Awaitable[MirrorError | None]]


class UnauthorizedCheck:
    """Remembers what each sign-in could read, and which endpoints refuse it although it is valid."""

    def __init__(self, api_url: str, ask: Ask, clock: Clock) -> None:
        self._api_url = api_url
        self._ask = ask
        self._clock = clock
        self._readable: defaultdict[int, list[Readable]] = defaultdict(list)
        self._refusing_endpoints: set[tuple[int, str]] = set()
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        # A counter of requests and checks shows which came first.
        self._order = itertools.count(1)
        self._valid_since: dict[int, int] = {}
        self._invalid: set[int] = set()

    def note_sent(self, request: Request) -> None:
        """Note that `request` is about to be sent."""
        request.sent = next(self._order)

    def note_success(self, sign_in: SignIn, request: Request) -> None:
        """Note that `sign_in` could read `request`."""
        proofs = self._readable[id(sign_in)]
        self._refusing_endpoints.discard((id(sign_in), request.endpoint.name))
        if len(proofs) < READABLE_MAX and all(one.name != request.endpoint.name for one, _ in proofs):
            proofs.append((request.endpoint, request.url))

    async def resolve(self, sign_in: SignIn, request: Request, failure: Failure) -> Failure | None:
        """The final meaning of a 401; None where the request is to be repeated. Any other failure is returned
        as it is."""
        error, key = failure.error, id(sign_in)
        request.retry_with = None
        if not isinstance(error, CredentialRefused):
            return failure
        request.unauthorized[key] += 1
        is_first = request.unauthorized[key] == 1
        request.retry_with = sign_in
        if not isinstance(error, Refused):
            # The sign-in server itself refused: it can only be tried once more.
            return failure if request.unauthorized[key] > 1 else await self._repeat()
        if key in self._invalid:
            return failure
        if (key, request.endpoint.name) in self._refusing_endpoints:
            return Failure(denied_by_endpoint(request.endpoint, error))
        if is_first and not self._readable[key]:
            return await self._repeat()
        if key not in request.confirmed:
            found = await self._check(sign_in, request, failure)
            if found is not None:
                return found
            request.confirmed.add(key)
        if request.unauthorized[key] < TRIES:
            return None
        self._refusing_endpoints.add((key, request.endpoint.name))
        _log.warning("bitbucket.endpoint_refuses", endpoint=request.endpoint.name, credential=sign_in.label)
        return Failure(denied_by_endpoint(request.endpoint, error))

    async def _repeat(self) -> Failure | None:
        await self._clock.sleep(PAUSE)
        return None

    async def _check(self, sign_in: SignIn, request: Request, failure: Failure) -> Failure | None:
        """None where the credential is valid; else the failure."""
        key = id(sign_in)
        async with self._locks[key]:
            if key in self._invalid:
                return failure
            if self._valid_since.get(key, 0) > request.sent:
                return None  # of several concurrent 401s one check is enough
            temporary: MirrorError | None = None
            for endpoint, url, tries in self._candidates(key, request):
                error = await self._try(sign_in, endpoint, url, tries)
                if error is None:
                    self._valid_since[key] = next(self._order)
                    return None
                if isinstance(error, Refused) and self._readable[key]:
                    break
                temporary = error if isinstance(error, TryLater) else temporary
            else:
                if temporary is not None:
                    return Failure(temporary, retryable=True)
            self._invalid.add(key)
            return failure

    async def _try(self, sign_in: SignIn, endpoint: Endpoint, url: str, tries: int) -> MirrorError | None:
        """Request something; None where the response shows that the credential is valid."""
        for left in range(tries - 1, -1, -1):
            error = await self._ask(sign_in, endpoint, url)
            if error is None or isinstance(error, Denied):
                return None
            if not isinstance(error, Refused | TryLater) or left == 0:
                break
            await self._clock.sleep(PAUSE)
        return error

    def _candidates(self, key: int, request: Request) -> Iterator[tuple[Endpoint, str, int]]:
        """What to request, and how often: what it could read before, else what most credentials can."""
        for endpoint, url in self._readable[key]:
            if endpoint.name != request.endpoint.name:
                yield endpoint, url, 3
        found = _PLACES.search(request.url)
        around = place_of(request.url)
        addresses = [(WORKSPACE, self._api_url + f"/workspaces/{found[1]}")] if found else []
        if around is not None and "/repositories/" in around:
            addresses.append((REPOSITORY, around))
        addresses.append((USER, self._api_url + USER.path()))
        for endpoint, url in addresses:
            if url != request.url:
                yield endpoint, url, 1


def place_of(url: str) -> str | None:
    """The URL of the repository, project or workspace that `url` is below; None where there is none."""
    address = url.partition("?")[0]
    for pattern in (
        r".*?/repositories/[^/]+/[^/]+",
        r".*?/workspaces/[^/]+/projects/[^/]+(?=/)",
        r".*?/workspaces/[^/]+",
    ):
        found = re.match(pattern, address)
        if found is not None and found[0] != address.rstrip("/"):
            return found[0]
    return None
