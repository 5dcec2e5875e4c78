"""The world behind the API: workspaces, repositories on disk, people, pull requests, pipelines.

Plain objects that tests and the demo change directly; `render` turns them into Bitbucket's JSON.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dulwich.repo import Repo

from mirror.simulator.switches import Switches
from mirror.simulator.world.builds import Pipeline, Step
from mirror.simulator.world.discussions import STATES, Comment, Issue, PullRequest, Snippet, Task
from mirror.simulator.world.people import Token, User, braced
from mirror.simulator.world.persistence import KINDS, Reader, Writer
from mirror.simulator.world.repository import SimRepository, bare

__all__ = [
    "STATES", "Comment", "Issue", "Pipeline", "PullRequest", "SimRepository", "SimWorkspace", "Snippet",
    "Step", "Task", "Token", "User", "World", "braced",
]  # fmt: skip

FORMAT = 2
FILE = "world.json"
TICK = timedelta(microseconds=1)


class World:
    """Everything there is. `root` is where the repositories live.

    `clock` gives the time of day; `limit` the API requests an hour for each identity, `limits`
    those of other groups of resources. `switches` are those of the simulator that serves it.
    """

    def __init__(
        self, root: Path, *, clock: Callable[[], datetime] | None = None, limit: int = 100_000
    ) -> None:
        self.root = root
        self.clock = clock or _now
        self.limit = limit
        self.limits: dict[str, int] = {"git": 60_000, "anonymous": 60}
        self.switches = Switches.default()
        self.workspaces: dict[str, SimWorkspace] = {}
        self.users: dict[str, User] = {}
        self.tokens: list[Token] = []
        # Secured variables' values and the secrets of hooks, by uuid: written, never read back.
        self.secrets: dict[str, str] = {}
        # The largest push and file in bytes, and the most schedules that a repository may have.
        self.sizes: dict[str, int] = {"push": 4 << 30, "file": 100 << 20, "schedules": 10}
        # Former addresses, `workspace/slug`, with the uuid of what moved away from there.
        self.moved: dict[str, str] = {}
        self._last = datetime(2000, 1, 1, tzinfo=UTC)
        self._pinned: datetime | None = None
        self._numbers = 0
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    def now(self) -> datetime:
        """The time, always later than the last one given."""
        with self._lock:
            if self._pinned is not None:
                self._pinned += TICK
                return self._pinned
            self._last = max(self.clock(), self._last + TICK)
            return self._last

    @contextlib.contextmanager
    def at(self, when: datetime) -> Iterator[None]:
        """What happens inside happens at `when`, and a microsecond later each."""
        before, self._pinned = self._pinned, when
        try:
            yield
        finally:
            self._pinned = before

    def number(self) -> int:
        """A number not given before."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    # -- people and places

    def add_user(self, name: str, email: str, *, workspaces: Iterable[str] | None = None) -> User:
        """Somebody new, or who is already there. A member of all `workspaces` unless some are named."""
        member = None if workspaces is None else frozenset(workspaces)
        return self.users.setdefault(email, User(name, email, workspaces=member))

    def actor(self, token: Token) -> User:
        """The account that `token` acts as, known from now on."""
        account = token.account
        return self.users.setdefault(account.email, account)

    def account(self, key: str) -> User | None:
        """The living account of this uuid or account id."""
        known = (one for one in self.users.values() if key in (one.uuid, one.account_id))
        return next((one for one in known if not one.deleted), None)

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
        """Give a workspace another slug. Nothing redirects from the old one; its tokens live on."""
        workspace = self.workspaces.pop(old)
        workspace.slug = new
        self.workspaces[new] = workspace
        self.tokens = [replace(one, workspace=new) if one.workspace == old else one for one in self.tokens]
        for user in self.users.values():
            if user.workspaces is not None and old in user.workspaces:
                user.workspaces = user.workspaces - {old} | {new}
        return workspace

    def repository(self, workspace: str, key: str) -> SimRepository | None:
        """The repository of this slug or uuid. A workspace `{}` stands for any, if it is a uuid."""
        if workspace == "{}":
            places = list(self.workspaces.values()) if key.startswith("{") else []
        else:
            found = self.workspace(workspace)
            places = [found] if found is not None else []
        return next((one for one in (place.repository(key) for place in places) if one is not None), None)

    def moved_to(self, workspace: str, slug: str) -> SimRepository | None:
        """What had this address once and has another now."""
        target = self.moved.get(f"{workspace}/{slug}")
        return self.repository("{}", target) if target is not None else None

    # -- what signs in

    def add_workspace_access_token(self, workspace: str, scopes: Iterable[str]) -> str:
        """A token that sees a whole workspace."""
        return self._token("workspace_access_token", scopes, workspace=workspace)

    def add_project_access_token(self, workspace: str, project: str, scopes: Iterable[str]) -> str:
        """A token that sees one project."""
        return self._token("project_access_token", scopes, workspace=workspace, project=project)

    def add_repository_access_token(self, workspace: str, repository: str, scopes: Iterable[str]) -> str:
        """A token that sees one repository."""
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
        """A secret signs in no longer."""
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
        """Keep everything in the root folder, for the next start. It holds the secrets, too."""
        writer = Writer(self.root, self, _kinds())
        document = {"format": FORMAT, **{name: writer.value(getattr(self, name)) for name in _KEPT}}
        beside = self.root / f".{FILE}.new"
        beside.touch(mode=0o600)
        beside.write_text(json.dumps(document, indent=1), encoding="utf-8")
        beside.replace(self.root / FILE)

    @classmethod
    def load(cls, root: Path) -> World | None:
        """What `save` kept in `root`, or None. Raises ValueError where the file is something else."""
        try:
            document: dict[str, Any] = json.loads((root / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if document.get("format") != FORMAT:
            raise ValueError(f"{root / FILE} is not a simulated Bitbucket of this version")
        world = cls(root)
        reader = Reader(root, world, _kinds())
        for name in _KEPT:
            if name in document:
                setattr(world, name, reader.value(document[name]))
        return world


# In this order: what comes later refers to what came before.
_KEPT = ("limit", "limits", "sizes", "secrets", "users", "tokens", "workspaces", "moved", "_last", "_numbers")


def _kinds() -> dict[str, type]:
    return {**KINDS, "SimWorkspace": SimWorkspace}


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class SimWorkspace:
    """A workspace with its projects and repositories."""

    world: World
    slug: str
    name: str
    uuid: str
    projects: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, SimRepository] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    project_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    snippets: dict[str, Snippet] = field(default_factory=dict)
    # By key: what the API shows of a project besides its name.
    project_details: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By slug: the names of its groups.
    groups: dict[str, str] = field(default_factory=dict)
    # How many users may be given access; None: any number.
    seats: int | None = None

    def add_snippet(
        self, title: str, files: dict[str, bytes], *, author: User, identifier: str = ""
    ) -> Snippet:
        """A new snippet; each is a git repository."""
        now, identifier = self.world.now(), identifier or f"s{self.world.number()}"
        path = self.world.root / self.slug / f"snippet-{len(self.snippets)}-{identifier}.git"
        snippet = Snippet(identifier, title, author, now, now, {}, bare(self, identifier, path))
        snippet.commit_files(files)
        self.snippets[snippet.id] = snippet
        return snippet

    def add_repository(
        self,
        slug: str,
        *,
        project: str = "MAIN",
        private: bool = True,
        description: str = "",
        parent: SimRepository | None = None,
    ) -> SimRepository:
        """A new, empty repository; with `parent` a fork, which has all that is there."""
        self.projects.setdefault(project, project.title())
        serial = self.world.number()
        path = self.world.root / self.slug / f"{slug}-{serial}.git"
        path.mkdir(parents=True)
        Repo.init_bare(str(path), default_branch=b"main").close()
        now = self.world.now()
        repository = SimRepository(
            self, slug, braced("repository", self.slug, slug, str(serial)), path, project, private,
            description, now, now, parent,
        )  # fmt: skip
        self.repositories[slug] = repository
        if parent is not None:
            repository.copy_objects(parent)
            for name, value in parent.refs().items():
                repository.set_ref(name, value)
        return repository

    def delete_repository(self, slug: str) -> SimRepository:
        """Take a repository away. What is returned can be put back with `restore`."""
        repository = self.repositories.pop(slug)
        repository.gone = True
        return repository

    def restore(self, repository: SimRepository) -> None:
        """Put a deleted repository back."""
        repository.gone = False
        self.repositories[repository.slug] = repository

    def rename_repository(self, old: str, new: str) -> None:
        """Rename a repository; the old address redirects until another takes it."""
        repository = self.repositories.pop(old)
        repository.slug = new
        self.repositories[new] = repository
        self.world.moved[f"{self.slug}/{old}"] = repository.uuid

    def transfer_repository(self, slug: str, to: SimWorkspace, *, project: str = "MAIN") -> None:
        """Give a repository to another workspace. It keeps its uuid; its own tokens die."""
        repository = self.repositories.pop(slug)
        repository.workspace, repository.project = to, project
        to.projects.setdefault(project, project.title())
        to.repositories[slug] = repository
        self.world.moved[f"{self.slug}/{slug}"] = repository.uuid
        self.world.tokens = [one for one in self.world.tokens if one.repository != repository.uuid]

    def repository(self, key: str) -> SimRepository | None:
        """The repository of this slug or uuid."""
        return self.repositories.get(key) or next(
            (one for one in self.repositories.values() if one.uuid == key), None
        )
