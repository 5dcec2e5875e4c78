"""Signing requests: one `httpx.Auth` flow for each kind of credential, and its login for git.

A flow signs requests to its own origins only, whatever it is handed. Which scheme and which git
user name each kind takes is Bitbucket's: access tokens are Bearer and `x-token-auth`; a user's API
token is Basic with the e-mail address and `x-bitbucket-api-token-auth`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import httpx

from mirror.auth import connect
from mirror.auth.credentials import (
    ApiToken,
    AppPassword,
    ConnectJwt,
    Credential,
    OAuthConsumer,
    ProjectAccessToken,
    RepositoryAccessToken,
    WorkspaceAccessToken,
)
from mirror.auth.secrets import Secret, read_secret
from mirror.errors import CredentialRefused, TryLater, UsageError
from mirror.logs import register_secret
from mirror.model import Clock

GIT_USER_ACCESS_TOKEN = "x-token-auth"  # noqa: S105 - a user name
GIT_USER_API_TOKEN = "x-bitbucket-api-token-auth"  # noqa: S105 - a user name
# Renewed this long before it lapses, so that no request is on its way with a dead token.
RENEW_EARLY = 120.0
TOKEN_SECONDS_DEFAULT = 3600.0
APP_PASSWORDS_ARE_OFF = "Bitbucket switched app passwords off on 2026-07-28; make an API token instead"


class ForeignOrigin(UsageError):
    """Somebody tried to sign a request to a host that the credential is not for."""


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


class _OwnOrigins(httpx.Auth):
    def __init__(self, *urls: str) -> None:
        self._origins = {_origin(httpx.URL(url)) for url in urls}

    def guard(self, request: httpx.Request) -> None:
        """Refuse to sign what goes elsewhere."""
        if _origin(request.url) not in self._origins:
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


class BasicAuth(_OwnOrigins):
    """User name and password in every request."""

    def __init__(self, username: str, password: Secret, *urls: str) -> None:
        super().__init__(*urls)
        self._basic = httpx.BasicAuth(username, password.reveal())

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign `request`."""
        self.guard(request)
        yield from self._basic.auth_flow(request)


class RenewingAuth(_OwnOrigins, ABC):
    """An access token that is asked for when needed, before it lapses, and once after a 401.

    Concurrent requests share one renewal. Subclasses say how to ask.
    """

    requires_response_body = False

    def __init__(self, oauth_url: str, clock: Clock, *urls: str) -> None:
        super().__init__(oauth_url, *urls)
        self.oauth_url = oauth_url
        self.clock = clock
        self._lock = asyncio.Lock()
        self._token: Secret | None = None
        self._lapses = 0.0

    @abstractmethod
    def token_request(self) -> httpx.Request:
        """The request that asks for a token."""

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
                if self._token is None or self.clock.monotonic() >= self._lapses:
                    answer = yield self.token_request()
                    await answer.aread()
                    self._take(answer)
                token = self._token
                assert token is not None
            request.headers["Authorization"] = f"Bearer {token.reveal()}"
            response = yield request
            if response.status_code != 401 or attempt == 2:
                return
            if self._token is token:
                self._token = None

    async def token(self, client: httpx.AsyncClient) -> Secret:
        """A token that lasts, for git."""
        async with self._lock:
            if self._token is None or self.clock.monotonic() >= self._lapses:
                try:
                    answer = await client.send(self.token_request(), auth=None, follow_redirects=False)
                except httpx.TransportError as error:
                    raise TryLater(f"the sign-in server cannot be reached: {type(error).__name__}") from None
                self._take(answer)
            assert self._token is not None
            return self._token

    def _take(self, answer: httpx.Response) -> None:
        if answer.status_code == 429 or answer.status_code >= 500:
            raise TryLater(f"the sign-in server answered {answer.status_code}")
        try:
            data: Any = json.loads(answer.content)
        except ValueError:
            data = None
        token = data.get("access_token") if isinstance(data, dict) else None
        if answer.status_code != 200 or not isinstance(token, str) or not token:
            raise CredentialRefused(
                f"the sign-in server refused the credential ({answer.status_code})",
                hint="check the consumer's or app's keys, and that it is still installed",
            )
        lasts = data.get("expires_in")
        seconds = float(lasts) if isinstance(lasts, int | float) and lasts > 0 else TOKEN_SECONDS_DEFAULT
        self._token = Secret(token)
        self._lapses = self.clock.monotonic() + max(seconds - RENEW_EARLY, seconds / 2)


class ConsumerAuth(RenewingAuth):
    """An OAuth consumer: client credentials, no refresh token, just asked for again."""

    def __init__(self, client_id: str, secret: Secret, oauth_url: str, clock: Clock, *urls: str) -> None:
        super().__init__(oauth_url, clock, *urls)
        self._basic = httpx.BasicAuth(client_id, secret.reveal())

    def token_request(self) -> httpx.Request:
        """Ask with the consumer's id and secret."""
        request = httpx.Request("POST", self.oauth_url, data={"grant_type": "client_credentials"})
        return next(self._basic.auth_flow(request))


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
        request = httpx.Request("POST", self.oauth_url, data={"grant_type": "urn:bitbucket:oauth2:jwt"})
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
        flow = super().async_auth_flow(request)
        answer = await anext(flow)
        while True:
            received = yield answer
            try:
                answer = await flow.asend(received)
            except StopAsyncIteration:
                return


@dataclass(frozen=True)
class SignIn:
    """A credential with its secrets read, for one run.

    `identity` tells budgets apart and holds nothing secret: the user for API tokens and app
    passwords, the token for access tokens, the consumer or installation for the rest. `label` is
    for people.
    """

    kind: str
    label: str
    identity: str
    auth: httpx.Auth
    expires: date | None = None
    _git: tuple[str, Secret] | None = None

    async def git_login(self, client: httpx.AsyncClient) -> tuple[str, str]:
        """User name and password for git over HTTPS; may ask for a token first."""
        if self._git is not None:
            username, secret = self._git
            return username, secret.reveal()
        assert isinstance(self.auth, RenewingAuth)
        return GIT_USER_ACCESS_TOKEN, (await self.auth.token(client)).reveal()


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:16]


def sign_in(
    credential: Credential, *, environment: Mapping[str, str], oauth_url: str, api_url: str, clock: Clock
) -> SignIn:
    """Read the secrets of `credential` now and make it ready to sign.

    Raises UsageError where a secret cannot be read or is plainly of another kind.
    """
    kind = credential.kind

    def secret(source: Any) -> Secret:
        return read_secret(source, environment=environment)

    if isinstance(credential, WorkspaceAccessToken | ProjectAccessToken | RepositoryAccessToken):
        token = secret(credential.token)
        if token.reveal().startswith("ATAT"):
            raise UsageError(
                f"the secret of this {kind} begins like a user's API token (ATAT)",
                hint="use kind api_token, with the e-mail address of its user",
            )
        auth: httpx.Auth = HeaderAuth("Bearer", token, api_url)
        identity = f"token:{_fingerprint(token.reveal())}"
        return SignIn(kind, kind, identity, auth, None, (GIT_USER_ACCESS_TOKEN, token))
    if isinstance(credential, ApiToken):
        token = secret(credential.token)
        if token.reveal().startswith("ATCT"):
            raise UsageError(
                "the secret of this api_token begins like an access token (ATCT)",
                hint="use kind workspace_access_token, project_access_token or repository_access_token",
            )
        auth = BasicAuth(credential.email, token, api_url)
        identity = f"user:{_fingerprint(credential.email.lower())}"
        label = f"{kind} of {credential.email}"
        return SignIn(kind, label, identity, auth, credential.expires, (GIT_USER_API_TOKEN, token))
    if isinstance(credential, AppPassword):
        password = secret(credential.password)
        auth = BasicAuth(credential.username, password, api_url)
        identity = f"user:{_fingerprint(credential.username.lower())}"
        return SignIn(
            kind, f"{kind} of {credential.username}", identity, auth, None, (credential.username, password)
        )
    if isinstance(credential, OAuthConsumer):
        auth = ConsumerAuth(credential.client_id, secret(credential.client_secret), oauth_url, clock, api_url)
        return SignIn(
            kind, f"{kind} {credential.client_id}", f"consumer:{_fingerprint(credential.client_id)}", auth
        )
    auth = ConnectAuth(credential, secret(credential.shared_secret), oauth_url, clock, api_url)
    identity = f"connect:{_fingerprint(credential.app_key, credential.client_key)}"
    return SignIn(kind, f"{kind} {credential.app_key}", identity, auth)
