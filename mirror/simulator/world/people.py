"""Users and credentials."""

from __future__ import annotations

import functools
import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime


@functools.lru_cache(maxsize=10_000)
def braced(*parts: str) -> str:
    """A uuid in braces, derived from `parts`."""
    return "{" + str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts))) + "}"


@dataclass
class User:
    """A user account. `workspaces` are the slugs of those it belongs to; None: all."""

    name: str
    email: str
    kind: str = "user"
    workspaces: frozenset[str] | None = None
    deleted: bool = False
    # A uuid that was given; None: it follows from the address.
    given_uuid: str | None = None

    @property
    def uuid(self) -> str:
        """The user's uuid."""
        return self.given_uuid or braced("user", self.email)

    @property
    def account_id(self) -> str:
        """The user's id at Atlassian."""
        prefix = "712020:" if self.kind == "app_user" else "557058:"
        return prefix + braced("account", self.email).strip("{}")

    def belongs_to(self, workspace: str) -> bool:
        """Whether the user is a member of the workspace of this slug."""
        return self.workspaces is None or workspace in self.workspaces


def app_account(identity: str, name: str) -> User:
    """The account of a token that belongs to no user. It is a member of no workspace."""
    return User(name, f"{identity}@apps.example", "app_user", frozenset())


@dataclass
class Token:
    """A credential. `kind` is one of the kinds that Bitbucket knows."""

    kind: str
    secret: str
    scopes: frozenset[str]
    workspace: str | None = None
    project: str | None = None
    repository: str | None = None
    user: User | None = None
    client_id: str = ""
    app_key: str = ""
    expires: datetime | None = None

    @property
    def identity(self) -> str:
        """The key that its requests are counted under."""
        if self.user is not None:
            return f"user:{self.user.email}"
        if self.kind == "anonymous":
            return self.kind
        return f"{self.kind}:{self.client_id or hashlib.sha256(self.secret.encode()).hexdigest()[:12]}"

    @property
    def account(self) -> User:
        """The account that this token acts as."""
        return self.user or app_account(self.identity, self.client_id or "mirror")
