"""From a configured credential to one that is ready to sign requests, for the API and for git.

Bitbucket fixes the scheme and the git user name of each kind: access tokens use Bearer and
`x-token-auth`; a user's API token uses Basic with the e-mail address, and
`x-bitbucket-api-token-auth`. It refuses any other pair even where the secret is valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import httpx

from mirror.auth.credentials import (
    AccessToken,
    ApiToken,
    AppPassword,
    Credential,
    OAuthConsumer,
    ProjectAccessToken,
    RepositoryAccessToken,
    WorkspaceAccessToken,
)
from mirror.auth.flows import (
    BasicAuth,
    ConnectAuth,
    ConsumerAuth,
    ForeignOrigin,
    HeaderAuth,
    RenewingAuth,
    SignInTrouble,
)
from mirror.auth.secrets import Secret, SecretSource, read_secret
from mirror.errors import UsageError
from mirror.http.network import Network
from mirror.model import Clock

__all__ = [
    "APP_PASSWORDS_ARE_OFF",
    "ForeignOrigin",
    "SignIn",
    "SignInTrouble",
    "sign_in",
    "when_refused",
]

GIT_USER_ACCESS_TOKEN = "x-token-auth"  # noqa: S105 - a user name
GIT_USER_API_TOKEN = "x-bitbucket-api-token-auth"  # noqa: S105 - a user name
ACCESS_TOKEN_KINDS = "workspace_access_token, project_access_token or repository_access_token"  # noqa: S105
APP_PASSWORDS_ARE_OFF = "Bitbucket switched app passwords off on 2026-07-28; make an API token instead"

_HINTS = {
    "app_password": APP_PASSWORDS_ARE_OFF,
    "api_token": "check that the token has not expired (a year at most), and that the e-mail address is "
    "that of its user",
    "oauth_consumer": "check that the consumer still exists, is private and has the required scopes",
    "connect_jwt": "check that the app is still installed",
}
_HINT_ACCESS_TOKEN = "check that the token has not been revoked, and that its kind is right"  # noqa: S105


def when_refused(kind: str) -> str:
    """The hint for a refused credential of this kind."""
    return _HINTS.get(kind, _HINT_ACCESS_TOKEN)


@dataclass(frozen=True)
class SignIn:
    """A credential with its secrets read, for one run.

    `identity` is what the rate limit counts by, and nothing secret: the user for API tokens and app
    passwords, the token for access tokens, the consumer or installation for the rest. `label` is for
    messages. `expires` is the day of expiry in the configuration, if any, and `place` where the credential
    stands there.
    """

    kind: str
    label: str
    identity: str
    auth: httpx.Auth = field(repr=False)
    expires: date | None = None
    _git: tuple[str, Secret] | None = field(default=None, repr=False)
    place: str = ""

    async def git_login(self, client: httpx.AsyncClient) -> tuple[str, str]:
        """User name and password for git over HTTPS; requests a token first where needed.

        Raises CredentialRefused, and SignInTrouble where the sign-in server fails.
        """
        if self._git is not None:
            username, secret = self._git
            return username, secret.reveal()
        assert isinstance(self.auth, RenewingAuth)
        return GIT_USER_ACCESS_TOKEN, (await self.auth.token(client)).reveal()


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:16]


def _check_kind(kind: str, secret: Secret) -> None:
    """Raise UsageError where the prefix of an Atlassian token shows another kind; Bitbucket says only 401."""
    value = secret.reveal()
    is_access_token = kind.endswith("access_token")
    if value.startswith("ATAT") and kind != "api_token":
        raise UsageError(
            f"the secret of this {kind} begins like a user's API token (ATAT)",
            hint="use kind api_token, with the e-mail address of its user",
        )
    if value.startswith("ATCT") and not is_access_token:
        raise UsageError(
            f"the secret of this {kind} begins like an access token (ATCT)",
            hint=f"use kind {ACCESS_TOKEN_KINDS}",
        )
    if value.startswith("ATBB") and kind != "app_password":
        raise UsageError(
            f"the secret of this {kind} begins like an app password (ATBB)", hint=APP_PASSWORDS_ARE_OFF
        )


async def _token(kind: str, source: SecretSource, environment: Mapping[str, str]) -> Secret:
    secret = await read_secret(source, environment=environment)
    value = secret.reveal()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError(
            f"the secret from {source} has characters that no token contains",
            hint="leave only the token there, in one line, without quotes or a name before it",
        )
    _check_kind(kind, secret)
    return secret


def _user(kind: str, name: str, what: str) -> str:
    if not name or ":" in name or not name.isprintable() or name != name.strip():
        raise UsageError(f"the {what} of this {kind} cannot be right", hint=f"give the {what} alone")
    if what == "e-mail address" and "@" not in name:
        raise UsageError(
            f"the e-mail address of this {kind} has no @",
            hint="Bitbucket wants the e-mail address of the Atlassian account here, not a user name",
        )
    return name


async def sign_in(
    credential: Credential,
    *,
    environment: Mapping[str, str],
    oauth_url: str,
    api_url: str,
    clock: Clock,
    network: Network | None = None,
) -> SignIn:
    """Read the secrets of `credential` now and make it ready to sign.

    `network` applies to the token requests of credentials that need them. Raises UsageError where a secret
    cannot be read or is evidently of another kind.
    """
    kind = credential.kind
    network = network or Network()
    if isinstance(
        credential, AccessToken | WorkspaceAccessToken | ProjectAccessToken | RepositoryAccessToken
    ):
        token = await _token(kind, credential.token, environment)
        return SignIn(
            kind,
            f"{kind} from {credential.token}",
            f"token:{_fingerprint(token.reveal())}",
            HeaderAuth("Bearer", token, api_url),
            credential.expires,
            (GIT_USER_ACCESS_TOKEN, token),
        )
    if isinstance(credential, ApiToken):
        email = _user(kind, credential.email, "e-mail address")
        token = await _token(kind, credential.token, environment)
        identity = f"user:{_fingerprint(email.lower())}"
        auth = BasicAuth(email, token, api_url)
        return SignIn(
            kind, f"{kind} of {email}", identity, auth, credential.expires, (GIT_USER_API_TOKEN, token)
        )
    if isinstance(credential, AppPassword):
        username = _user(kind, credential.username, "user name")
        password = await read_secret(credential.password, environment=environment)
        _check_kind(kind, password)
        identity = f"user:{_fingerprint(username.lower())}"
        auth = BasicAuth(username, password, api_url)
        return SignIn(kind, f"{kind} of {username}", identity, auth, None, (username, password))
    if isinstance(credential, OAuthConsumer):
        client_id = _user(kind, credential.client_id, "client id")
        secret = await read_secret(credential.client_secret, environment=environment)
        identity = f"consumer:{_fingerprint(client_id)}"
        return SignIn(
            kind,
            f"{kind} {client_id}",
            identity,
            ConsumerAuth(client_id, secret, oauth_url, clock, network, api_url),
        )
    secret = await read_secret(credential.shared_secret, environment=environment)
    return SignIn(
        kind,
        f"{kind} {credential.app_key}",
        f"connect:{_fingerprint(credential.app_key, credential.client_key)}",
        ConnectAuth(credential, secret, oauth_url, clock, network, api_url),
    )
