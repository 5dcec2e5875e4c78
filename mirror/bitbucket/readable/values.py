"""The values. Times are as Bitbucket writes them (ISO 8601), texts as people wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mirror.model import JsonObject


@dataclass(frozen=True)
class Text:
    """A text in Bitbucket's Markdown. `people` are names by the ids that mentions use."""

    raw: str = ""
    people: Mapping[str, str] = field(default_factory=dict, compare=False, hash=False)

    def __bool__(self) -> bool:
        return bool(self.raw.strip())


@dataclass(frozen=True)
class Task:
    """Something to be done. `comment` is the id of the comment that it belongs to."""

    id: str
    text: Text
    author: str
    when: str
    is_done: bool
    comment: str | None = None


@dataclass(frozen=True)
class Anchor:
    """The lines of a file that a comment is about: of the file as it was (`old`) or is (`new`), from 1.
    Both are None where the comment is about the whole file. `commit` is what its author looked at."""

    path: str
    old: int | None = None
    new: int | None = None
    first: int | None = None
    is_outdated: bool = False
    commit: str | None = None


@dataclass(frozen=True)
class Comment:
    """A comment with its replies and tasks. `resolver` is who closed the thread, at `resolved`."""

    id: str
    author: str
    when: str
    text: Text
    edited: str = ""
    is_deleted: bool = False
    is_pending: bool = False
    anchor: Anchor | None = None
    resolver: str = ""
    resolved: str = ""
    replies: Sequence[Comment] = ()
    tasks: Sequence[Task] = ()


@dataclass(frozen=True)
class Participant:
    """A participant of a pull request or commit. `state` is `approved`, `changes_requested` or empty."""

    name: str
    is_reviewer: bool
    state: str
    when: str


@dataclass(frozen=True)
class Event:
    """An entry of a history: who did `what`; `text` is what they wrote."""

    when: str
    who: str
    what: str
    text: Text = field(default_factory=Text)


@dataclass(frozen=True)
class Status:
    """What a build says of a commit."""

    name: str
    state: str
    when: str
    url: str
    description: str


@dataclass(frozen=True)
class End:
    """A side of a pull request. `repository` is empty where it is gone."""

    repository: str
    branch: str
    hash: str


@dataclass(frozen=True)
class ListedCommit:
    """A commit as the API lists it, where git does not have it."""

    id: str
    author: str
    when: str
    message: str


@dataclass(frozen=True)
class Pointer:
    """A file that is stored beside the documents, or (`sha256` None) only named there."""

    name: str
    sha256: str | None = None
    size: int = 0


@dataclass(frozen=True)
class PullRequest:
    """A pull request. `lacking` are the children that are not held, each with the reason."""

    number: int
    title: str
    state: str
    is_draft: bool
    author: str
    created: str
    updated: str
    source: End
    destination: End
    merge_commit: str
    description: Text
    reason: Text
    closed_by: str
    participants: Sequence[Participant]
    threads: Sequence[Comment]
    tasks: Sequence[Task]
    events: Sequence[Event]
    statuses: Sequence[Status]
    commits: Sequence[ListedCommit]
    patch: Pointer | None
    comment_count: int
    lacking: Mapping[str, str]

    @property
    def open_tasks(self) -> Sequence[Task]:
        """The tasks that belong to no comment."""
        return [one for one in self.tasks if one.comment is None]


@dataclass(frozen=True)
class Issue:
    """An issue. `facts` are its further properties, by name."""

    number: int
    title: str
    state: str
    author: str
    created: str
    updated: str
    content: Text
    facts: Sequence[tuple[str, str]]
    comments: Sequence[Comment]
    events: Sequence[Event]
    attachments: Sequence[Pointer]
    lacking: Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """A test, and why it failed."""

    name: str
    state: str
    reasons: Sequence[str]


@dataclass(frozen=True)
class Step:
    """A step of a pipeline. `logs` are its own and its services', each with a name; `tests` counts by
    outcome."""

    name: str
    state: str
    started: str
    seconds: int | None
    commands: Sequence[str]
    logs: Sequence[tuple[str, Pointer]]
    tests: Sequence[tuple[str, int]]
    cases: Sequence[Case]


@dataclass(frozen=True)
class Pipeline:
    """A pipeline with its steps."""

    number: int
    state: str
    branch: str
    commit: str
    trigger: str
    creator: str
    created: str
    completed: str
    seconds: int | None
    steps: Sequence[Step]
    lacking: Mapping[str, str]


@dataclass(frozen=True)
class CommitRemarks:
    """What was said and reported about a commit. `reports` are as the API has them."""

    commit: str
    comments: Sequence[Comment]
    statuses: Sequence[Status]
    participants: Sequence[Participant]
    reports: Sequence[JsonObject]
    lacking: Mapping[str, str]

    def __bool__(self) -> bool:
        return any((self.comments, self.statuses, self.participants, self.reports, self.lacking))


@dataclass(frozen=True)
class Snippet:
    """A snippet with its files."""

    id: str
    title: str
    owner: str
    created: str
    updated: str
    files: Sequence[Pointer]
    comments: Sequence[Comment]
    lacking: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """Things of one kind, a row for each."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
