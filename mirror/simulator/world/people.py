"""Who there is, and what signs in."""

from __future__ import annotations

import functools
import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime


@functools.lru_cache(maxsize=10_000)
def braced(*parts: str) -> str:
    """A uuid that is the same whenever the same things are made."""
    return "{" + str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts))) + "}"


@dataclass
class User:
    """Somebody with an account. `workspaces` are those they belong to, None for all there are."""

    name: str
    email: str
    kind: str = "user"
    workspaces: frozenset[str] | None = None
    deleted: bool = False

    @property
    def uuid(self) -> str:
        """The user's uuid."""
        return braced("user", self.email)

    def belongs_to(self, workspace: str) -> bool:
        """Whether the user is a member of the workspace of this slug."""
        return self.workspaces is None or workspace in self.workspaces


@dataclass
class Token:
    """Something that signs in. `kind` is one of the kinds that Bitbucket knows."""

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
        """Whose requests are counted together."""
        if self.user is not None:
            return f"user:{self.user.email}"
        if self.kind == "anonymous":
            return self.kind
        return f"{self.kind}:{self.client_id or hashlib.sha256(self.secret.encode()).hexdigest()[:12]}"
