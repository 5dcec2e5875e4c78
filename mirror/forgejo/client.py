"""The client of a Forgejo's API: one token, sent to one server and nowhere else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import httpx

from mirror.auth.secrets import Secret
from mirror.errors import MirrorError
from mirror.forgejo.endpoints import PAGE_SIZE, ROOT, Endpoint
from mirror.forgejo.failures import Refused, ServerTrouble
from mirror.http.failures import failure_reason
from mirror.http.headers import wait_from_headers
from mirror.http.messages import after_colon, server_message
from mirror.http.network import Network
from mirror.http.rates import TooSlow, at_least_rate
from mirror.http.requests import FilePart, MaybeMade, RequestFailed
from mirror.http.retries import WAIT_MAX, is_retryable, retry_delay
from mirror.http.transports import NetworkTransport
from mirror.model import Clock, Json, JsonObject, NotCanonical, loads

SILENCE = 60.0
BODY_BYTES_MAX = 64 * 1024 * 1024
SECONDS = 300.0
# A list with more pages than this has no end.
PAGES_MAX = 100_000
_COUNT_DIGITS_MAX = 18
HINT_TOKEN = "give FORGEJO_TOKEN a token that is valid there; docs/restore.md names the scopes it needs"  # noqa: S105
HINT_REDIRECT = "name the server's own URL, as the address bar of a browser shows it"


class Client:
    """A client of the Forgejo at `url`, without `/api/v1`. An async context manager.

    The token is sent with every request; all of them are below `url`, and no redirect is followed.
    `concurrency` is how many are open at a time.
    """

    def __init__(
        self,
        url: str,
        token: Secret,
        *,
        clock: Clock,
        network: Network,
        concurrency: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.requests = 0
        self._token = token
        self._clock = clock
        self._network = network
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._http = httpx.AsyncClient(
            transport=transport or NetworkTransport(network, limits),
            timeout=httpx.Timeout(SILENCE, connect=network.connect_timeout, pool=None),
            follow_redirects=False,
            trust_env=False,
            headers={
                "User-Agent": network.api_agent,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, endpoint: Endpoint, **parts: str | int) -> Json:
        """The JSON at an endpoint. Raises RequestFailed, Refused and ServerTrouble."""
        return (await self._ask(endpoint, self._url(endpoint, endpoint.query, parts)))[0]

    async def entries(self, endpoint: Endpoint, **parts: str | int) -> list[JsonObject]:
        """Every entry of a list, or the one thing at an endpoint. Raises as `get`.

        A server may serve fewer entries a page than were asked for, so a short page is not the last one. One
        that serves the same page for ever has RequestFailed: what is there is not known then.
        """
        if not endpoint.is_paged:
            data = await self.get(endpoint, **parts)
            return [one for one in (data if isinstance(data, list) else [data]) if isinstance(one, dict)]
        found: list[JsonObject] = []
        last: Json = None
        for page in itertools.count(1):
            query = {**endpoint.query, "page": str(page), "limit": str(PAGE_SIZE)}
            data, headers = await self._ask(endpoint, self._url(endpoint, query, parts))
            if not isinstance(data, list):
                raise RequestFailed(f"{endpoint.name}: the answer is not a list", endpoint=endpoint.name)
            found += [one for one in data if isinstance(one, dict)]
            if not data or _is_total(headers.get("x-total-count", ""), len(found)):
                break
            if data == last or page == PAGES_MAX:
                raise RequestFailed(f"{endpoint.name}: the list has no end", endpoint=endpoint.name)
            last = data
        return found

    async def send(
        self,
        method: str,
        endpoint: Endpoint,
        parts: Mapping[str, str | int],
        body: Json = None,
        file: FilePart | None = None,
    ) -> Json:
        """Make or change something, with a JSON `body` or a `file`; returns the answer. Raises as `get`, and
        MaybeMade where it may have been carried out: only what certainly was not is sent again."""
        if file is None:
            url = self._url(endpoint, {}, parts)
            return (await self._ask(endpoint, url, method, {"json": {} if body is None else body}))[0]
        # The name stands in the query too: there it needs no quoting of its own.
        url = self._url(endpoint, {"name": file.name}, parts)
        return (await self._ask(endpoint, url, method, {"files": {file.field: (file.name, file.stream)}}))[0]

    def _url(self, endpoint: Endpoint, query: Mapping[str, str], parts: Mapping[str, str | int]) -> str:
        text = f"?{urlencode(query)}" if query else ""
        return f"{self.url}{ROOT}{endpoint.path(**parts)}{text}"

    async def _ask(
        self, endpoint: Endpoint, url: str, method: str = "GET", options: Mapping[str, Any] | None = None
    ) -> tuple[Json, httpx.Headers]:
        """Send a request until it is answered; what is no GET only as long as nothing was done."""
        attempts = 0
        while True:
            attempts += 1
            asked: float | None = None
            try:
                response, body = await self._once(method, url, options or {})
            except (httpx.TransportError, TooSlow) as error:
                failure, may_repeat = _failure_of_connection(endpoint, method, error)
            else:
                if response.is_success:
                    return _decoded(endpoint, method, body), response.headers
                failure, may_repeat = _failure_of_answer(endpoint, method, response, body)
                asked = wait_from_headers(response.headers, self._clock.now())
            delay = retry_delay(attempts, asked, first=self._network.pause)
            if not may_repeat or delay is None or delay > WAIT_MAX:
                raise failure
            await self._clock.sleep(delay)

    async def _once(self, method: str, url: str, options: Mapping[str, Any]) -> tuple[httpx.Response, bytes]:
        self.requests += 1
        headers = {"Authorization": f"token {self._token.reveal()}"}
        request = self._http.build_request(method, url, headers=headers, **options)
        try:
            # A file may take its time on the way; silence ends it all the same.
            async with asyncio.timeout(None if "files" in options else SECONDS):
                response = await self._http.send(request, stream=True)
        except TimeoutError:
            raise httpx.ReadTimeout("no response in time") from None
        data = bytearray()
        try:
            async for chunk in at_least_rate(
                response.aiter_raw(), self._network.minimum_rate, seconds=SECONDS
            ):
                data += chunk
                if len(data) > BODY_BYTES_MAX:
                    raise TooSlow(f"the answer is larger than {BODY_BYTES_MAX} bytes")
        finally:
            await response.aclose()
        return response, bytes(data)


def _is_total(text: str, count: int) -> bool:
    """Whether a list has no more than these entries, by what the server counts."""
    return text.isdecimal() and len(text) <= _COUNT_DIGITS_MAX and count >= int(text)


def _decoded(endpoint: Endpoint, method: str, body: bytes) -> Json:
    """The JSON of an answer; what was made is made, whatever the answer to that is, so that it may be None.
    Raises RequestFailed."""
    try:
        return loads(body)
    except NotCanonical:
        if method != "GET":
            return None
        raise RequestFailed(f"{endpoint.name}: the answer is not JSON", endpoint=endpoint.name) from None


def _failure_of_connection(endpoint: Endpoint, method: str, error: Exception) -> tuple[MirrorError, bool]:
    """The failure that a missing answer means, and whether the request may be sent again."""
    reason, hint = failure_reason(error)
    text = f"{endpoint.name}: the connection failed ({reason})"
    if method != "POST" or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return ServerTrouble(text, hint=hint), hint is None
    return MaybeMade(f"{text}; whether it was carried out is not known"), False


def _failure_of_answer(
    endpoint: Endpoint, method: str, response: httpx.Response, body: bytes
) -> tuple[MirrorError, bool]:
    """The failure that an answer means, and whether the request may be sent again."""
    status, name = response.status_code, endpoint.name
    detail = after_colon(server_message(response.headers.get("content-type"), body))
    if status == 401:
        return Refused(f"{name}: Forgejo refused the token{detail}", hint=HINT_TOKEN), False
    if status == 429:
        return ServerTrouble(f"{name}: too many requests{detail}"), True
    if status >= 500 and method == "POST":
        return MaybeMade(f"{name}: answered {status}{detail}; whether it was carried out is not known"), False
    hint = HINT_REDIRECT if response.is_redirect else HINT_TOKEN if status == 403 else None
    text = f"{name}: answered {status}{detail}"
    return RequestFailed(text, status=status, endpoint=name, hint=hint), is_retryable(status)
