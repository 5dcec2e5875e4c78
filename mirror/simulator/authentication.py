"""Authentication: every kind of credential with its scheme, and what each may see."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, quote

from mirror.simulator.switches import Switches
from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.world import Token, World

ACCESS_TOKENS = ("workspace_access_token", "project_access_token", "repository_access_token")
# Values of the header `X-Credential-Type`.
CREDENTIAL_TYPES = {
    "workspace_access_token": "workspace_access_token",
    "project_access_token": "project_access_token",
    "repository_access_token": "repo_access_token",
    "api_token": "api_token",
}
# Classic scopes and the scopes that each implies. API tokens have long names, which imply nothing.
_IMPLIED = {
    "project": {"repository"},
    "pullrequest": {"repository"},
    "pullrequest:write": {"pullrequest", "repository", "repository:write"},
    "repository:write": {"repository"},
    "pipeline:write": {"pipeline"},
    "runner:write": {"runner"},
    "snippet:write": {"snippet"},
    "issue": {"repository"},
}
_LONG = {
    "account": "read:user:bitbucket",
    "repository": "read:repository:bitbucket",
    "repository:write": "write:repository:bitbucket",
    "pullrequest": "read:pullrequest:bitbucket",
    "pipeline": "read:pipeline:bitbucket",
    "issue": "read:issue:bitbucket",
    "project": "read:project:bitbucket",
    "webhook": "read:webhook:bitbucket",
    "runner": "read:runner:bitbucket",
    "snippet": "read:snippet:bitbucket",
    "wiki": "read:wiki:bitbucket",
    "repository:admin": "admin:repository:bitbucket",
    "project:admin": "admin:project:bitbucket",
}
ANONYMOUS = Token("anonymous", "", frozenset({"repository", "pullrequest", "pipeline", "issue"}))


def has_scope(token: Token, scope: str) -> bool:
    """Whether `token` has the classic scope `scope`, or one that implies it."""
    if token.kind == "api_token":
        return long_name(scope) in token.scopes
    return scope in token.scopes or any(scope in _IMPLIED.get(one, ()) for one in token.scopes)


def long_name(scope: str) -> str:
    """The name of a classic scope in API tokens."""
    return _LONG.get(scope, scope)


def can_see(token: Token, repository: GitRepository) -> bool:
    """Whether a credential may see a repository."""
    if not repository.private and token.kind not in ACCESS_TOKENS:
        return True
    slug = repository.workspace.slug
    if token.kind == "anonymous" or (token.user is not None and not token.user.belongs_to(slug)):
        return False
    if token.workspace is not None and token.workspace != slug:
        return False
    if token.project is not None and token.project != repository.project:
        return False
    return token.repository is None or token.repository in (repository.uuid, repository.slug)


class SignIn:
    """Authenticates requests, and issues OAuth tokens."""

    def __init__(self, world: World, switches: Switches) -> None:
        self._world = world
        self._switches = switches
        self.issued: list[Token] = []
        self.token_seconds = 3600

    def rest(self, authorization: str | None, method: str, path: str, query: str) -> Token | None:
        """The credential of a REST request, or None where it is invalid."""
        if authorization is None:
            return ANONYMOUS
        scheme, _, value = authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                return self._bearer(value.strip())
            case "basic":
                name, secret = _pair(value)
                return self._basic(name, secret)
            case "jwt":
                return self._jwt(value.strip(), method, path, query) if "/addon" in path else None
        return None

    def git(self, authorization: str | None) -> Token | None:
        """The credential of a git request. Each kind has its own user name."""
        scheme, _, value = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        name, secret = _pair(value)
        for token in self._living():
            if not hmac.compare_digest(token.secret.encode(), secret.encode()):
                continue
            if token.kind in (*ACCESS_TOKENS, "oauth_token"):
                return token if name == "x-token-auth" else None
            if token.kind == "api_token":
                return token if name == "x-bitbucket-api-token-auth" else None
            if token.kind == "app_password" and self._switches.app_passwords:
                return token
        return None

    def is_dead_password(self, authorization: str | None) -> bool:
        """Whether this is an app password, which Bitbucket has retired."""
        _, _, value = (authorization or "").partition(" ")
        secret = _pair(value)[1]
        return any(one.kind == "app_password" and one.secret == secret for one in self._world.tokens)

    def _living(self) -> list[Token]:
        now = self._world.clock()
        return [
            one for one in (*self._world.tokens, *self.issued) if one.expires is None or one.expires > now
        ]

    def _bearer(self, secret: str) -> Token | None:
        kinds = [*ACCESS_TOKENS, "oauth_token"]
        if self._switches.api_token_as_bearer:
            kinds.append("api_token")
        for token in self._living():
            if token.kind in kinds and hmac.compare_digest(token.secret.encode(), secret.encode()):
                return token
        return None

    def _basic(self, name: str, secret: str) -> Token | None:
        for token in self._living():
            if token.user is None or not hmac.compare_digest(token.secret.encode(), secret.encode()):
                continue
            if token.kind == "api_token" and name.lower() == token.user.email.lower():
                return token
            if token.kind == "app_password" and self._switches.app_passwords:
                return token
        return None

    def _jwt(self, text: str, method: str, path: str, query: str) -> Token | None:
        try:
            head, body, mac = text.split(".")
            claims: Any = json.loads(_unpad(body))
            signature = _unpad(mac)
        except (ValueError, binascii.Error):
            return None
        now = int(self._world.clock().timestamp())
        for token in self._world.tokens:
            if token.kind != "connect_jwt" or token.client_id != claims.get("sub"):
                continue
            good = hmac.new(token.secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
            fresh = claims.get("iat", 0) - 60 <= now < claims.get("exp", 0)
            issuers = [token.app_key]
            if self._switches.connect_issuer_may_be_client:
                issuers.append(token.client_id)
            same = claims.get("qsh") == _query_hash(method, path, query) and claims.get("iss") in issuers
            if hmac.compare_digest(good, signature) and fresh and same:
                return token
        return None

    def issue(self, authorization: str | None, form: dict[str, str], path: str) -> dict[str, Any] | None:
        """An OAuth token for a consumer or a Connect installation, or None."""
        scheme, _, value = (authorization or "").partition(" ")
        owner: Token | None = None
        if scheme.lower() == "basic" and form.get("grant_type") == "client_credentials":
            name, secret = _pair(value)
            owner = next(
                (
                    one
                    for one in self._world.tokens
                    if one.kind == "oauth_consumer" and (one.client_id, one.secret) == (name, secret)
                ),
                None,
            )
        elif scheme.lower() == "jwt" and form.get("grant_type") == "urn:bitbucket:oauth2:jwt":
            owner = self._jwt(value.strip(), "POST", path, "")
        if owner is None:
            return None
        token = Token(
            "oauth_token",
            secrets.token_urlsafe(32),
            owner.scopes,
            owner.workspace,
            client_id=owner.client_id,
            expires=self._world.clock() + timedelta(seconds=self.token_seconds),
        )
        self.issued.append(token)
        return {
            "access_token": token.secret,
            "token_type": "bearer",
            "expires_in": self.token_seconds,
            "scope": " ".join(sorted(owner.scopes)),
        }


def _pair(value: str) -> tuple[str, str]:
    try:
        name, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        return "", ""
    return name, secret


def _unpad(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _query_hash(method: str, path: str, query: str) -> str:
    names: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        names.setdefault(name, []).append(value)
    text = "&".join(
        quote(name, safe="-._~") + "=" + ",".join(quote(one, safe="-._~") for one in sorted(names[name]))
        for name in sorted(names)
    )
    return hashlib.sha256(f"{method}&{path.rstrip('/') or '/'}&{text}".encode()).hexdigest()
