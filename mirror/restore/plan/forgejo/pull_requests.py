"""Pull requests: open ones as pull requests, all others as issues.

Forgejo's API makes a pull request of two branches that exist, and nothing but a merge makes it a merged one.
So what was merged, declined or superseded comes as a closed issue that says so in a label, and an open one
whose destination is gone, or whose head git does not have, as an open issue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mirror.bitbucket import fields as bitbucket
from mirror.bitbucket.readable.discussions import pull_request as pull_request_of
from mirror.bitbucket.readable.values import PullRequest
from mirror.forgejo import endpoints, fields
from mirror.git.comparison import Comparer
from mirror.restore.plan.forgejo import labels as groups
from mirror.restore.plan.forgejo import texts
from mirror.restore.plan.forgejo.code import CodeLines
from mirror.restore.plan.forgejo.issues import Discussion
from mirror.restore.plan.forgejo.labels import Labels
from mirror.restore.plan.forgejo.target import ForgejoTarget
from mirror.restore.plan.heads import Branches, Ends, NoEnds
from mirror.restore.plan.pull_requests import KIND, numbered, steps_of_branch
from mirror.restore.plan.source import Options, Source, was_gone
from mirror.restore.plan.steps import Call, Find, Loss, Stage, Step, Why

_COMMENTS = "pull request comments"


def steps_of_pull_requests(
    source: Source, target: ForgejoTarget, options: Options, labels: Labels, comparer: Comparer | None
) -> Iterator[Step | Loss]:
    """What makes the pull requests anew. `comparer` reads the code, where there is any.

    Raises StoreDamaged.
    """
    branches = Branches(source, options)
    pairs: set[tuple[str, str]] = set()
    for number, path in numbered(source, "pull-requests"):
        document = source.object(path)
        label = f"pull request {number} of {source.title}"
        if was_gone(document, "pull_request"):
            key = source.key("pull-request", number)
            yield Loss(key, KIND, label, Why.LACKING, "it was deleted upstream")
            continue
        one = _PullRequest(source, target, labels, number, label, pull_request_of(document))
        ends: Ends | NoEnds | None = None
        if bitbucket.is_open(document.get("pull_request")):
            ends = branches.ends(number, document.get("pull_request"))
            if isinstance(ends, Ends) and (ends.source, ends.destination) in pairs:
                ends = NoEnds(Why.SAME, "another open one is of the same two branches")
        if isinstance(ends, NoEnds) and ends.why is Why.CHOSEN:
            yield Loss(one.key, KIND, label, ends.why, ends.detail)
            continue
        if isinstance(ends, Ends):
            pairs.add((ends.source, ends.destination))
        yield from one.steps(ends, comparer)


@dataclass(frozen=True)
class _PullRequest:
    """One pull request."""

    source: Source
    target: ForgejoTarget
    labels: Labels
    number: int
    label: str
    pull: PullRequest

    @property
    def key(self) -> str:
        """The key of the step that makes it."""
        return self.source.key("pull-request", self.number)

    def steps(self, ends: Ends | NoEnds | None, comparer: Comparer | None) -> Iterator[Step | Loss]:
        """What makes it, of its branches; where there are none (`NoEnds`, None: it was closed), an issue."""
        if isinstance(ends, Ends):
            yield from steps_of_branch(self.source, ends, self.key, self.label, Stage.OTHER_REFS)
            yield self._as_pull_request(ends)
        else:
            yield self._as_issue("" if ends is None else ends.detail)
        head = self.source.pins.get(self.number) or self.pull.source.hash
        code = CodeLines(comparer, head, self.pull.destination.hash)
        discussion = Discussion(self.source, self.target, self.key, self.label, _COMMENTS)
        yield from discussion.steps(self.pull.threads, code)
        for child, reason in self.pull.lacking.items():
            yield Loss(f"{self.key}/{child}", KIND, f"{child} of {self.label}", Why.LACKING, reason)

    def _as_pull_request(self, ends: Ends) -> Step:
        pull = self.pull
        body = fields.pull_request(
            pull.title or self.label, self._text(""), head=ends.source, base=ends.destination, labels=[],
            draft=pull.is_draft,
        )  # fmt: skip
        after = (f"{self.key}/branch",) if ends.pushed is not None else ()
        return self._step(
            Call("POST", endpoints.NEW_PULL_REQUEST, self.target.parts, body),
            (self.source.key("branches"), *after),
            Find(endpoints.PULL_REQUESTS, self.target.parts, marker=self._marker()),
        )

    def _as_issue(self, why: str) -> Step:
        pull, is_open = self.pull, bool(why)
        note = f"It comes as an issue: {why}." if why else ""
        given = self.labels.label(groups.PULL_REQUEST, pull.state.lower() or "closed")
        body = fields.issue(pull.title or self.label, self._text(note), labels=given, closed=not is_open)
        return self._step(
            Call("POST", endpoints.NEW_ISSUE, self.target.parts, body),
            tuple(one.step for one in given),
            Find(endpoints.ISSUES, self.target.parts, marker=self._marker()),
        )

    def _step(self, call: Call, after: tuple[str, ...], find: Find) -> Step:
        title = f"{self.label}: {self.pull.title}"
        return Step(
            self.key, KIND, title, call, Stage.PULL_REQUESTS, (self.source.key("repository"), *after), find
        )

    def _marker(self) -> tuple[str, str]:
        return fields.BODY, texts.marker("Pull request", self.number, self.source.snapshot.full_name)

    def _text(self, note: str) -> str:
        return texts.of_pull_request(self.pull, self.source.snapshot.full_name, note)
