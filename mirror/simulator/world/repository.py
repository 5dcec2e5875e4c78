"""A repository: real git on disk, and what Bitbucket knows besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import Ref, check_ref_format
from dulwich.repo import Repo

from mirror.simulator.world.builds import Pipeline, Step
from mirror.simulator.world.discussions import Attachment, Comment, Issue, PullRequest
from mirror.simulator.world.people import User, braced

if TYPE_CHECKING:
    from mirror.simulator.world.world import SimWorkspace, World

Person = tuple[str, str]
Activity = tuple[dict[str, Any], PullRequest]
Changes = dict[tuple[bytes, ...], bytes | None]
NOBODY: Person = ("Ann Example", "ann@example.org")


@dataclass
class SimRepository:
    """A repository. Whatever moves its refs moves the open pull requests from them, too."""

    workspace: SimWorkspace
    slug: str
    uuid: str
    git_path: Path
    project: str
    private: bool
    description: str
    created: datetime
    updated: datetime
    parent: SimRepository | None = None
    gone: bool = False
    pipelines_enabled: bool = True
    # What the API shows of it besides: name, language, fork policy.
    details: dict[str, Any] = field(default_factory=dict)
    # The lowest number that the next pipeline may have.
    next_build: int = 1
    pull_requests: dict[int, PullRequest] = field(default_factory=dict)
    # Pull requests from here to elsewhere.
    contributions: list[PullRequest] = field(default_factory=list)
    issues: dict[int, Issue] = field(default_factory=dict)
    pipelines: dict[int, Pipeline] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    environment_variables: dict[str, list[Any]] = field(default_factory=dict)
    downloads: list[Attachment] = field(default_factory=list)
    commit_comments: dict[str, list[Comment]] = field(default_factory=dict)
    # By commit: statuses that builds reported, and who approved it.
    commit_statuses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    commit_approvals: dict[str, list[User]] = field(default_factory=dict)
    # By schedule: what it has started.
    schedule_executions: dict[str, list[Any]] = field(default_factory=dict)
    # By commit: reports of code insights, each with its annotations under `annotations`.
    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    # What the issue tracker had besides issues: milestones, versions and components.
    tracker: dict[str, list[str]] = field(default_factory=dict)
    # Its wiki is a git repository, too.
    wiki: SimRepository | None = None
    # Found again where they are asked for, so that large repositories answer quickly.
    _pipelines_by_uuid: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _all_activity: tuple[list[tuple[int, int]], list[Activity]] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def world(self) -> World:
        """The world it is in."""
        return self.workspace.world

    @property
    def full_name(self) -> str:
        """`workspace/slug`."""
        return f"{self.workspace.slug}/{self.slug}"

    def add_wiki(self) -> SimRepository:
        """A wiki, empty yet; it is served where wikis are still there."""
        self.wiki = bare(self.workspace, self.slug, self.git_path.with_stem(f"{self.git_path.stem}-wiki"))
        return self.wiki

    # -- refs

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
        head = (self.git_path / "HEAD").read_bytes().strip()
        if not head.startswith(b"ref: refs/heads/"):
            return None
        name = head.removeprefix(b"ref: refs/heads/").decode("utf-8", "surrogateescape")
        return name if self.has_branch(name) else None

    def has_branch(self, name: str) -> bool:
        """Whether there is a branch of this name."""
        # Listing a thousand repositories asks this of each, so the files are asked and not dulwich.
        ref = f"refs/heads/{name}"
        return (self.git_path / ref).is_file() or ref.encode("utf-8", "surrogateescape") in self._packed()

    def _packed(self) -> set[bytes]:
        try:
            lines = (self.git_path / "packed-refs").read_bytes().splitlines()
        except FileNotFoundError:
            return set()
        return {line[41:] for line in lines if line[:1] not in (b"#", b"^")}

    def branch(self, name: str) -> str | None:
        """The hash of a branch."""
        with Repo(str(self.git_path)) as repo:
            value = repo.refs.read_ref(Ref(b"refs/heads/" + name.encode()))
        return value.decode("ascii") if value is not None else None

    def set_ref(self, name: bytes, value: str) -> None:
        """Point a ref at a hash, whatever it was."""
        assert check_ref_format(Ref(name)), name
        with Repo(str(self.git_path)) as repo:
            repo.refs[Ref(name)] = ObjectID(value.encode("ascii"))
        self.moved({name: value})

    def delete_ref(self, name: bytes) -> None:
        """Remove a ref."""
        with Repo(str(self.git_path)) as repo:
            del repo.refs[Ref(name)]
        self.moved({})

    def force(self, branch: str, value: str) -> None:
        """Point a branch elsewhere, as a force-push does."""
        self.set_ref(b"refs/heads/" + branch.encode(), value)

    def set_head(self, branch: str) -> None:
        """Make a branch the main one."""
        (self.git_path / "HEAD").write_bytes(b"ref: refs/heads/" + branch.encode() + b"\n")

    def moved(self, refs: Mapping[bytes, str]) -> None:
        """Refs have moved: the repository is newer, and so are open pull requests from these."""
        self.updated = self.world.now()
        local = [pull for pull in self.pull_requests.values() if pull.fork is None]
        for pull in (*local, *self.contributions):
            value = refs.get(b"refs/heads/" + pull.source.encode())
            if value is not None:
                pull.source_moved(value)

    # -- objects

    def commit(
        self,
        branch: str,
        files: Mapping[str, bytes | None],
        message: str,
        *,
        author: Person = NOBODY,
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
        """An annotated tag of any object, tags included; returns its hash."""
        with Repo(str(self.git_path)) as repo:
            tag = Tag()
            found = repo.object_store[ObjectID(target.encode())]
            tag.object = (type(found), found.id)
            tag.name, tag.message = name.encode(), message.encode()
            tag.tagger = f"{NOBODY[0]} <{NOBODY[1]}>".encode()
            tag.tag_time, tag.tag_timezone = int(self.world.now().timestamp()), 0
            repo.object_store.add_object(tag)
            value = tag.id.decode("ascii")
        self.set_ref(b"refs/tags/" + name.encode(), value)
        return value

    def files(self, commit: str) -> dict[str, bytes | None]:
        """Every file of a commit, as `commit` takes them."""
        found: dict[str, bytes | None] = {}
        with Repo(str(self.git_path)) as repo:

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

    def copy_objects(self, other: SimRepository) -> None:
        """Have every object that the refs of another repository reach."""
        with Repo(str(other.git_path)) as source, Repo(str(self.git_path)) as target:
            source.fetch(target)

    # -- what Bitbucket knows besides

    def open_pull_request(
        self,
        *,
        source: str,
        destination: str = "main",
        title: str,
        author: User,
        description: str = "",
        fork: SimRepository | None = None,
    ) -> PullRequest:
        """A new pull request between two branches; `fork` is where the source branch lies."""
        number = len(self.pull_requests) + 1
        now = self.world.now()
        head, base = (fork or self).branch(source), self.branch(destination)
        assert head is not None and base is not None
        pull = PullRequest(
            self, number, title, description, source, destination, head, base, author, now, now, fork=fork
        )
        pull.note({"update": {**pull.update_entry(), "author": author.email, "date": now}})
        self.pull_requests[number] = pull
        if fork is not None:
            fork.contributions.append(pull)
        return pull

    def activity(self) -> list[Activity]:
        """What happened to all pull requests, the newest first."""
        # Entries are only ever added.
        stand = [(pull.id, len(pull.activity)) for pull in self.pull_requests.values()]
        if self._all_activity is None or self._all_activity[0] != stand:
            entries = [(entry, pull) for pull in self.pull_requests.values() for entry in pull.activity]
            entries.sort(key=_when, reverse=True)
            self._all_activity = stand, entries
        return self._all_activity[1]

    def add_issue(
        self, title: str, *, author: User, content: str = "", comments: Sequence[str] = ()
    ) -> Issue:
        """A new issue."""
        number = len(self.issues) + 1
        now = self.world.now()
        issue = Issue(self, number, title, content, author, now, now)
        self.issues[number] = issue
        for text in comments:
            issue.comment(text, author=author)
        return issue

    def upload(self, name: str, content: bytes) -> None:
        """A new download, or new content for one."""
        self.downloads = [one for one in self.downloads if one.name != name]
        self.downloads.append(Attachment(name, content))

    def comment_on_commit(self, commit: str, text: str, *, author: User) -> Comment:
        """Say something about a commit."""
        made = Comment(self.world.number(), text, author, self.world.now())
        self.commit_comments.setdefault(commit, []).append(made)
        return made

    def approve_commit(self, commit: str, user: User) -> None:
        """A user approves a commit."""
        self.commit_approvals.setdefault(commit, []).append(user)

    def add_commit_status(self, commit: str, key: str, *, state: str = "SUCCESSFUL") -> None:
        """A build reports on a commit."""
        status = {"key": key, "state": state, "url": "https://ci.example.org/1", "date": self.world.now()}
        self.commit_statuses.setdefault(commit, []).append(status)

    def report(self, commit: str, title: str, annotations: Sequence[str] = ()) -> None:
        """A report of code insights on a commit."""
        found = self.reports.setdefault(commit, [])
        uuid_ = braced("report", self.uuid, commit, title)
        found.append(
            {
                "uuid": uuid_, "title": title, "date": self.world.now(),
                "annotations": [(braced(uuid_, text), text) for text in annotations],
            }
        )  # fmt: skip

    def pipeline(self, key: str) -> Pipeline | None:
        """The pipeline of a uuid, or of a number."""
        if key.isdigit():
            return self.pipelines.get(int(key))
        if key not in self._pipelines_by_uuid:
            self._pipelines_by_uuid = {one.uuid: number for number, one in self.pipelines.items()}
        return self.pipelines.get(self._pipelines_by_uuid.get(key, -1))

    def add_pipeline(
        self,
        *,
        branch: str = "main",
        steps: Sequence[tuple[str, bytes | None]],
        result: str | None = "SUCCESSFUL",
    ) -> Pipeline:
        """A new pipeline of steps with their logs; `result` None leaves it running."""
        number = max(max(self.pipelines, default=0) + 1, self.next_build)
        now = self.world.now()
        commit = self.branch(branch)
        assert commit is not None
        pipeline = Pipeline(self, number, branch, commit, now, [], result)
        for name, log in steps:
            uuid_ = braced("step", self.uuid, str(number), name)
            pipeline.steps.append(Step(uuid_, name, log, now))
        self.pipelines[number] = pipeline
        return pipeline


def _when(item: Activity) -> datetime:
    [found] = item[0].values()
    when = found["date"] if isinstance(found, dict) else found.created
    assert isinstance(when, datetime)
    return when


def bare(workspace: SimWorkspace, slug: str, path: Path, *, private: bool = True) -> SimRepository:
    """A git repository that stands for itself, such as a wiki or a snippet."""
    path.mkdir(parents=True)
    Repo.init_bare(str(path), default_branch=b"main").close()
    now = workspace.world.now()
    uuid = braced("git", workspace.slug, path.name)
    return SimRepository(workspace, slug, uuid, path, "", private, "", now, now)


def _tree(repo: Repo, base: ObjectID | None, changes: Changes) -> ObjectID:
    found = repo.object_store[base] if base is not None else Tree()
    assert isinstance(found, Tree)
    tree = found.copy()
    assert isinstance(tree, Tree)
    below: dict[bytes, Changes] = {}
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
        old = tree[name][1] if name in tree and tree[name][0] == 0o040000 else None
        subtree = _tree(repo, old, inner)
        if subtree == Tree().id:
            if name in tree:
                del tree[name]
        else:
            tree.add(name, 0o040000, subtree)
    repo.object_store.add_object(tree)
    return tree.id
