"""The texts of a document that people look for, each with what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mirror.bitbucket.readable import discussions
from mirror.bitbucket.readable.values import Comment, Issue, Pointer, PullRequest, Task
from mirror.model import Json

PULL_REQUESTS, ISSUES, COMMENTS, FILES = "pull-requests", "issues", "comments", "files"


@dataclass(frozen=True)
class Passage:
    """A text. `what` says for people what it is, and is unique in its document."""

    kind: str
    what: str
    text: str


def passages(path: str, document: Json) -> Iterator[Passage]:
    """The texts of the document at `path`."""
    folder = path.partition("/")[0]
    if path == "downloads.json" and isinstance(document, list):
        for one in document:
            name = one.get("name") if isinstance(one, dict) else None
            if isinstance(name, str):
                yield Passage(FILES, f"download {name}", name)
    if not isinstance(document, dict):
        return
    match folder:
        case "pull-requests":
            yield from _of_pull_request(discussions.pull_request(document))
        case "issues":
            yield from _of_issue(discussions.issue(document))
        case "commit-comments":
            remarks = discussions.commit_remarks(document)
            yield from _of_comments(f"commit {remarks.commit[:12]}", remarks.comments)
        case "snippets":
            snippet = discussions.snippet(document)
            what = f"snippet {snippet.id}"
            yield Passage(FILES, f"{what}, title", snippet.title)
            yield from _of_files(what, snippet.files)
            yield from _of_comments(what, snippet.comments)


def is_searched(path: str) -> bool:
    """Whether the document at `path` may have such texts."""
    return path == "downloads.json" or path.startswith(
        ("pull-requests/", "issues/", "commit-comments/", "snippets/")
    )


def _of_pull_request(one: PullRequest) -> Iterator[Passage]:
    what = f"pull request {one.number}"
    texts = {
        "title": one.title, "description": one.description.raw, "reason": one.reason.raw,
        "source branch": one.source.branch, "destination branch": one.destination.branch,
    }  # fmt: skip
    for name, text in texts.items():
        yield Passage(PULL_REQUESTS, f"{what}, {name}", text)
    yield from _of_comments(what, one.threads)
    yield from _of_tasks(what, one.open_tasks)


def _of_issue(one: Issue) -> Iterator[Passage]:
    what = f"issue {one.number}"
    yield Passage(ISSUES, f"{what}, title", one.title)
    yield Passage(ISSUES, f"{what}, description", one.content.raw)
    yield from _of_comments(what, one.comments)
    for number, event in enumerate(one.events, 1):
        yield Passage(COMMENTS, f"{what}, change {number} by {event.who}", event.text.raw)
    yield from _of_files(what, one.attachments)


def _of_comments(what: str, several: Iterable[Comment]) -> Iterator[Passage]:
    waiting = list(several)
    while waiting:
        one = waiting.pop()
        yield Passage(COMMENTS, f"{what}, comment {one.id} by {one.author}", one.text.raw)
        yield from _of_tasks(what, one.tasks)
        waiting += one.replies


def _of_tasks(what: str, several: Iterable[Task]) -> Iterator[Passage]:
    for one in several:
        yield Passage(COMMENTS, f"{what}, task {one.id} by {one.author}", one.text.raw)


def _of_files(what: str, several: Iterable[Pointer]) -> Iterator[Passage]:
    for one in several:
        yield Passage(FILES, f"{what}, file {one.name}", one.name)
