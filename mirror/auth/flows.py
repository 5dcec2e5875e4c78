"""How each kind of credential signs a request: `httpx.Auth` flows.

A flow signs requests to its own origins only.
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
from mirror.errors import CredentialRefused, MirrorError, TryLater, UsageError
from mirror.http.headers import basic_credentials
from mirror.http.messages import after_colon, server_message
from mirror.http.network import Network
from mirror.http.origins import origin
from mirror.http.rates import MinimumRate, TooSlow, at_least_rate
from mirror.http.retries import is_retryable
from mirror.logs import register_secret
from mirror.model import Clock, NotCanonical, loads

# A token is renewed this long before it expires, so that none expires while a request is on its way.
RENEW_EARLY = 120.0
TOKEN_SECONDS_DEFAULT = 3600.0
TOKEN_SECONDS_MAX = 86_400.0
# Requests inside a flow do not inherit the client's timeouts.
TIMEOUT = httpx.Timeout(30.0, pool=None)
RESPONSE_BYTES_MAX = 256 * 1024
RESPONSE_SECONDS = 60.0


class ForeignOrigin(UsageError):
    """A request to a host that the credential is not for was to be signed."""


class SignInTrouble(TryLater):
    """The sign-in server failed or could not be reached; the credential may be valid."""


class _OwnOrigins(httpx.Auth):
    def __init__(self, *urls: str) -> None:
        self._origins = {origin(url) for url in urls}

    def guard(self, request: httpx.Request) -> None:
        """Raise ForeignOrigin where `request` goes to another origin."""
        if origin(str(request.url)) not in self._origins:
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


class BasicAuth(HeaderAuth):
    """Basic authentication in every request."""

    def __init__(self, username: str, password: Secret, *urls: str) -> None:
        super().__init__("Basic", Secret(basic_credentials(username, password.reveal())), *urls)


class RenewingAuth(_OwnOrigins, ABC):
    """An access token that is requested when needed, renewed before it expires, and once after a 401.

    Concurrent requests share one renewal. Subclasses build the token request.
    """

    requires_response_body = False

    def __init__(self, oauth_url: str, clock: Clock, network: Network, *urls: str) -> None:
        super().__init__(oauth_url, *urls)
        self.oauth_url = oauth_url
        self.clock = clock
        self._network = network
        self._lock = asyncio.Lock()
        self._token: Secret | None = None
        self._expires = 0.0

    @abstractmethod
    def token_request(self) -> httpx.Request:
        """The request for a token."""

    def _form(self, grant: str) -> httpx.Request:
        return httpx.Request(
            "POST",
            self.oauth_url,
            data={"grant_type": grant},
            headers={"Accept": "application/json", "User-Agent": self._network.api_agent},
            extensions={"timeout": TIMEOUT.as_dict()},
        )

    def sync_auth_flow(  # the name and shape are httpx's
        self,
        request: httpx.Request,  # noqa: ARG002
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Not supported: the renewal is shared between asynchronous tasks."""
        raise RuntimeError("this sign-in needs an asynchronous client")

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign `request`; request a token first where there is no valid one."""
        self.guard(request)
        for attempt in (1, 2):
            async with self._lock:
                if self._valid_token() is None:
                    response = yield self.token_request()
                    await self._receive_token(response)
                token = self._token
                assert token is not None
            request.headers["Authorization"] = f"Bearer {token.reveal()}"
            response = yield request
            if response.status_code != 401 or attempt == 2:
                return
            # httpx reads this response before the second attempt: limit it too.
            response.stream = self._limited(response)
            if self._token is token:
                self._token = None

    async def token(self, client: httpx.AsyncClient) -> Secret:
        """A valid token, for git. Raises CredentialRefused, and SignInTrouble where the server fails."""
        async with self._lock:
            token = self._valid_token()
            if token is not None:
                return token
            try:
                response = await client.send(
                    self.token_request(), auth=None, follow_redirects=False, stream=True
                )
                try:
                    await self._receive_token(response)
                finally:
                    await response.aclose()
            except httpx.TransportError as error:
                raise SignInTrouble(
                    f"the sign-in server cannot be reached ({type(error).__name__})"
                ) from None
            assert self._token is not None
            return self._token

    def _valid_token(self) -> Secret | None:
        return self._token if self.clock.monotonic() < self._expires else None

    def _limited(self, response: httpx.Response) -> httpx.AsyncByteStream:
        return _LimitedStream(response.stream, self._network.minimum_rate)

    async def _receive_token(self, response: httpx.Response) -> None:
        """Read the response to a token request. Raises SignInTrouble, CredentialRefused and UsageError."""
        response.stream = self._limited(response)
        try:
            body = await response.aread()
        except httpx.DecodingError:
            body = b""
        except TooSlow as error:
            raise SignInTrouble(f"signing in failed: {error}") from None
        if response.status_code != 200:
            message = server_message(response.headers.get("content-type"), body)
            raise _refusal(response.status_code, after_colon(message))
        try:
            data: Any = loads(body)
        except NotCanonical:
            data = None
        token = data.get("access_token") if isinstance(data, dict) else None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise SignInTrouble("the sign-in server answered without a token")
        lifetime = data.get("expires_in")
        seconds = TOKEN_SECONDS_DEFAULT
        if isinstance(lifetime, int | float) and not isinstance(lifetime, bool) and lifetime > 0:
            seconds = float(min(lifetime, TOKEN_SECONDS_MAX))
        self._token = Secret(token)
        self._expires = self.clock.monotonic() + max(seconds - RENEW_EARLY, seconds / 2)


def _refusal(status: int, message: str) -> MirrorError:
    """The error for a response without a token."""
    if is_retryable(status) or status >= 500:
        return SignInTrouble(f"the sign-in server answered {status}{message}")
    if status in (400, 401, 403):
        return CredentialRefused(
            f"the sign-in server refused the credential ({status}){message}",
            hint="check the consumer's or app's keys, and that it is still installed",
        )
    return UsageError(
        f"the sign-in server answered {status}: this URL issues no tokens{message}",
        hint="check bitbucket.oauth_url in the configuration",
    )


class _LimitedStream(httpx.AsyncByteStream):
    """A stream that fails when it is longer than any sign-in response, or slower than `minimum_rate`."""

    def __init__(
        self, inner: httpx.SyncByteStream | httpx.AsyncByteStream, minimum_rate: MinimumRate
    ) -> None:
        assert isinstance(inner, httpx.AsyncByteStream)
        self._inner = inner
        self._minimum_rate = minimum_rate

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        source = at_least_rate(aiter(self._inner), self._minimum_rate, seconds=RESPONSE_SECONDS)
        async for chunk in source:
            size += len(chunk)
            if size > RESPONSE_BYTES_MAX:
                raise httpx.RemoteProtocolError("longer than a sign-in response can be")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class ConsumerAuth(RenewingAuth):
    """An OAuth consumer with the client-credentials grant: tokens are requested anew, never refreshed."""

    def __init__(
        self, client_id: str, secret: Secret, oauth_url: str, clock: Clock, network: Network, *urls: str
    ) -> None:
        super().__init__(oauth_url, clock, network, *urls)
        self._basic = Secret(basic_credentials(client_id, secret.reveal()))

    def token_request(self) -> httpx.Request:
        """See RenewingAuth; signed with the consumer's id and secret."""
        request = self._form("client_credentials")
        request.headers["Authorization"] = f"Basic {self._basic.reveal()}"
        return request


class ConnectAuth(RenewingAuth):
    """A Connect installation: a JWT for the add-on endpoints, and a token in exchange for one elsewhere."""

    def __init__(
        self,
        credential: ConnectJwt,
        secret: Secret,
        oauth_url: str,
        clock: Clock,
        network: Network,
        api_url: str,
    ) -> None:
        super().__init__(oauth_url, clock, network, api_url)
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
        """See RenewingAuth; signed with a JWT for this very request."""
        request = self._form("urn:bitbucket:oauth2:jwt")
        request.headers["Authorization"] = self._jwt(request)
        return request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign `request` with a JWT, or with a token obtained for one."""
        path = request.url.path
        if path == self._addon or path.startswith(self._addon + "/"):
            self.guard(request)
            request.headers["Authorization"] = self._jwt(request)
            yield request
            return
        # Closed at once, so that a cancelled request never keeps the renewal's lock.
        async with aclosing(super().async_auth_flow(request)) as flow:
            wanted = await anext(flow)
            while True:
                received = yield wanted
                try:
                    wanted = await flow.asend(received)
                except StopAsyncIteration:
                    return
