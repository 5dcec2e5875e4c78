"""Whether a 401 is about the credential, or about one endpoint.

Bitbucket says 401 for both ("invalid, expired, or not supported for this endpoint"), and now and then
for nothing at all. So a 401 is doubted: the credential is asked for something cheap that it was given
before. Where that is refused too, the credential is; where it is given, the request is sent once more,
and a second 401 is the endpoint's own, a refusal like a 403.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator

from mirror.auth.signin import SignIn
from mirror.bitbucket.client.answers import Verdict, not_given
from mirror.bitbucket.client.attempts import Attempts
from mirror.bitbucket.endpoints import REPOSITORY, USER, WORKSPACE, Endpoint
from mirror.bitbucket.failures import Denied, Refused
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.logs import get_logger
from mirror.model import Clock

# So many answers of each credential are remembered, to be asked for again.
PROOFS_MAX = 3
# An endpoint that refuses so often in a row, while the credential is good elsewhere, means it.
TRIES = 3
# A refusal for nothing at all has passed by then.
PAUSE = 1.0

_PLACES = re.compile(r"/(?:repositories|workspaces|snippets)/([^/?]+)")
_log = get_logger("bitbucket")

# An endpoint and the address that it was asked at.
Proof = tuple[Endpoint, str]
# Asks with this sign-in alone; None where it was answered, else why not.
Ask = Callable[[SignIn, Endpoint, str], Awaitable[MirrorError | None]]


class Doubts:
    """What each sign-in was given so far, and which endpoints refuse it for reasons of their own."""

    def __init__(self, api_url: str, ask: Ask, clock: Clock) -> None:
        self._api_url = api_url
        self._ask = ask
        self._clock = clock
        self._proofs: defaultdict[int, list[Proof]] = defaultdict(list)
        self._standing: set[tuple[int, str]] = set()
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        # A count that grows with each request and each check tells which came first.
        self._order = itertools.count(1)
        self._good: dict[int, int] = {}
        self._dead: set[int] = set()

    def sent(self, attempts: Attempts) -> None:
        """A request of `attempts` is about to be sent."""
        attempts.sent = next(self._order)

    def passed(self, sign_in: SignIn, attempts: Attempts) -> None:
        """`sign_in` was given what `attempts` asks for."""
        proofs = self._proofs[id(sign_in)]
        self._standing.discard((id(sign_in), attempts.endpoint.name))
        if len(proofs) < PROOFS_MAX and all(one.name != attempts.endpoint.name for one, _ in proofs):
            proofs.append((attempts.endpoint, attempts.url))

    async def judged(self, sign_in: SignIn, attempts: Attempts, verdict: Verdict) -> Verdict | None:
        """What a refusal means in the end; None where the request is to be sent once more. Any other
        verdict is returned as it is."""
        error, key = verdict.error, id(sign_in)
        attempts.again = None
        if not isinstance(error, CredentialRefused):
            return verdict
        attempts.doubted[key] += 1
        is_first = attempts.doubted[key] == 1
        attempts.again = sign_in
        if not isinstance(error, Refused):
            # The sign-in server itself has refused: asking it once more is all that can be checked.
            return verdict if attempts.doubted[key] > 1 else await self._once_more()
        if key in self._dead:
            return verdict
        if (key, attempts.endpoint.name) in self._standing:
            return Verdict(not_given(attempts.endpoint, error))
        if is_first and not self._proofs[key]:
            return await self._once_more()
        if key not in attempts.checked:
            found = await self._check(sign_in, attempts, verdict)
            if found is not None:
                return found
            attempts.checked.add(key)
        if attempts.doubted[key] < TRIES:
            return None
        self._standing.add((key, attempts.endpoint.name))
        _log.warning("bitbucket.endpoint_refuses", endpoint=attempts.endpoint.name, credential=sign_in.label)
        return Verdict(not_given(attempts.endpoint, error))

    async def _once_more(self) -> Verdict | None:
        await self._clock.sleep(PAUSE)
        return None

    async def _check(self, sign_in: SignIn, attempts: Attempts, verdict: Verdict) -> Verdict | None:
        """None where the credential proves to be good; else what is wrong."""
        key = id(sign_in)
        async with self._locks[key]:
            if key in self._dead:
                return verdict
            if self._good.get(key, 0) > attempts.sent:
                return None  # several were refused at once, and one check is enough for all
            trouble: MirrorError | None = None
            for endpoint, url, tries in self._candidates(key, attempts):
                error = await self._proved(sign_in, endpoint, url, tries)
                if error is None:
                    self._good[key] = next(self._order)
                    return None
                if isinstance(error, Refused) and self._proofs[key]:
                    break
                trouble = error if isinstance(error, TryLater) else trouble
            else:
                if trouble is not None:
                    return Verdict(trouble, again=True)
            self._dead.add(key)
            return verdict

    async def _proved(self, sign_in: SignIn, endpoint: Endpoint, url: str, tries: int) -> MirrorError | None:
        """Ask for something; None where the answer shows that the credential is known."""
        for left in range(tries - 1, -1, -1):
            error = await self._ask(sign_in, endpoint, url)
            if error is None or isinstance(error, Denied):
                return None
            if not isinstance(error, Refused | TryLater) or left == 0:
                break
            await self._clock.sleep(PAUSE)
        return error

    def _candidates(self, key: int, attempts: Attempts) -> Iterator[tuple[Endpoint, str, int]]:
        """What to ask for, and how often: what was given before, else what most credentials are given."""
        for endpoint, url in self._proofs[key]:
            if endpoint.name != attempts.endpoint.name:
                yield endpoint, url, 3
        found = _PLACES.search(attempts.url)
        around = place_of(attempts.url)
        addresses = [(WORKSPACE, self._api_url + f"/workspaces/{found[1]}")] if found else []
        if around is not None and "/repositories/" in around:
            addresses.append((REPOSITORY, around))
        addresses.append((USER, self._api_url + USER.path()))
        for endpoint, url in addresses:
            if url != attempts.url:
                yield endpoint, url, 1


def place_of(url: str) -> str | None:
    """The address of the repository, project or workspace that `url` is below; None where it is below
    none."""
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
