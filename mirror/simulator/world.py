"""The world behind the API: workspaces, repositories on disk, people, pull requests, pipelines.

Plain objects that tests and the demo change directly; `render` turns them into Bitbucket's JSON.
"""

from __future__ import annotations

import hashlib
import pickle
import secrets
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import Ref, check_ref_format
from dulwich.repo import Repo

STATES = ("OPEN", "MERGED", "DECLINED", "SUPERSEDED")
Person = tuple[str, str]


def braced(*parts: str) -> str:
    """A uuid that is the same whenever the same things are made."""
    return "{" + str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts))) + "}"


@dataclass
class User:
    """Somebody with an account."""

    name: str
    email: str
    kind: str = "user"

    @property
    def uuid(self) -> str:
        """The user's uuid."""
        return braced("user", self.email)


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
        return f"{self.kind}:{self.client_id or hashlib.sha256(self.secret.encode()).hexdigest()[:12]}"


@dataclass
class Comment:
    """A comment on a pull request or issue."""

    id: int
    text: str
    author: User
    created: datetime
    parent: int | None = None
    inline: dict[str, Any] | None = None
    deleted: bool = False


@dataclass
class Task:
    """A task on a pull request."""

    id: int
    text: str
    author: User
    created: datetime
    resolved: bool = False
    comment: int | None = None


class World:
    """Everything there is. `root` is where the repositories live.

    `clock` gives the time of day, `limit` the requests an hour for each identity.
    """

    def __init__(
        self, root: Path, *, clock: Callable[[], datetime] | None = None, limit: int = 100_000
    ) -> None:
        self.root = root
        self.clock = clock or _now
        self.limit = limit
        self.workspaces: dict[str, SimWorkspace] = {}
        self.users: dict[str, User] = {}
        self.tokens: list[Token] = []
        self.moved: dict[str, str] = {}
        self._last = datetime(2000, 1, 1, tzinfo=UTC)
        self._numbers = 0
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    def now(self) -> datetime:
        """The time, always later than the last one given."""
        with self._lock:
            self._last = max(self.clock(), self._last + timedelta(microseconds=1))
            return self._last

    def number(self) -> int:
        """A number not given before."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def add_user(self, name: str, email: str) -> User:
        """Somebody new, or who is already there."""
        return self.users.setdefault(email, User(name, email))

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

    def add_workspace_access_token(self, workspace: str, scopes: Iterable[str]) -> str:
        """A token that sees a whole workspace."""
        return self._token("workspace_access_token", scopes, workspace=workspace)

    def add_project_access_token(self, workspace: str, project: str, scopes: Iterable[str]) -> str:
        """A token that sees one project."""
        return self._token("project_access_token", scopes, workspace=workspace, project=project)

    def add_repository_access_token(self, workspace: str, repository: str, scopes: Iterable[str]) -> str:
        """A token that sees one repository."""
        return self._token("repository_access_token", scopes, workspace=workspace, repository=repository)

    def add_api_token(self, user: User, scopes: Iterable[str]) -> str:
        """A user's API token; its scopes have the long names (`read:repository:bitbucket`)."""
        secret = f"ATATT3x{secrets.token_urlsafe(24)}"
        self.tokens.append(Token("api_token", secret, frozenset(scopes), user=user))
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
        self.tokens.append(Token(kind, secret, frozenset(scopes), workspace, project, repository))
        return secret

    def save(self) -> None:
        """Keep everything in the root folder, for the next start."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("_lock", "clock")}
        (self.root / "world.pickle").write_bytes(pickle.dumps(state))

    @classmethod
    def load(cls, root: Path) -> World | None:
        """What `save` kept in `root`, or None. Only for a folder that is one's own."""
        try:
            state = pickle.loads((root / "world.pickle").read_bytes())  # noqa: S301
        except FileNotFoundError:
            return None
        world = cls(root)
        world.__dict__.update(state)
        return world

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "clock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock, self.clock = threading.Lock(), _now


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

    def add_repository(
        self, slug: str, *, project: str = "MAIN", private: bool = True, description: str = ""
    ) -> SimRepository:
        """A new, empty repository."""
        self.projects.setdefault(project, project.title())
        serial = self.world.number()
        path = self.world.root / self.slug / f"{slug}-{serial}.git"
        path.mkdir(parents=True)
        Repo.init_bare(str(path), default_branch=b"main").close()
        now = self.world.now()
        repository = SimRepository(
            self, slug, braced("repository", self.slug, slug, str(serial)), path, project, private,
            description, now, now,
        )  # fmt: skip
        self.repositories[slug] = repository
        return repository

    def delete_repository(self, slug: str) -> SimRepository:
        """Take a repository away. What is returned can be put back with `restore`."""
        return self.repositories.pop(slug)

    def restore(self, repository: SimRepository) -> None:
        """Put a deleted repository back."""
        self.repositories[repository.slug] = repository

    def rename_repository(self, old: str, new: str) -> None:
        """Rename a repository; the old address redirects."""
        repository = self.repositories.pop(old)
        repository.slug = new
        self.repositories[new] = repository
        self.world.moved[f"{self.slug}/{old}"] = f"{self.slug}/{new}"

    def repository(self, key: str) -> SimRepository | None:
        """The repository of this slug or uuid."""
        return self.repositories.get(key) or next(
            (one for one in self.repositories.values() if one.uuid == key), None
        )


@dataclass
class SimRepository:
    """A repository: real git on disk, and what Bitbucket knows besides."""

    workspace: SimWorkspace
    slug: str
    uuid: str
    git_path: Path
    project: str
    private: bool
    description: str
    created: datetime
    updated: datetime
    pull_requests: dict[int, PullRequest] = field(default_factory=dict)
    issues: dict[int, Issue] = field(default_factory=dict)
    pipelines: dict[int, Pipeline] = field(default_factory=dict)

    @property
    def world(self) -> World:
        """The world it is in."""
        return self.workspace.world

    @property
    def full_name(self) -> str:
        """`workspace/slug`."""
        return f"{self.workspace.slug}/{self.slug}"

    def refs(self) -> dict[bytes, str]:
        """Every ref with its hash."""
        with Repo(str(self.git_path)) as repo:
            return {
                bytes(name): value.decode("ascii")
                for name, value in repo.refs.as_dict().items()
                if name != b"HEAD"
            }

    def main_branch(self) -> str | None:
        """The branch that HEAD names, where it has a commit."""
        head = (self.git_path / "HEAD").read_bytes().strip().removeprefix(b"ref: ")
        return head.decode().removeprefix("refs/heads/") if head in self.refs() else None

    def branch(self, name: str) -> str | None:
        """The hash of a branch."""
        return self.refs().get(b"refs/heads/" + name.encode())

    def commit(
        self,
        branch: str,
        files: Mapping[str, bytes | None],
        message: str,
        *,
        author: Person = ("Ann Example", "ann@example.org"),
        when: datetime | None = None,
        parents: Sequence[str] | None = None,
    ) -> str:
        """Commit `files` (None removes one) to a branch; returns the hash.

        `parents` are the branch's tip unless given; the first one's files are what is changed.
        """
        ref = b"refs/heads/" + branch.encode()
        moment = when or self.world.now()
        with Repo(str(self.git_path)) as repo:
            tip = self.refs().get(ref)
            above = list(parents) if parents is not None else [tip] if tip is not None else []
            commit = Commit()
            base = None
            if above:
                parent = repo.object_store[ObjectID(above[0].encode())]
                assert isinstance(parent, Commit)
                base = parent.tree
            commit.tree = _tree(repo, base, {tuple(p.encode().split(b"/")): c for p, c in files.items()})
            commit.parents = [ObjectID(one.encode()) for one in above]
            commit.author = commit.committer = f"{author[0]} <{author[1]}>".encode()
            commit.author_time = commit.commit_time = int(moment.timestamp())
            commit.author_timezone = commit.commit_timezone = 0
            commit.message = message.encode()
            repo.object_store.add_object(commit)
            value = commit.id.decode("ascii")
        self.set_ref(ref, value)
        return value

    def tag(self, name: str, target: str, message: str) -> str:
        """An annotated tag; returns its hash."""
        with Repo(str(self.git_path)) as repo:
            tag = Tag()
            found = repo.object_store[ObjectID(target.encode())]
            tag.object = (type(found), found.id)
            tag.name, tag.message = name.encode(), message.encode()
            tag.tagger = b"Ann Example <ann@example.org>"
            tag.tag_time, tag.tag_timezone = int(self.world.now().timestamp()), 0
            repo.object_store.add_object(tag)
            value = tag.id.decode("ascii")
        self.set_ref(b"refs/tags/" + name.encode(), value)
        return value

    def set_ref(self, name: bytes, value: str) -> None:
        """Point a ref at a hash, whatever it was."""
        assert check_ref_format(Ref(name)), name
        with Repo(str(self.git_path)) as repo:
            repo.refs[Ref(name)] = ObjectID(value.encode("ascii"))
        self.updated = self.world.now()

    def delete_ref(self, name: bytes) -> None:
        """Remove a ref."""
        with Repo(str(self.git_path)) as repo:
            del repo.refs[Ref(name)]
        self.updated = self.world.now()

    def set_head(self, branch: str) -> None:
        """Make a branch the main one."""
        (self.git_path / "HEAD").write_bytes(b"ref: refs/heads/" + branch.encode() + b"\n")

    def open_pull_request(
        self, *, source: str, destination: str = "main", title: str, author: User, description: str = ""
    ) -> PullRequest:
        """A new pull request between two branches."""
        number = len(self.pull_requests) + 1
        now = self.world.now()
        head, base = self.branch(source), self.branch(destination)
        assert head is not None and base is not None
        pull = PullRequest(
            self, number, title, description, source, destination, head, base, author, now, now
        )
        pull.note({"update": {**pull.update_entry(), "author": author.email, "date": now}})
        self.pull_requests[number] = pull
        return pull

    def add_issue(
        self, title: str, *, author: User, content: str = "", comments: Sequence[str] = ()
    ) -> Issue:
        """A new issue."""
        number = len(self.issues) + 1
        now = self.world.now()
        issue = Issue(self, number, title, content, author, now, now)
        for text in comments:
            issue.comments.append(Comment(self.world.number(), text, author, self.world.now()))
        self.issues[number] = issue
        return issue

    def add_pipeline(
        self,
        *,
        branch: str = "main",
        steps: Sequence[tuple[str, bytes | None]],
        result: str | None = "SUCCESSFUL",
    ) -> Pipeline:
        """A new pipeline of steps with their logs; `result` None leaves it running."""
        number = len(self.pipelines) + 1
        now = self.world.now()
        commit = self.branch(branch)
        assert commit is not None
        pipeline = Pipeline(self, number, branch, commit, now, [], result)
        for name, log in steps:
            uuid_ = braced("step", self.uuid, str(number), name)
            pipeline.steps.append(Step(uuid_, name, log, now))
        self.pipelines[number] = pipeline
        return pipeline


def _tree(repo: Repo, base: ObjectID | None, changes: dict[tuple[bytes, ...], bytes | None]) -> ObjectID:
    found = repo.object_store[base] if base is not None else Tree()
    assert isinstance(found, Tree)
    tree = found.copy()
    assert isinstance(tree, Tree)
    below: dict[bytes, dict[tuple[bytes, ...], bytes | None]] = {}
    for path, content in changes.items():
        if len(path) > 1:
            below.setdefault(path[0], {})[path[1:]] = content
        elif content is None:
            if path[0] in tree:
                del tree[path[0]]
        else:
            blob = Blob.from_string(content)
            repo.object_store.add_object(blob)
            tree.add(path[0], 0o100644, blob.id)
    for name, inner in below.items():
        old = tree[name][1] if name in tree else None
        tree.add(name, 0o040000, _tree(repo, old, inner))
    repo.object_store.add_object(tree)
    return tree.id


@dataclass
class PullRequest:
    """A pull request and all that is said in it."""

    repository: SimRepository
    id: int
    title: str
    description: str
    source: str
    destination: str
    source_hash: str
    destination_hash: str
    author: User
    created: datetime
    updated: datetime
    state: str = "OPEN"
    reason: str = ""
    closed_by: User | None = None
    merge_hash: str | None = None
    comments: list[Comment] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    approvals: dict[str, tuple[User, datetime]] = field(default_factory=dict)
    reviewers: list[User] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    activity: list[dict[str, Any]] = field(default_factory=list)
    comments_move: bool = True
    approvals_move: bool = False
    tasks_move: bool = False

    @property
    def world(self) -> World:
        """The world it is in."""
        return self.repository.world

    def note(self, entry: dict[str, Any]) -> None:
        """Add to the activity; the newest comes first."""
        self.activity.insert(0, entry)

    def update_entry(self) -> dict[str, Any]:
        """The state, as activity shows it."""
        return {
            "state": self.state, "title": self.title, "description": self.description,
            "reason": self.reason, "source_hash": self.source_hash,
            "destination_hash": self.destination_hash,
        }  # fmt: skip

    def comment(
        self, text: str, *, author: User, parent: Comment | None = None, inline: dict[str, Any] | None = None
    ) -> Comment:
        """Say something."""
        made = Comment(
            self.world.number(), text, author, self.world.now(), parent.id if parent else None, inline
        )
        self.comments.append(made)
        self.note({"comment": made})
        if self.comments_move:
            self.updated = made.created
        return made

    def add_task(self, text: str, *, author: User, comment: Comment | None = None) -> Task:
        """Ask for something to be done."""
        made = Task(
            self.world.number(), text, author, self.world.now(), False, comment.id if comment else None
        )
        self.tasks.append(made)
        if self.tasks_move:
            self.updated = made.created
        return made

    def approve(self, user: User) -> None:
        """Somebody approves."""
        now = self.world.now()
        self.approvals[user.email] = (user, now)
        self.note({"approval": {"user": user.email, "date": now}})
        if self.approvals_move:
            self.updated = now

    def add_status(
        self, key: str, *, state: str = "SUCCESSFUL", url: str = "https://ci.example.org/1"
    ) -> None:
        """A build reports."""
        self.statuses.append({"key": key, "state": state, "url": url, "date": self.world.now()})

    def push(self, files: Mapping[str, bytes | None], message: str) -> str:
        """A new commit on the source branch."""
        self.source_hash = self.repository.commit(self.source, files, message)
        self._changed(self.author)
        return self.source_hash

    def edit(self, *, title: str, author: User) -> None:
        """Change the title."""
        self.title = title
        self._changed(author)

    def _changed(self, author: User) -> None:
        self.updated = self.world.now()
        self.note({"update": {**self.update_entry(), "author": author.email, "date": self.updated}})

    def merge(self, *, author: User) -> str:
        """Merge it, and remove the source branch."""
        tip = self.repository.branch(self.destination)
        assert tip is not None
        self.merge_hash = self.repository.commit(
            self.destination,
            _files(self.repository, self.source_hash),
            f"Merged in {self.source} (pull request #{self.id})\n",
            parents=(tip, self.source_hash),
        )
        if self.repository.branch(self.source) is not None:
            self.repository.delete_ref(b"refs/heads/" + self.source.encode())
        return self._close("MERGED", author)

    def decline(self, *, author: User, reason: str = "") -> str:
        """Decline it."""
        self.reason = reason
        return self._close("DECLINED", author)

    def supersede(self, *, author: User) -> str:
        """It was overtaken by another."""
        return self._close("SUPERSEDED", author)

    def _close(self, state: str, author: User) -> str:
        self.state, self.closed_by = state, author
        self._changed(author)
        return state


def _files(repository: SimRepository, commit: str) -> dict[str, bytes | None]:
    """Every file of a commit."""
    found: dict[str, bytes | None] = {}
    with Repo(str(repository.git_path)) as repo:

        def walk(tree_id: ObjectID, prefix: str) -> None:
            tree = repo.object_store[tree_id]
            assert isinstance(tree, Tree)
            for entry in tree.iteritems():
                path = prefix + entry.path.decode()
                if entry.mode == 0o040000:
                    walk(entry.sha, path + "/")
                else:
                    found[path] = repo.object_store[entry.sha].as_raw_string()

        top = repo.object_store[ObjectID(commit.encode())]
        assert isinstance(top, Commit)
        walk(top.tree, "")
    return found


@dataclass
class Issue:
    """An issue of the tracker that Bitbucket no longer has."""

    repository: SimRepository
    id: int
    title: str
    content: str
    author: User
    created: datetime
    updated: datetime
    state: str = "new"
    comments: list[Comment] = field(default_factory=list)


@dataclass
class Step:
    """A step of a pipeline; `log` None: there is none, or it has expired."""

    uuid: str
    name: str
    log: bytes | None
    started: datetime


@dataclass
class Pipeline:
    """A pipeline; `result` None while it runs."""

    repository: SimRepository
    number: int
    branch: str
    commit: str
    created: datetime
    steps: list[Step]
    result: str | None

    @property
    def uuid(self) -> str:
        """The pipeline's uuid."""
        return braced("pipeline", self.repository.uuid, str(self.number))
