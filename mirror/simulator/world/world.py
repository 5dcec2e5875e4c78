"""The world behind the API: workspaces, repositories on disk, people, pull requests, pipelines.

Tests and the demo change these objects directly; `api/render.py` turns them into JSON.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mirror.simulator.world.base import BaseWorld
from mirror.simulator.world.builds import Pipeline, Step
from mirror.simulator.world.discussions import STATES, Comment, Issue, PullRequest, Snippet, Task
from mirror.simulator.world.people import Token, User, braced
from mirror.simulator.world.persistence import KINDS, Reader, Writer
from mirror.simulator.world.repository import SimRepository, SimWorkspace

__all__ = [
    "STATES", "Comment", "Issue", "Pipeline", "PullRequest", "SimRepository", "SimWorkspace", "Snippet",
    "Step", "Task", "Token", "User", "World", "braced",
]  # fmt: skip

FORMAT = 2
FILE = "world.json"


class World(BaseWorld):
    """Workspaces with repositories, users and credentials.

    `limit` is the number of API requests an hour for each identity, `limits` the numbers for other
    groups of resources.
    """

    def __init__(
        self, root: Path, *, clock: Callable[[], datetime] | None = None, limit: int = 100_000
    ) -> None:
        super().__init__(root, clock)
        self.limit = limit
        self.limits: dict[str, int] = {"git": 60_000, "anonymous": 60}
        self.workspaces: dict[str, SimWorkspace] = {}
        # By uuid: values of secured variables and secrets of hooks. The API never returns them.
        self.secrets: dict[str, str] = {}
        root.mkdir(parents=True, exist_ok=True)

    # -- workspaces and repositories

    def add_workspace(self, slug: str, name: str = "") -> SimWorkspace:
        """A new workspace."""
        workspace = SimWorkspace(self, slug, name or slug.title(), braced("workspace", slug))
        self.workspaces[slug] = workspace
        return workspace

    def workspace(self, key: str) -> SimWorkspace | None:
        """The workspace of this slug or uuid."""
        return self.workspaces.get(key) or next(
            (one for one in self.workspaces.values() if one.uuid == key), None
        )

    def rename_workspace(self, old: str, new: str) -> SimWorkspace:
        """Change the slug of a workspace. The old one does not redirect; its tokens stay valid."""
        workspace = self.workspaces.pop(old)
        workspace.slug = new
        self.workspaces[new] = workspace
        self.tokens = [replace(one, workspace=new) if one.workspace == old else one for one in self.tokens]
        for user in self.users.values():
            if user.workspaces is not None and old in user.workspaces:
                user.workspaces = user.workspaces - {old} | {new}
        return workspace

    def repository(self, workspace: str, key: str) -> SimRepository | None:
        """The repository of this slug or uuid. With a uuid, `{}` means any workspace."""
        if workspace == "{}":
            places = list(self.workspaces.values()) if key.startswith("{") else []
        else:
            found = self.workspace(workspace)
            places = [found] if found is not None else []
        return next((one for one in (place.repository(key) for place in places) if one is not None), None)

    def moved_to(self, workspace: str, slug: str) -> SimRepository | None:
        """The repository that had this path before and has another now."""
        target = self.moved.get(f"{workspace}/{slug}")
        return self.repository("{}", target) if target is not None else None

    # -- credentials

    def add_workspace_access_token(self, workspace: str, scopes: Iterable[str]) -> str:
        """Add an access token of a workspace; returns its secret."""
        return self._token("workspace_access_token", scopes, workspace=workspace)

    def add_project_access_token(self, workspace: str, project: str, scopes: Iterable[str]) -> str:
        """Add an access token of a project; returns its secret."""
        return self._token("project_access_token", scopes, workspace=workspace, project=project)

    def add_repository_access_token(self, workspace: str, repository: str, scopes: Iterable[str]) -> str:
        """Add an access token of a repository; returns its secret."""
        return self._token("repository_access_token", scopes, workspace=workspace, repository=repository)

    def add_api_token(self, user: User, scopes: Iterable[str], *, expires: datetime | None = None) -> str:
        """A user's API token; its scopes have the long names (`read:repository:bitbucket`)."""
        secret = f"ATATT3x{secrets.token_urlsafe(24)}"
        self.tokens.append(Token("api_token", secret, frozenset(scopes), user=user, expires=expires))
        return secret

    def add_app_password(self, user: User, scopes: Iterable[str]) -> str:
        """A user's app password."""
        secret = f"ATBB{secrets.token_urlsafe(24)}"
        self.tokens.append(Token("app_password", secret, frozenset(scopes), user=user))
        return secret

    def add_oauth_consumer(self, workspace: str, scopes: Iterable[str]) -> tuple[str, str]:
        """An OAuth consumer: its id and secret."""
        token = Token(
            "oauth_consumer", secrets.token_urlsafe(24), frozenset(scopes), workspace,
            client_id=f"consumer{self.number()}",
        )  # fmt: skip
        self.tokens.append(token)
        return token.client_id, token.secret

    def add_connect_installation(self, workspace: str, scopes: Iterable[str]) -> tuple[str, str, str]:
        """A Connect app in a workspace: app key, client key, shared secret."""
        token = Token(
            "connect_jwt", secrets.token_urlsafe(24), frozenset(scopes), workspace,
            client_id=f"ari:cloud:bitbucket::app/{self.number()}", app_key="mirror-app",
        )  # fmt: skip
        self.tokens.append(token)
        return token.app_key, token.client_id, token.secret

    def revoke(self, secret: str) -> None:
        """Revoke the credential of this secret."""
        self.tokens = [one for one in self.tokens if one.secret != secret]

    def _token(
        self,
        kind: str,
        scopes: Iterable[str],
        *,
        workspace: str,
        project: str | None = None,
        repository: str | None = None,
    ) -> str:
        secret = f"ATCTT3x{secrets.token_urlsafe(24)}"
        found = self.repository(workspace, repository) if repository is not None else None
        # By uuid, so that it outlives a rename.
        own = found.uuid if found is not None else repository
        self.tokens.append(Token(kind, secret, frozenset(scopes), workspace, project, own))
        return secret

    # -- on disk

    def save(self) -> None:
        """Write everything to the root folder, for the next start. The file contains the secrets."""
        writer = Writer(self.root, self, _kinds())
        document = {"format": FORMAT, **{name: writer.value(getattr(self, name)) for name in _SAVED}}
        beside = self.root / f".{FILE}.new"
        beside.touch(mode=0o600)
        beside.write_text(json.dumps(document, indent=1), encoding="utf-8")
        beside.replace(self.root / FILE)

    @classmethod
    def load(cls, root: Path) -> World | None:
        """The world that `save` wrote to `root`, or None. Raises ValueError where the file is invalid."""
        try:
            document: dict[str, Any] = json.loads((root / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if document.get("format") != FORMAT:
            raise ValueError(f"{root / FILE} is not a simulated Bitbucket of this version")
        world = cls(root)
        reader = Reader(root, world, _kinds())
        for name in _SAVED:
            if name in document:
                setattr(world, name, reader.value(document[name]))
        return world


# Saved attributes. Later ones refer to earlier ones.
_SAVED = (
    "limit",
    "limits",
    "sizes",
    "secrets",
    "users",
    "tokens",
    "workspaces",
    "moved",
    "_last",
    "_numbers",
)


def _kinds() -> dict[str, type]:
    return {**KINDS, "SimWorkspace": SimWorkspace}
