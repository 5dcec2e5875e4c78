"""Pull requests, issues, snippets, and what is said about commits."""

from __future__ import annotations

from dataclasses import replace

from mirror.bitbucket.readable.parts import (
    People,
    author_of,
    get,
    lacking,
    number,
    objects,
    participants,
    people_in,
    person,
    pointer,
    statuses,
    string,
    task,
    text_of,
    threads,
)
from mirror.bitbucket.readable.values import (
    CommitRemarks,
    End,
    Event,
    Issue,
    ListedCommit,
    Participant,
    Pointer,
    PullRequest,
    Snippet,
    Task,
    Text,
)
from mirror.model import Json, JsonObject

_WORDS = {"approval": "approved", "changes_requested": "requested changes"}


def pull_request(document: JsonObject) -> PullRequest:
    """The pull request of a document."""
    data, people = get(document, "pull_request"), people_in(document)
    tasks = [task(one, people) for one in objects(document, "tasks")]
    comments = threads(get(document, "comments"), people, tasks)
    known = {string(one, "id") for one in objects(document, "comments")}
    # A task whose comment is not held stands for itself.
    tasks = [one if one.comment in known else _alone(one) for one in tasks]
    return PullRequest(
        number(data, "id") or 0,
        string(data, "title"),
        string(data, "state"),
        get(data, "draft") is True,
        person(data, "author"),
        string(data, "created_on"),
        string(data, "updated_on"),
        _end(get(data, "source")),
        _end(get(data, "destination")),
        string(data, "merge_commit", "hash"),
        text_of(data, people, "description") or text_of(data, people, "summary"),
        text_of(data, people, "reason"),
        person(data, "closed_by") if get(data, "closed_by") else "",
        _people_at(data),
        comments,
        tasks,
        _events(document, people),
        statuses(get(document, "statuses")),
        [_commit(one) for one in objects(document, "commits")],
        pointer(get(document, "patch")),
        sum(get(one, "deleted") is not True for one in objects(document, "comments")),
        lacking(document, "comments", "tasks", "activity", "statuses"),
    )


def _alone(one: Task) -> Task:
    return replace(one, comment=None)


def _end(data: Json) -> End:
    return End(
        string(data, "repository", "full_name"),
        string(data, "branch", "name"),
        string(data, "commit", "hash"),
    )


def _people_at(data: Json) -> list[Participant]:
    """The participants; where the document does not tell them, the reviewers."""
    found = participants(get(data, "participants"))
    return found or [Participant(person(one), True, "", "") for one in objects(data, "reviewers")]


def _commit(one: JsonObject) -> ListedCommit:
    return ListedCommit(string(one, "hash"), author_of(one), string(one, "date"), string(one, "message"))


def _events(document: JsonObject, people: People) -> list[Event]:
    """What happened to a pull request, the oldest first. Comments stand elsewhere."""
    found: list[Event] = []
    before: JsonObject = {}
    for one in reversed(objects(document, "activity")):
        for kind, words in _WORDS.items():
            if isinstance(one.get(kind), dict):
                found.append(Event(string(one, kind, "date"), person(one, kind, "user"), words))
        update = one.get("update")
        if isinstance(update, dict):
            what = _update(before, update)
            reason = text_of(update, people, "reason")
            found.append(Event(string(update, "date"), person(update, "author"), what, reason))
            before = update
    return found


def _update(before: JsonObject, after: JsonObject) -> str:
    """In words, how a pull request changed."""
    if not before:
        return "opened the pull request"
    changes = []
    if string(before, "state") != string(after, "state"):
        state = string(after, "state").lower()
        changes.append("reopened it" if state == "open" else f"{state} it" if state else "changed its state")
    old, new = string(before, "source", "commit", "hash"), string(after, "source", "commit", "hash")
    if old != new and new:
        changes.append(f"pushed {new[:12]}")
    if string(before, "title") != string(after, "title"):
        changes.append(f"changed the title from “{string(before, 'title')}”")
    if string(before, "description") != string(after, "description"):
        changes.append("changed the description")
    if string(before, "destination", "branch", "name") != string(after, "destination", "branch", "name"):
        changes.append(f"changed the destination to {string(after, 'destination', 'branch', 'name')}")
    return ", ".join(changes) or "updated the pull request"


_ISSUE_FACTS = {
    "kind": "Kind", "priority": "Priority", "milestone": "Milestone", "version": "Version",
    "component": "Component", "votes": "Votes", "watches": "Watchers",
}  # fmt: skip


def issue(document: JsonObject) -> Issue:
    """The issue of a document."""
    data, people = get(document, "issue"), people_in(document)
    facts = [
        (label, string(data, key, "name") or string(data, key))
        for key, label in _ISSUE_FACTS.items()
        if string(data, key, "name") or string(data, key)
    ]
    if get(data, "assignee"):
        facts.insert(0, ("Assignee", person(data, "assignee")))
    return Issue(
        number(data, "id") or 0,
        string(data, "title"),
        string(data, "state"),
        person(data, "reporter"),
        string(data, "created_on"),
        string(data, "updated_on"),
        text_of(data, people, "content"),
        facts,
        threads([one for one in objects(document, "comments") if _says_something(one)], people),
        [_change(one, people) for one in objects(document, "changes")],
        [
            pointer(get(one, "_content"), string(one, "name")) or Pointer(string(one, "name"))
            for one in objects(document, "attachments")
        ],
        lacking(document, "comments", "changes", "attachments"),
    )


def _says_something(comment: JsonObject) -> bool:
    """Bitbucket keeps an empty comment beside each change of an issue."""
    return bool(string(comment, "content", "raw").strip()) or get(comment, "deleted") is True


def _change(one: JsonObject, people: People) -> Event:
    changes = get(one, "changes")
    words = [
        f"changed {name} from {string(change, 'old') or 'nothing'} to {string(change, 'new') or 'nothing'}"
        for name, change in (changes.items() if isinstance(changes, dict) else ())
    ]
    return Event(
        string(one, "created_on"), person(one, "user"), ", ".join(words) or "changed the issue",
        text_of(one, people, "message"),
    )  # fmt: skip


def commit_remarks(document: JsonObject) -> CommitRemarks:
    """What a document says about a commit."""
    people = people_in(document)
    return CommitRemarks(
        string(document, "commit"),
        threads(get(document, "comments"), people),
        statuses(get(document, "statuses")),
        participants(get(document, "participants")),
        objects(document, "reports"),
        lacking(document),
    )


def snippet(document: JsonObject) -> Snippet:
    """The snippet of a document."""
    data, files = get(document, "snippet"), get(document, "files")
    return Snippet(
        string(data, "id"),
        string(data, "title") or "Untitled snippet",
        person(data, "owner") if get(data, "owner") else person(data, "creator"),
        string(data, "created_on"),
        string(data, "updated_on"),
        [
            pointer(one, str(name)) or Pointer(str(name))
            for name, one in (files.items() if isinstance(files, dict) else ())
        ],
        threads(get(document, "comments"), people_in(document)),
        lacking(document, "files", "comments"),
    )


def repository_facts(document: Json) -> tuple[str, Text, list[tuple[str, str]]]:
    """A repository's (or workspace's) name, its description, and its properties by name."""
    facts = [
        ("Project", string(document, "project", "name")),
        ("Main branch", string(document, "mainbranch", "name")),
        ("Language", string(document, "language")),
        ("Fork of", string(document, "parent", "full_name")),
        ("Website", string(document, "website")),
        ("Created", string(document, "created_on")[:10]),
    ]
    private = get(document, "is_private")
    if isinstance(private, bool):
        facts.insert(1, ("Visibility", "private" if private else "public"))
    return string(document, "name"), Text(string(document, "description")), [one for one in facts if one[1]]


def created(data: Json) -> str:
    """When a thing was made."""
    return string(data, "created_on")
