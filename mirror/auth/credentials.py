"""The kinds of credential of Bitbucket Cloud, as the configuration describes them.

They name the sources of secrets and hold none. `expires` is the day on which a token expires, if the
configuration gives it: at most a year ahead for users' tokens, and usually for access tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import ClassVar

from mirror.auth.secrets import SecretSource


@dataclass(frozen=True)
class WorkspaceAccessToken:
    """An access token of a workspace (Premium): sees every repository of it."""

    kind: ClassVar[str] = "workspace_access_token"
    token: SecretSource
    expires: date | None = None


@dataclass(frozen=True)
class ProjectAccessToken:
    """An access token of a project (Premium): sees the repositories of that project only."""

    kind: ClassVar[str] = "project_access_token"
    token: SecretSource
    expires: date | None = None


@dataclass(frozen=True)
class RepositoryAccessToken:
    """An access token of one repository."""

    kind: ClassVar[str] = "repository_access_token"
    token: SecretSource
    expires: date | None = None


@dataclass(frozen=True)
class AccessToken:
    """An access token of unknown scope: a workspace's, a project's or a repository's. Only without a
    configuration file."""

    kind: ClassVar[str] = "access_token"
    token: SecretSource
    expires: date | None = None


@dataclass(frozen=True)
class ApiToken:
    """A user's API token."""

    kind: ClassVar[str] = "api_token"
    email: str
    token: SecretSource
    expires: date | None = None


@dataclass(frozen=True)
class OAuthConsumer:
    """An OAuth consumer with the client-credentials grant."""

    kind: ClassVar[str] = "oauth_consumer"
    client_id: str
    client_secret: SecretSource


@dataclass(frozen=True)
class AppPassword:
    """A user's app password. Bitbucket switched these off on 2026-07-28."""

    kind: ClassVar[str] = "app_password"
    username: str
    password: SecretSource


@dataclass(frozen=True)
class ConnectJwt:
    """The installation of a Connect app."""

    kind: ClassVar[str] = "connect_jwt"
    app_key: str
    client_key: str
    shared_secret: SecretSource


Credential = (
    AccessToken
    | WorkspaceAccessToken
    | ProjectAccessToken
    | RepositoryAccessToken
    | ApiToken
    | OAuthConsumer
    | AppPassword
    | ConnectJwt
)
