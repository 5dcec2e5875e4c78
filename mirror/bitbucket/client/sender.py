"""Sends requests within the budget and follows their redirects; the credential stays below the API's root."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from mirror.auth.signin import SignIn
from mirror.bitbucket.client import responses
from mirror.bitbucket.client.budget import NOT_LENT, Budget
from mirror.bitbucket.client.change import Change
from mirror.bitbucket.client.credential_choice import Request
from mirror.bitbucket.client.decoding import ACCEPT_ENCODING, chunks
from mirror.bitbucket.client.redirects import redirect_target
from mirror.bitbucket.client.spending import Spending
from mirror.bitbucket.endpoints import BYTES, JSON, Endpoint
from mirror.bitbucket.failures import BadAnswer
from mirror.http.network import Network
from mirror.http.origins import REDIRECTS_MAX
from mirror.http.scope import Scope
from mirror.http.transports import NetworkTransport
from mirror.model import Json, NoProgress, Progress, dumps

SILENCE = 60.0
KEEP_ALIVE_SECONDS = 60.0


@dataclass(frozen=True)
class ResponseLimits:
    """Limits of each response: `body_bytes` of a document, and `seconds` for its head and again for its body.
    The body of a file may take longer, as long as it arrives at the minimum rate."""

    body_bytes: int = 64 * 1024 * 1024
    seconds: float = 300.0


def _form_text(value: Json) -> str:
    """A value as a field of a form."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def has_files(change: Change | None) -> bool:
    """Whether a change sends files."""
    return change is not None and bool(change.files)


@dataclass(frozen=True)
class Received:
    """A response, and whether it is from the API itself, not from a storage that the API redirected to."""

    response: httpx.Response
    is_from_api: bool

    @property
    def is_file(self) -> bool:
        """Whether it is a file, or the rest of one. A web page from the API itself is a failure of its front
        end, unless it is an attachment, as for a snippet's file; in a storage it may be the file."""
        is_page = responses.is_html(self.response) and not responses.is_attachment(self.response)
        return self.response.status_code in (200, 206) and not (self.is_from_api and is_page)


class Sender:
    """Sends requests. At most `concurrency` are open at a time: hold one of `slots` for each.

    `requests` counts the requests to the API so far. `http` is the client for requests about sign-in.
    `progress` is told of them, of waits and of the bytes that arrive, and how many requests those
    `identities` have left that sign them.
    """

    def __init__(
        self,
        scope: Scope,
        budget: Budget,
        network: Network,
        *,
        concurrency: int,
        transport: httpx.AsyncBaseTransport | None,
        limits: ResponseLimits,
        identities: Collection[str],
        progress: Progress | None = None,
    ) -> None:
        self.requests = 0
        self.progress = progress or NoProgress()
        self._identities = frozenset(identities)
        self._scope = scope
        self._budget = budget
        self._network = network
        self._limits = limits
        width = max(1, concurrency)
        self.slots = asyncio.Semaphore(width)
        connections = httpx.Limits(
            max_connections=width, max_keepalive_connections=width, keepalive_expiry=KEEP_ALIVE_SECONDS
        )
        self.http = httpx.AsyncClient(
            transport=transport or NetworkTransport(network, connections),
            timeout=httpx.Timeout(SILENCE, connect=network.connect_timeout, pool=None),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": network.api_agent, "Accept-Encoding": ACCEPT_ENCODING},
            # Cookies are never stored, so none is sent to the wrong place.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        # These would log headers, and URLs of storage that are secrets.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def wait_for_budget(self, sign_in: SignIn, request: Request) -> None:
        """Wait until the budget allows one more request, and count it. Raises RateLimited, and TryLater where
        the lender cannot be reached."""
        request.right = await self._budget.acquire(
            sign_in.identity,
            request.endpoint.group,
            priority=request.priority,
            since=request.since,
            until=request.until,
            progress=self.progress,
            spares=request.spares,
        )

    @asynccontextmanager
    async def open(
        self, sign_in: SignIn, request: Request, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Received]:
        """Send a request, with more `headers`, and follow its redirects. It waits for the budget where that
        did not allow it, or so long ago that what was lent ran out.

        Only requests below the API's root are signed. After a redirect out of it none is, even where another
        one leads back. Raises BadAnswer, CredentialRefused, and what httpx raises.
        """
        endpoint = request.endpoint
        url, is_own = request.url, True
        for _ in range(REDIRECTS_MAX + 1):
            is_own = is_own and self._scope.contains(url)
            if is_own and self._budget.is_over(request.right):
                await self.wait_for_budget(sign_in, request)
            response = await self._send(sign_in, request, url, headers or {}, is_own=is_own)
            try:
                target = redirect_target(response, endpoint.name)
                if target is not None and request.change is not None:
                    self._check_resendable(response, target, endpoint)
                if target is None:
                    yield Received(response, is_own)
                    return
                url = target
            finally:
                await response.aclose()
        raise BadAnswer(f"{endpoint.name}: more than {REDIRECTS_MAX} redirects", endpoint=endpoint.name)

    def _check_resendable(self, response: httpx.Response, target: str, endpoint: Endpoint) -> None:
        """Raise BadAnswer unless a change is to be sent once more, as it is, to a URL of the API."""
        if response.status_code not in (307, 308) or not self._scope.contains(target):
            text = f"{endpoint.name}: a change was redirected ({response.status_code}), which is not followed"
            hint = "if the repository was renamed, use its present name"
            raise BadAnswer(text, status=response.status_code, endpoint=endpoint.name, hint=hint)

    async def _send(
        self, sign_in: SignIn, asked: Request, url: str, more: Mapping[str, str], *, is_own: bool
    ) -> httpx.Response:
        endpoint = asked.endpoint
        headers = {"Accept": endpoint.accept, **more}
        if endpoint.accept == BYTES:
            headers["Accept-Encoding"] = "identity"  # a compressed transfer cannot be resumed
        try:
            request = self._build(url, headers, asked.change)
        except (httpx.InvalidURL, ValueError):
            raise BadAnswer(f"{endpoint.name}: malformed URL", endpoint=endpoint.name) from None
        if not is_own:
            self._count(0)

        async def spend() -> None:
            # A sign-in that renews its token sends the request twice.
            if self._budget.is_over(asked.right):
                await self.wait_for_budget(sign_in, asked)
            asked.right = NOT_LENT
            self._count(1)

        try:
            # A file may take its time on the way; silence ends it all the same.
            async with asyncio.timeout(None if has_files(asked.change) else self._limits.seconds):
                response = await self.http.send(
                    request,
                    auth=Spending(sign_in.auth, self._scope, spend) if is_own else None,
                    stream=True,
                    follow_redirects=False,
                )
        except TimeoutError:
            raise httpx.ReadTimeout("no response in time") from None
        except (httpx.RemoteProtocolError, httpx.InvalidURL) as error:
            # httpx parses the target of a redirect even where it does not follow it.
            if isinstance(error, httpx.InvalidURL) or "location header" in str(error):
                raise BadAnswer(f"{endpoint.name}: a redirect to nowhere", endpoint=endpoint.name) from None
            raise
        return response

    def _count(self, requests: int) -> None:
        self.requests += requests
        left = sum(self._budget.left(one, "api") for one in self._identities)
        limit = sum(self._budget.used(one, "api")[1] for one in self._identities)
        self.progress.requested(requests, left, limit)

    def _build(self, url: str, headers: dict[str, str], change: Change | None) -> httpx.Request:
        if change is None:
            return self.http.build_request("GET", url, headers=headers)
        if change.method == "DELETE":
            return self.http.build_request(change.method, url, headers=headers)
        if not change.files:
            headers["Content-Type"] = JSON
            return self.http.build_request(change.method, url, headers=headers, content=dumps(change.body))
        for one in change.files:
            one.stream.seek(0)
        fields = change.body if isinstance(change.body, dict) else {}
        form = {name: _form_text(value) for name, value in fields.items()}
        files = [(one.field, (one.name, one.stream)) for one in change.files]
        return self.http.build_request(change.method, url, headers=headers, data=form, files=files)

    async def read(self, response: httpx.Response, endpoint: Endpoint) -> bytes:
        """The whole body of a document. Raises BadAnswer, TooSlow and httpx.DecodingError."""
        data = bytearray()
        async for chunk in chunks(
            response,
            most=self._limits.body_bytes,
            what=endpoint.name,
            minimum_rate=self._network.minimum_rate,
            seconds=self._limits.seconds,
        ):
            data += chunk
        self.progress.received(0, len(data))
        return bytes(data)
