"""Pull requests, issues and snippets, with their comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mirror.simulator.world.base import BaseWorld
from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import User, braced

STATES = ("OPEN", "MERGED", "DECLINED", "SUPERSEDED")


@dataclass
class Comment:
    """A comment on a pull request or issue. A deleted one stays as a tombstone."""

    id: int
    text: str
    author: User
    created: datetime
    parent: int | None = None
    inline: dict[str, Any] | None = None
    deleted: bool = False
    edited: datetime | None = None
    resolved: tuple[User, datetime] | None = None
    pending: bool = False


@dataclass
class Task:
    """A task on a pull request."""

    id: int
    text: str
    author: User
    created: datetime
    resolved: bool = False
    comment: int | None = None
    edited: datetime | None = None
    pending: bool = False


@dataclass
class PullRequest:
    """A pull request. `fork` has its source branch; None: its own repository has it."""

    repository: GitRepository
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
    fork: GitRepository | None = None
    draft: bool = False
    close_source_branch: bool = True
    comments: list[Comment] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    approvals: dict[str, tuple[User, datetime]] = field(default_factory=dict)
    reviewers: list[User] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    activity: list[dict[str, Any]] = field(default_factory=list)

    @property
    def world(self) -> BaseWorld:
        """The world of the repository."""
        return self.repository.world

    @property
    def origin(self) -> GitRepository:
        """The repository of the source branch."""
        return self.fork or self.repository

    def note(self, entry: dict[str, Any]) -> None:
        """Add an entry to the activity, newest first."""
        self.activity.insert(0, entry)

    def announce(self, what: str, actor: User | None, **detail: Any) -> None:
        """Announce a change of this pull request: `what` names it, such as `approved`."""
        self.world.announce(f"pullrequest:{what}", self.repository, actor, pull=self, **detail)

    def update_entry(self) -> dict[str, Any]:
        """The state in the form of an activity entry."""
        return {
            "state": self.state, "title": self.title, "description": self.description,
            "reason": self.reason, "source_hash": self.source_hash,
            "destination_hash": self.destination_hash,
        }  # fmt: skip

    def comment(
        self, text: str, *, author: User, parent: Comment | None = None, inline: dict[str, Any] | None = None
    ) -> Comment:
        """Add a comment."""
        made = Comment(
            self.world.number(), text, author, self.world.now(), parent.id if parent else None, inline
        )
        self.comments.append(made)
        self.note({"comment": made})
        self._touch(made.created, counts=self.world.switches.comments_move_updated_on)
        self.announce("comment_created", author, comment=made)
        return made

    def edit_comment(self, comment: Comment, text: str, *, pending: bool = False) -> None:
        """Change the text of a comment."""
        comment.text, comment.pending, comment.edited = text, pending, self.world.now()
        self.announce("comment_updated", comment.author, comment=comment)

    def delete_comment(self, comment: Comment) -> None:
        """Delete a comment; a tombstone stays."""
        comment.deleted, comment.edited = True, self.world.now()
        self._touch(comment.edited, counts=self.world.switches.comments_move_updated_on)
        self.announce("comment_deleted", comment.author, comment=comment)

    def resolve(self, comment: Comment, *, by: User) -> None:
        """Resolve a thread."""
        comment.resolved = (by, self.world.now())
        self.announce("comment_resolved", by, comment=comment)

    def reopen(self, comment: Comment, *, by: User) -> None:
        """Reopen a resolved thread."""
        comment.resolved = None
        self.announce("comment_reopened", by, comment=comment)

    def add_task(self, text: str, *, author: User, comment: Comment | None = None) -> Task:
        """Add a task."""
        made = Task(
            self.world.number(), text, author, self.world.now(), False, comment.id if comment else None
        )
        self.tasks.append(made)
        self._touch(made.created, counts=self.world.switches.tasks_move_updated_on)
        return made

    def approve(self, user: User) -> None:
        """Record an approval."""
        now = self.world.now()
        self.approvals[user.email] = (user, now)
        self.note({"approval": {"user": user.email, "date": now}})
        self._touch(now, counts=self.world.switches.approvals_move_updated_on)
        self.announce("approved", user, date=now)

    def unapprove(self, user: User) -> bool:
        """Withdraw an approval. False: there was none."""
        if self.approvals.pop(user.email, None) is None:
            return False
        self.announce("unapproved", user, date=self.world.now())
        return True

    def request_changes(self, user: User) -> None:
        """Record that a user requests changes; this withdraws their approval."""
        now = self.world.now()
        self.approvals.pop(user.email, None)
        self.note({"changes_requested": {"user": user.email, "date": now}})
        self._touch(now, counts=self.world.switches.approvals_move_updated_on)
        self.announce("changes_request_created", user, date=now)

    def add_status(
        self, key: str, *, state: str = "SUCCESSFUL", url: str = "https://ci.example.org/1"
    ) -> None:
        """Add a build status."""
        now = self.world.now()
        status = {"key": key, "state": state, "url": url, "date": now}
        self.statuses.append(status)
        self._touch(now, counts=self.world.switches.builds_move_updated_on)
        self.repository.announce_status(self.source_hash, status)

    def push(self, files: Mapping[str, bytes | None], message: str) -> str:
        """Commit to the source branch; returns the hash."""
        return self.origin.commit(self.source, files, message)

    def source_moved(self, value: str) -> None:
        """Record a push to the source branch. Only an open pull request follows it."""
        if self.state == "OPEN" and value != self.source_hash:
            self.source_hash = value
            self._changed(self.author)
            self.announce("push", self.author)
            if self.world.switches.pushes_update_pull_requests:
                self.announce("updated", self.author)

    def edit(self, *, title: str, author: User) -> None:
        """Change the title."""
        self.title = title
        self._changed(author)
        self.announce("updated", author)

    def _touch(self, when: datetime, *, counts: bool) -> None:
        if counts:
            self.updated = when
        if self.world.switches.pull_requests_move_repository:
            self.repository.updated = when

    def _changed(self, author: User) -> None:
        now = self.world.now()
        self.note({"update": {**self.update_entry(), "author": author.email, "date": now}})
        self._touch(now, counts=True)

    def merge(self, *, author: User, squash: bool = False) -> str:
        """Merge it (or `squash` it into one commit), and remove the source branch."""
        tip = self.repository.branch(self.destination)
        assert tip is not None
        if self.fork is not None:
            self.repository.copy_objects(self.fork)
        when = self.world.now()
        self.merge_hash = self.repository.commit(
            self.destination,
            self.repository.files(self.source_hash),
            f"Merged in {self.source} (pull request #{self.id})\n",
            parents=(tip,) if squash else (tip, self.source_hash),
            when=when,
        )
        self._close("MERGED", author)
        self.announce("fulfilled", author)
        is_here = self.fork is None and self.repository.branch(self.source) is not None
        if self.close_source_branch and is_here:
            self.repository.delete_ref(b"refs/heads/" + self.source.encode())
        return self.merge_hash

    def decline(self, *, author: User, reason: str = "") -> str:
        """Decline it."""
        self.reason = reason
        self._close("DECLINED", author)
        self.announce("rejected", author)
        return self.state

    def supersede(self, *, author: User) -> str:
        """Mark it as superseded."""
        return self._close("SUPERSEDED", author)

    def _close(self, state: str, author: User) -> str:
        self.state, self.closed_by = state, author
        self._changed(author)
        return state


@dataclass
class Attachment:
    """A file attached to an issue or a repository."""

    name: str
    content: bytes


@dataclass
class Change:
    """A change of an issue: field → (before, after)."""

    id: int
    author: User
    when: datetime
    fields: dict[str, tuple[str, str]]


@dataclass
class Issue:
    """An issue of the tracker that Bitbucket no longer has."""

    repository: GitRepository
    id: int
    title: str
    content: str
    author: User
    created: datetime
    updated: datetime
    state: str = "new"
    comments: list[Comment] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The name of the issue in storage URLs of its attachments."""
        return braced("issue", self.repository.uuid, str(self.id)).strip("{}")

    def comment(self, text: str, *, author: User) -> Comment:
        """Add a comment."""
        world = self.repository.world
        made = Comment(world.number(), text, author, world.now())
        self.comments.append(made)
        self.updated = made.created
        world.announce("issue:comment_created", self.repository, author, issue=self, comment=made)
        return made

    def set_state(self, state: str, *, author: User) -> None:
        """Change its state."""
        world = self.repository.world
        self.updated = world.now()
        self.changes.append(Change(world.number(), author, self.updated, {"state": (self.state, state)}))
        self.state = state
        world.announce("issue:updated", self.repository, author, issue=self)

    def attach(self, name: str, content: bytes) -> None:
        """Attach a file."""
        self.attachments.append(Attachment(name, content))
        self.updated = self.repository.world.now()


@dataclass
class Snippet:
    """A snippet: files in a git repository of their own, with comments. Every change is a commit."""

    id: str
    title: str
    author: User
    created: datetime
    updated: datetime
    files: dict[str, bytes]
    git: GitRepository
    private: bool = True
    comments: list[Comment] = field(default_factory=list)

    @property
    def commit(self) -> str:
        """The hash of its newest commit."""
        value = self.git.branch("main")
        assert value is not None
        return value

    @property
    def address(self) -> str:
        """The path of its clone URL."""
        title = "-".join(self.title.lower().split())
        return f"snippets/{self.git.workspace.slug}/{self.id}/{title}.git"

    def edit(self, files: dict[str, bytes]) -> None:
        """Replace the files as the web page does, which changes `updated`."""
        self.updated = self.git.world.now()
        self.commit_files(files)

    def commit_files(self, files: dict[str, bytes], *, parents: Sequence[str] | None = None) -> str:
        """Commit exactly `files`; other `parents` than the tip make it a force-push."""
        gone: dict[str, bytes | None] = {name: None for name in self.files if name not in files}
        author = (self.author.name, self.author.email)
        self.files = files
        return self.git.commit(
            "main", {**(gone if parents is None else {}), **files}, "Edited\n", author=author, parents=parents
        )
