"""How each kind of credential signs a request: `httpx.Auth` flows.

A flow signs requests to its own origins only, whatever it is handed.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing
from typing import Any

import httpx

from mirror.auth import connect
from mirror.auth.credentials import ConnectJwt
from mirror.auth.secrets import Secret
from mirror.errors import CredentialRefused, TryLater, UsageError
from mirror.http import headers, origins
from mirror.http.network import Network
from mirror.http.origins import Origin
from mirror.http.rates import TooSlow, paced
from mirror.http.words import after_colon, said
from mirror.logs import register_secret
from mirror.model import Clock, NotCanonical, loads

# Renewed this long before it lapses, so that no request is on its way with a dead token.
RENEW_EARLY = 120.0
TOKEN_SECONDS_DEFAULT = 3600.0
TOKEN_SECONDS_MAX = 86_400.0
# A request made inside a flow does not inherit the client's timeouts.
TIMEOUT = httpx.Timeout(30.0, pool=None)
ANSWER_BYTES_MAX = 256 * 1024
ANSWER_SECONDS = 60.0


class ForeignOrigin(UsageError):
    """Somebody tried to sign a request to a host that the credential is not for."""


class SignInTrouble(TryLater):
    """The sign-in server failed or could not be reached; the credential may be good."""


def origin(url: httpx.URL) -> Origin:
    """Scheme, host and port: what a credential is bound to."""
    return origins.origin(str(url))


class _OwnOrigins(httpx.Auth):
    def __init__(self, *urls: str) -> None:
        self._origins = {origin(httpx.URL(url)) for url in urls}

    def guard(self, request: httpx.Request) -> None:
        """Refuse to sign what goes elsewhere."""
        if origin(request.url) not in self._origins:
            raise ForeignOrigin(f"refusing to send the credential to {request.url.host}")


class HeaderAuth(_OwnOrigins):
    """A fixed Authorization header."""

    def __init__(self, scheme: str, secret: Secret, *urls: str) -> None:
        super().__init__(*urls)
        self._scheme = scheme
        self._secret = secret

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign `request`."""
        self.guard(request)
        request.headers["Authorization"] = f"{self._scheme} {self._secret.reveal()}"
        yield request


def basic(username: str, password: Secret) -> Secret:
    """What Basic sends: also a secret, which logs must not show either."""
    return Secret(headers.basic(username, password.reveal()).removeprefix("Basic "))


class BasicAuth(HeaderAuth):
    """User name and password in every request."""

    def __init__(self, username: str, password: Secret, *urls: str) -> None:
        super().__init__("Basic", basic(username, password), *urls)


class RenewingAuth(_OwnOrigins, ABC):
    """An access token that is asked for when needed, before it lapses, and once after a 401.

    Concurrent requests share one renewal. Subclasses say how to ask.
    """

    requires_response_body = False

    def __init__(self, oauth_url: str, clock: Clock, *urls: str) -> None:
        super().__init__(oauth_url, *urls)
        self.oauth_url = oauth_url
        self.user_agent = Network().api_agent
        self.clock = clock
        self._lock = asyncio.Lock()
        self._token: Secret | None = None
        self._lapses = 0.0

    @abstractmethod
    def token_request(self) -> httpx.Request:
        """The request that asks for a token."""

    def _form(self, grant: str) -> httpx.Request:
        return httpx.Request(
            "POST",
            self.oauth_url,
            data={"grant_type": grant},
            headers={"Accept": "application/json", "User-Agent": self.user_agent},
            extensions={"timeout": TIMEOUT.as_dict()},
        )

    def sync_auth_flow(  # the name and shape are httpx's
        self,
        request: httpx.Request,  # noqa: ARG002
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Not for synchronous clients: the renewal is shared between tasks."""
        raise RuntimeError("this sign-in needs an asynchronous client")

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign `request`, asking for a token first where there is none that lasts."""
        self.guard(request)
        for attempt in (1, 2):
            async with self._lock:
                if self._lasting() is None:
                    answer = yield self.token_request()
                    await self._take(answer)
                token = self._token
                assert token is not None
            request.headers["Authorization"] = f"Bearer {token.reveal()}"
            response = yield request
            if response.status_code != 401 or attempt == 2:
                return
            # What is read before the second try is bounded like everything else.
            response.stream = _Capped(response.stream)
            if self._token is token:
                self._token = None

    async def token(self, client: httpx.AsyncClient) -> Secret:
        """A token that lasts, for git.

        Raises CredentialRefused, or SignInTrouble where the server cannot say.
        """
        async with self._lock:
            token = self._lasting()
            if token is not None:
                return token
            try:
                answer = await client.send(
                    self.token_request(), auth=None, follow_redirects=False, stream=True
                )
                try:
                    await self._take(answer)
                finally:
                    await answer.aclose()
            except httpx.TransportError as error:
                raise SignInTrouble(
                    f"the sign-in server cannot be reached ({type(error).__name__})"
                ) from None
            assert self._token is not None
            return self._token

    def _lasting(self) -> Secret | None:
        return self._token if self.clock.monotonic() < self._lapses else None

    async def _take(self, answer: httpx.Response) -> None:
        """Read the token that was asked for."""
        status = answer.status_code
        answer.stream = _Capped(answer.stream)
        try:
            body = await answer.aread()
        except httpx.DecodingError:
            body = b""
        except TooSlow as error:
            raise SignInTrouble(f"signing in failed: {error}") from None
        told = after_colon(said(answer.headers.get("content-type"), body)) if status != 200 else ""
        if status == 429 or status >= 500:
            raise SignInTrouble(f"the sign-in server answered {status}{told}")
        if status in (400, 401, 403):
            raise CredentialRefused(
                f"the sign-in server refused the credential ({status}){told}",
                hint="check the consumer's or app's keys, and that it is still installed",
            )
        if status != 200:
            raise UsageError(
                f"the sign-in server answered {status}: tokens are not given there{told}",
                hint="check bitbucket.oauth_url in the configuration",
            )
        try:
            data: Any = loads(body)
        except NotCanonical:
            data = None
        token = data.get("access_token") if isinstance(data, dict) else None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise SignInTrouble("the sign-in server answered without a token")
        lasts = data.get("expires_in")
        seconds = TOKEN_SECONDS_DEFAULT
        if isinstance(lasts, int | float) and not isinstance(lasts, bool) and lasts > 0:
            seconds = float(min(lasts, TOKEN_SECONDS_MAX))
        self._token = Secret(token)
        self._lapses = self.clock.monotonic() + max(seconds - RENEW_EARLY, seconds / 2)


class _Capped(httpx.AsyncByteStream):
    """A stream that breaks off when it gets longer than any answer about sign-in is."""

    def __init__(self, inner: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        assert isinstance(inner, httpx.AsyncByteStream)
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in paced(aiter(self._inner), seconds=ANSWER_SECONDS):
            size += len(chunk)
            if size > ANSWER_BYTES_MAX:
                raise httpx.RemoteProtocolError("longer than an answer about sign-in can be")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class ConsumerAuth(RenewingAuth):
    """An OAuth consumer: client credentials, no refresh token, just asked for again."""

    def __init__(self, client_id: str, secret: Secret, oauth_url: str, clock: Clock, *urls: str) -> None:
        super().__init__(oauth_url, clock, *urls)
        self._basic = basic(client_id, secret)

    def token_request(self) -> httpx.Request:
        """Ask with the consumer's id and secret."""
        request = self._form("client_credentials")
        request.headers["Authorization"] = f"Basic {self._basic.reveal()}"
        return request


class ConnectAuth(RenewingAuth):
    """A Connect installation: a JWT for the add-on endpoints, exchanged for a token for the rest."""

    def __init__(
        self, credential: ConnectJwt, secret: Secret, oauth_url: str, clock: Clock, api_url: str
    ) -> None:
        super().__init__(oauth_url, clock, api_url)
        self._credential = credential
        self._secret = secret
        self._addon = httpx.URL(api_url).path.rstrip("/") + "/addon"

    def _jwt(self, request: httpx.Request) -> str:
        token = connect.sign(
            app_key=self._credential.app_key,
            client_key=self._credential.client_key,
            shared_secret=self._secret.reveal(),
            method=request.method,
            url=str(request.url),
            issued_at=int(self.clock.now().timestamp()),
        )
        register_secret(token)
        return f"JWT {token}"

    def token_request(self) -> httpx.Request:
        """Ask with a JWT for this very request."""
        request = self._form("urn:bitbucket:oauth2:jwt")
        request.headers["Authorization"] = self._jwt(request)
        return request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign `request` with a JWT or with the token that one is exchanged for."""
        path = request.url.path
        if path == self._addon or path.startswith(self._addon + "/"):
            self.guard(request)
            request.headers["Authorization"] = self._jwt(request)
            yield request
            return
        # Closed here and now, so that a request that breaks off never holds the renewal's lock.
        async with aclosing(super().async_auth_flow(request)) as flow:
            wanted = await anext(flow)
            while True:
                received = yield wanted
                try:
                    wanted = await flow.asend(received)
                except StopAsyncIteration:
                    return
