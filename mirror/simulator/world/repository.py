"""Repositories with their pull requests, issues, pipelines and settings; and workspaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dulwich.repo import Repo

from mirror.simulator.world.base import BaseWorkspace
from mirror.simulator.world.builds import Pipeline, Step
from mirror.simulator.world.discussions import Attachment, Comment, Issue, PullRequest, Snippet
from mirror.simulator.world.git_repository import GitRepository, Moves
from mirror.simulator.world.people import User, braced

Activity = tuple[dict[str, Any], PullRequest]


@dataclass
class SimRepository(GitRepository):
    """A repository. When a branch moves, the open pull requests from it follow."""

    workspace: SimWorkspace
    parent: SimRepository | None = None
    # The lowest number that the next pipeline may have.
    next_build: int = 1
    pull_requests: dict[int, PullRequest] = field(default_factory=dict)
    # Pull requests from this repository to another.
    contributions: list[PullRequest] = field(default_factory=list)
    issues: dict[int, Issue] = field(default_factory=dict)
    pipelines: dict[int, Pipeline] = field(default_factory=dict)
    environment_variables: dict[str, list[Any]] = field(default_factory=dict)
    downloads: list[Attachment] = field(default_factory=list)
    commit_comments: dict[str, list[Comment]] = field(default_factory=dict)
    # By uuid of the schedule: its executions.
    schedule_executions: dict[str, list[Any]] = field(default_factory=dict)
    # By commit: reports of code insights, each with its annotations under `annotations`.
    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    # By kind: the milestones, versions and components of the issue tracker.
    tracker: dict[str, list[str]] = field(default_factory=dict)
    # Its wiki is a git repository, too.
    wiki: SimRepository | None = None
    # Caches, for large repositories.
    _pipelines_by_uuid: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _all_activity: tuple[list[tuple[int, int]], list[Activity]] | None = field(
        default=None, repr=False, compare=False
    )

    def add_wiki(self) -> SimRepository:
        """Add an empty wiki. It is served where the switch `wikis` is on."""
        self.wiki = bare(self.workspace, self.slug, self.git_path.with_stem(f"{self.git_path.stem}-wiki"))
        return self.wiki

    def moved(self, refs: Moves, actor: User | None = None) -> None:
        """Record that `actor` moved refs. The open pull requests from these branches follow."""
        super().moved(refs, actor)
        # Wikis and snippets announce nothing.
        if self.workspace.repositories.get(self.slug) is self:
            self.world.announce("repo:push", self, actor, refs=refs)
        local = [pull for pull in self.pull_requests.values() if pull.fork is None]
        for pull in (*local, *self.contributions):
            _, value = refs.get(b"refs/heads/" + pull.source.encode(), (None, None))
            if value is not None:
                pull.source_moved(value)

    # -- pull requests, issues, pipelines

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
        """A new pull request between two branches; `fork` has the source branch; None: this repository."""
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
        pull.announce("created", author)
        return pull

    def activity(self) -> list[Activity]:
        """The activity of all pull requests, newest first."""
        # Entries are only added, so equal counts mean equal entries.
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
        self.world.announce("issue:created", self, author, issue=issue)
        for text in comments:
            issue.comment(text, author=author)
        return issue

    def upload(self, name: str, content: bytes) -> None:
        """A new download, or new content for one."""
        self.downloads = [one for one in self.downloads if one.name != name]
        self.downloads.append(Attachment(name, content))

    def comment_on_commit(self, commit: str, text: str, *, author: User) -> Comment:
        """Comment on a commit."""
        made = Comment(self.world.number(), text, author, self.world.now())
        self.commit_comments.setdefault(commit, []).append(made)
        self.world.announce("repo:commit_comment_created", self, author, comment=made, commit=commit)
        return made

    def approve_commit(self, commit: str, user: User) -> None:
        """Approve a commit."""
        self.commit_approvals.setdefault(commit, []).append(user)

    def add_commit_status(self, commit: str, key: str, *, state: str = "SUCCESSFUL") -> None:
        """Add a build status to a commit."""
        status = {"key": key, "state": state, "url": "https://ci.example.org/1", "date": self.world.now()}
        self.commit_statuses.setdefault(commit, []).append(status)
        self.announce_status(commit, status)

    def report(self, commit: str, title: str, annotations: Sequence[str] = ()) -> None:
        """Add a report of Code Insights to a commit."""
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
        pipeline.announce(is_new=True)
        return pipeline


def _when(item: Activity) -> datetime:
    [found] = item[0].values()
    when = found["date"] if isinstance(found, dict) else found.created
    assert isinstance(when, datetime)
    return when


def bare(workspace: SimWorkspace, slug: str, path: Path, *, private: bool = True) -> SimRepository:
    """The git repository of a wiki or a snippet."""
    path.mkdir(parents=True)
    Repo.init_bare(str(path), default_branch=b"main").close()
    now = workspace.world.now()
    uuid = braced("git", workspace.slug, path.name)
    return SimRepository(workspace, slug, uuid, path, "", private, "", now, now)


@dataclass
class SimWorkspace(BaseWorkspace):
    """A workspace with its projects, repositories and snippets."""

    repositories: dict[str, SimRepository] = field(default_factory=dict)
    snippets: dict[str, Snippet] = field(default_factory=dict)

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
        """A new, empty repository; with `parent` a fork with its refs and objects."""
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
        if parent is not None:
            repository.copy_objects(parent)
            for name, value in parent.refs().items():
                repository.set_ref(name, value)
            self.world.announce("repo:fork", parent, fork=repository)
        self.repositories[slug] = repository
        self.world.announce("repo:created", repository)
        return repository

    def delete_repository(self, slug: str) -> SimRepository:
        """Delete a repository. `restore` puts the returned one back."""
        repository = self.repositories.pop(slug)
        repository.gone = True
        self.world.announce("repo:deleted", repository)
        return repository

    def restore(self, repository: SimRepository) -> None:
        """Restore a deleted repository."""
        repository.gone = False
        self.repositories[repository.slug] = repository

    def rename_repository(self, old: str, new: str) -> None:
        """Rename a repository; the old path redirects until another repository takes it."""
        repository = self.repositories.pop(old)
        repository.slug = new
        self.repositories[new] = repository
        self.world.moved[f"{self.slug}/{old}"] = repository.uuid
        self.world.announce("repo:updated", repository, name=(old, new))

    def transfer_repository(self, slug: str, to: SimWorkspace, *, project: str = "MAIN") -> None:
        """Transfer a repository to another workspace. It keeps its uuid; its access tokens are revoked."""
        repository = self.repositories.pop(slug)
        repository.workspace, repository.project = to, project
        to.projects.setdefault(project, project.title())
        to.repositories[slug] = repository
        self.world.moved[f"{self.slug}/{slug}"] = repository.uuid
        self.world.tokens = [one for one in self.world.tokens if one.repository != repository.uuid]
        self.world.announce("repo:transfer", repository, previous=self)

    def repository(self, key: str) -> SimRepository | None:
        """The repository of this slug or uuid."""
        return self.repositories.get(key) or next(
            (one for one in self.repositories.values() if one.uuid == key), None
        )
