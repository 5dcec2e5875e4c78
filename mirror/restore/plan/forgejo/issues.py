"""Issues, with their comments and attachments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mirror.bitbucket.readable.discussions import issue as issue_of
from mirror.bitbucket.readable.parts import get, string
from mirror.bitbucket.readable.values import Comment, Issue
from mirror.forgejo import endpoints, fields
from mirror.model import JsonObject
from mirror.restore.plan.forgejo import labels as groups
from mirror.restore.plan.forgejo import texts
from mirror.restore.plan.forgejo.code import CodeLines
from mirror.restore.plan.forgejo.labels import Labels
from mirror.restore.plan.forgejo.target import ForgejoTarget
from mirror.restore.plan.pull_requests import numbered
from mirror.restore.plan.source import Options, Source, was_gone
from mirror.restore.plan.steps import Call, Find, Loss, Made, Retry, Stage, Step, Upload, Why

KIND, _COMMENTS, _ATTACHMENTS = "issues", "issue comments", "issue attachments"
_OPEN = frozenset({"new", "open", "submitted", "on hold"})
_NOBODY = "the assignee is not at the target"


def steps_of_issues(
    source: Source, target: ForgejoTarget, options: Options, labels: Labels
) -> Iterator[Step | Loss]:
    """What makes the issues anew. Raises StoreDamaged."""
    for index, path in numbered(source, "issues"):
        document = source.object(path)
        if was_gone(document, "issue"):
            label = f"issue {index} of {source.title}"
            yield Loss(source.key("issue", index), KIND, label, Why.LACKING, "it was deleted upstream")
            continue
        yield from _issue(source, target, options, labels, document)


def _issue(
    source: Source, target: ForgejoTarget, options: Options, labels: Labels, document: JsonObject
) -> Iterator[Step | Loss]:
    data, issue = get(document, "issue"), issue_of(document)
    key, label = source.key("issue", issue.number), f"issue {issue.number} of {source.title}"
    given = labels.label(groups.STATE, issue.state)
    given += labels.label(groups.KIND, string(data, "kind"))
    given += labels.label(groups.PRIORITY, string(data, "priority"))
    given += labels.label(groups.COMPONENT, string(data, "component", "name"))
    given += labels.label(groups.VERSION, string(data, "version", "name"))
    assignee = options.people.get(string(data, "assignee", "uuid"))
    place = source.snapshot.full_name
    milestone = labels.milestone(string(data, "milestone", "name"))
    body = fields.issue(
        issue.title or label, texts.of_issue(issue, place), labels=given,
        closed=issue.state not in _OPEN, milestone=milestone,
        assignees=[assignee] if assignee else [],
    )  # fmt: skip
    begins = (fields.BODY, texts.marker("Issue", issue.number, place))
    yield Step(
        key, KIND, f"{label}: {issue.title}",
        Call("POST", endpoints.NEW_ISSUE, target.parts, body), Stage.PULL_REQUESTS,
        (source.key("repository"), *(one.step for one in (*given, milestone) if one is not None)),
        Find(endpoints.ISSUES, target.parts, marker=begins),
        retries=(Retry(422, "assignees", _NOBODY),) if assignee else (),
    )  # fmt: skip
    if get(data, "assignee") and not assignee:
        text = string(data, "assignee", "display_name")
        yield Loss(f"{key}/assignee", KIND, f"the assignee of {label}", Why.PERSON, text)
    yield from Discussion(source, target, key, label, _COMMENTS).steps(issue.comments, None)
    yield from _attachments(source, target, key, label, issue)
    for child, reason in issue.lacking.items():
        yield Loss(f"{key}/{child}", KIND, f"{child} of {label}", Why.LACKING, reason)


def _attachments(
    source: Source, target: ForgejoTarget, key: str, label: str, issue: Issue
) -> Iterator[Step | Loss]:
    parts: dict[str, str | int | Made] = {**target.parts, "index": Made(key, fields.NUMBER)}
    for index, one in enumerate(issue.attachments):
        its_key, its_label = f"{key}/attachment/{index}", f"the attachment {one.name} of {label}"
        if one.sha256 is None or source.stored(one.sha256) is None:
            yield Loss(its_key, _ATTACHMENTS, its_label, Why.LACKING)
            continue
        upload = Upload(fields.ATTACHMENT, one.name, one.sha256)
        yield Step(
            its_key, _ATTACHMENTS, its_label,
            Call("POST", endpoints.ATTACHMENTS, parts, files=(upload,)), Stage.COMMENTS, (key,),
            Find(endpoints.ATTACHMENTS, parts, {fields.NAME: one.name}),
        )  # fmt: skip


@dataclass(frozen=True)
class Discussion:
    """The comments on one issue or pull request; `key` is the step that makes it, `kind` theirs."""

    source: Source
    target: ForgejoTarget
    key: str
    label: str
    kind: str

    def steps(self, threads: Sequence[Comment], code: CodeLines | None) -> Iterator[Step | Loss]:
        """What makes the comments anew, the oldest first; `code` has the lines that they are about. A deleted
        one without replies has nothing to say, and is left out."""
        parts: dict[str, str | int | Made] = {**self.target.parts, "index": Made(self.key, fields.NUMBER)}
        unpublished = 0
        for comment, answered in texts.in_order(threads):
            if comment.is_pending:
                unpublished += 1
            elif not comment.is_deleted or comment.replies:
                lines = code.about(comment.anchor) if code is not None else ()
                begins = (fields.BODY, texts.comment_marker(comment.id))
                body = fields.comment(texts.of_comment(comment, lines, answered))
                yield Step(
                    f"{self.key}/comment/{comment.id}", self.kind, f"comment {comment.id} on {self.label}",
                    Call("POST", endpoints.COMMENTS, parts, body), Stage.COMMENTS, (self.key,),
                    Find(endpoints.COMMENTS, parts, marker=begins),
                )  # fmt: skip
        if unpublished:
            label = f"{unpublished} unpublished comments on {self.label}"
            yield Loss(f"{self.key}/drafts", self.kind, label, Why.UNPUBLISHED)
