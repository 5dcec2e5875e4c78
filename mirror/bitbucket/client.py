"""The client: one request after another, each within the budget, signed, checked and retried.

It believes nothing. Addresses that a server names are held against the API's own origin before the
credential goes along; answers are bounded in size while they come; and every failure has a type
that says what it means, because "no answer" and "none" must never look alike.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlencode

import httpx

from mirror import __version__
from mirror.auth.signin import SignIn
from mirror.bitbucket import answers
from mirror.bitbucket.answers import Verdict
from mirror.bitbucket.budget import Budget
from mirror.bitbucket.endpoints import Endpoint, Query
from mirror.bitbucket.failures import (
    ApiError,
    BadAnswer,
    Denied,
    NotFound,
    Refused,
    ServerTrouble,
    plain,
)
from mirror.errors import TryLater
from mirror.logs import get_logger
from mirror.model import Clock, Json, JsonObject, NotCanonical, loads

TRIES_MAX = 5
REDIRECTS_MAX = 5
BODY_BYTES_MAX = 64 * 1024 * 1024
DOWNLOAD_BYTES_MAX = 256 * 1024 * 1024
BACKOFF_FIRST = 1.0
BACKOFF_MAX = 60.0
TIMEOUT = httpx.Timeout(60.0, connect=30.0, pool=None)
USER_AGENT = f"mirror/{__version__}"

_log = get_logger("bitbucket")


@dataclass(frozen=True)
class Answer:
    """One answer: its JSON, the headers (lower-case names), and the URL that gave it."""

    data: Json
    headers: Mapping[str, str] = field(repr=False)
    url: str = ""

    def object(self, what: str) -> JsonObject:
        """The JSON as an object. Raises BadAnswer where it is something else."""
        if not isinstance(self.data, dict):
            raise BadAnswer(f"{what}: the answer is not an object")
        return self.data


class Client:
    """Talks to one API with one or several sign-ins. An async context manager.

    With several, each request goes by the one with the most requests left; what one may not read
    is asked with the next. `requests` counts what was sent.
    """

    def __init__(
        self,
        sign_ins: Sequence[SignIn],
        *,
        api_url: str,
        clock: Clock,
        concurrency: int = 8,
        budget: Budget | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.api_url = api_url.rstrip("/")
        self.clock = clock
        self.budget = budget or Budget(clock)
        self.requests = 0
        self._sign_ins = list(sign_ins)
        self._refused: dict[str, Refused] = {}
        self._slots = asyncio.Semaphore(max(1, concurrency))
        self._root = httpx.URL(self.api_url)
        self._told: set[str] = set()
        self._page_sizes: dict[str, int] = {}
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, protects nothing
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=TIMEOUT,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def sign_ins(self) -> tuple[SignIn, ...]:
        """The sign-ins, the preferred first."""
        return tuple(self._sign_ins)

    async def git_login(self) -> tuple[str, str] | None:
        """User name and password for git by the first sign-in, or None where there is none."""
        return await self._sign_ins[0].git_login(self._http) if self._sign_ins else None

    def url(self, endpoint: Endpoint, query: Query | None = None, **parts: str | int) -> str:
        """The address of an endpoint, its own query and `query` included."""
        pairs: list[tuple[str, str]] = []
        for name, value in {**endpoint.query, **(query or {})}.items():
            pairs += [(name, item) for item in ([value] if isinstance(value, str) else value)]
        text = f"?{urlencode(pairs)}" if pairs else ""
        return self.api_url + endpoint.path(**parts) + text

    async def get(self, endpoint: Endpoint, query: Query | None = None, **parts: str | int) -> Answer:
        """Ask for one thing. Raises the errors of `mirror.bitbucket.failures`."""
        return await self.fetch(endpoint, self.url(endpoint, query, **parts))

    async def fetch(self, endpoint: Endpoint, url: str) -> Answer:
        """Ask for the JSON at `url`, which must be the API's own."""
        self.check_own(url, endpoint)
        denied: ApiError | None = None
        for sign_in in self._order(endpoint):
            try:
                return await self._fetch_as(sign_in, endpoint, url)
            except Refused as error:
                _log.warning("bitbucket.credential_refused", credential=sign_in.label)
                self._refused[sign_in.identity] = error
            except (Denied, NotFound) as error:
                # A thing that this credential may not see can be a 404, too.
                if denied is None or isinstance(error, Denied):
                    denied = error
        if denied is not None:
            raise denied
        raise next(iter(self._refused.values()))

    def _order(self, endpoint: Endpoint) -> list[SignIn]:
        usable = [one for one in self._sign_ins if one.identity not in self._refused]
        return sorted(usable, key=lambda one: -self.budget.left(one.identity, endpoint.group))

    async def _fetch_as(self, sign_in: SignIn, endpoint: Endpoint, url: str) -> Answer:
        problem: Exception | None = None
        for attempt in range(TRIES_MAX):
            if attempt:
                await self._back_off(attempt)
            try:
                async with self._slots, self._open(sign_in, endpoint, url) as response:
                    body = await self._read(response, endpoint, BODY_BYTES_MAX)
                    verdict = self._judge(sign_in, endpoint, response, body)
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = ServerTrouble(f"{endpoint.name}: the connection failed ({type(error).__name__})")
                problem.__cause__ = error
                continue
            if verdict.error is not None and not verdict.again:
                raise verdict.error
            if verdict.error is None:
                try:
                    return Answer(loads(body), dict(response.headers), str(response.url))
                except NotCanonical as error:
                    # Often a connection that was cut; if it stays so, it is the answer itself.
                    problem = BadAnswer(f"{endpoint.name}: {plain(error)}", endpoint=endpoint.name)
                    continue
            problem = verdict.error
            if verdict.wait is not None:
                self.budget.block(sign_in.identity, endpoint.group, verdict.wait)
        assert problem is not None
        raise problem

    def _judge(self, sign_in: SignIn, endpoint: Endpoint, response: httpx.Response, body: bytes) -> Verdict:
        self._note_deprecation(endpoint, response)
        limit, remaining = answers.rate_headers(response.headers)
        self.budget.learn(sign_in.identity, endpoint.group, limit=limit, remaining=remaining)
        return answers.judge(endpoint, response, body, kind=sign_in.kind, now=self.clock.now())

    async def _back_off(self, attempt: int) -> None:
        longest = min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** (attempt - 1))
        await self.clock.sleep(longest * (0.5 + self._jitter.random() / 2))

    @asynccontextmanager
    async def _open(self, sign_in: SignIn, endpoint: Endpoint, url: str) -> AsyncIterator[httpx.Response]:
        """Send a request and follow its redirects; the credential stays at the API's own origin."""
        for _ in range(REDIRECTS_MAX):
            await self.budget.acquire(sign_in.identity, endpoint.group)
            own = self.is_own(url)
            request = self._http.build_request("GET", url)
            self.requests += 1
            self._http.cookies.clear()
            response = await self._http.send(
                request, auth=sign_in.auth if own else None, stream=True, follow_redirects=False
            )
            try:
                target = self._target(response, endpoint)
                if target is None:
                    yield response
                    return
                url = target
            finally:
                await response.aclose()
        raise BadAnswer(f"{endpoint.name}: more than {REDIRECTS_MAX} redirects", endpoint=endpoint.name)

    def _target(self, response: httpx.Response, endpoint: Endpoint) -> str | None:
        if response.status_code not in (301, 302, 303, 307, 308):
            return None
        location = response.headers.get("location")
        if not location:
            raise BadAnswer(f"{endpoint.name}: a redirect to nowhere", endpoint=endpoint.name)
        try:
            target = response.url.join(location)
        except (httpx.InvalidURL, ValueError):
            raise BadAnswer(f"{endpoint.name}: a redirect to nowhere", endpoint=endpoint.name) from None
        if target.scheme not in ("http", "https") or not target.host:
            raise BadAnswer(f"{endpoint.name}: a redirect to {plain(target.scheme)}", endpoint=endpoint.name)
        if response.url.scheme == "https" and target.scheme == "http":
            raise BadAnswer(f"{endpoint.name}: a redirect away from https", endpoint=endpoint.name)
        return str(target)

    def is_own(self, url: str) -> bool:
        """Whether `url` is below the API's own root: same scheme, host, port and path."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            return False
        root = self._root
        same = (parsed.scheme, parsed.host, parsed.port) == (root.scheme, root.host, root.port)
        path = parsed.path
        return (
            same
            and not parsed.userinfo
            and ".." not in path.split("/")
            and path.startswith(root.path.rstrip("/") + "/")
        )

    def check_own(self, url: str, endpoint: Endpoint) -> None:
        """Raise BadAnswer where `url` leads away from the API."""
        if not self.is_own(url):
            raise BadAnswer(
                f"{endpoint.name}: an address that leads away from {self._root.host}; not followed",
                endpoint=endpoint.name,
            )

    async def _read(self, response: httpx.Response, endpoint: Endpoint, most: int) -> bytes:
        data = bytearray()
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > most:
                raise BadAnswer(f"{endpoint.name}: larger than {most} bytes", endpoint=endpoint.name)
        return bytes(data)

    def _note_deprecation(self, endpoint: Endpoint, response: httpx.Response) -> None:
        told = {
            name: plain(response.headers[name])
            for name in ("deprecation", "sunset")
            if name in response.headers
        }
        link = response.headers.get("link", "")
        if "deprecation" in link:
            told["link"] = plain(link)
        if told and endpoint.name not in self._told:
            self._told.add(endpoint.name)
            _log.warning("bitbucket.deprecated", endpoint=endpoint.name, **told)

    @asynccontextmanager
    async def download(self, endpoint: Endpoint, **parts: str | int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a file as they come, at most DOWNLOAD_BYTES_MAX of them.

        Redirects to storage elsewhere are followed without the credential. A break in the middle
        raises ServerTrouble; what was read until then must be dropped.
        """
        url = self.url(endpoint, None, **parts)
        problem: Exception | None = None
        for attempt in range(TRIES_MAX):
            if attempt:
                await self._back_off(attempt)
            begun = False
            try:
                sign_in = self._order(endpoint)[0] if self._order(endpoint) else None
                if sign_in is None:
                    raise next(iter(self._refused.values()))
                async with self._slots, self._open(sign_in, endpoint, url) as response:
                    if response.status_code == 200:
                        begun = True
                        yield self._chunks(response, endpoint, DOWNLOAD_BYTES_MAX)
                        return
                    body = await self._read(response, endpoint, BODY_BYTES_MAX)
                    verdict = self._judge(sign_in, endpoint, response, body)
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = ServerTrouble(f"{endpoint.name}: the connection failed ({type(error).__name__})")
                if begun:
                    raise problem from error
                continue
            problem = verdict.error or BadAnswer(
                f"{endpoint.name}: answered {response.status_code} without content", endpoint=endpoint.name
            )
            if not verdict.again:
                raise problem
            if verdict.wait is not None:
                self.budget.block(sign_in.identity, endpoint.group, verdict.wait)
        assert problem is not None
        raise problem

    async def _chunks(self, response: httpx.Response, endpoint: Endpoint, most: int) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > most:
                raise BadAnswer(f"{endpoint.name}: larger than {most} bytes", endpoint=endpoint.name)
            yield chunk

    def page_size(self, endpoint: Endpoint) -> int:
        """How many entries to ask for in a page: the endpoint's most, or what it last accepted."""
        return self._page_sizes.get(endpoint.name, endpoint.page_size)

    def shrink_page(self, endpoint: Endpoint) -> bool:
        """After a page size was refused: ask for 50, then name none. False where none was named."""
        size = self.page_size(endpoint)
        if size == 0:
            return False
        self._page_sizes[endpoint.name] = 50 if size > 50 else 0
        _log.info("bitbucket.page_size_refused", endpoint=endpoint.name, refused=size)
        return True


def is_passing(error: BaseException) -> bool:
    """Whether trying later may help."""
    return isinstance(error, TryLater)
