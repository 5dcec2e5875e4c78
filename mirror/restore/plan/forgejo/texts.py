"""The texts that a restore writes to a Forgejo: who said what, when and where, and then their own words.

Forgejo makes a link of `#12` and `@ann`, mails whoever has that name, and may close the issue. The numbers
and names here are Bitbucket's; so an invisible sign stands between, except in code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mirror.bitbucket.readable.values import Anchor, Comment, Event, Issue, PullRequest, Task, Text
from mirror.restore.plan.texts import code, day, listed, named, without_mentions

# It has no width, and breaks no word.
_JOINER = "\u2060"
_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`)", re.DOTALL)
_CALL = re.compile(r"(?<![\w/&])[@#!](?=\w)|(?<=\w)[#!](?=\d)")
_TICKS = re.compile("`+")
_EVENTS_MAX = 200


def calm(text: Text) -> str:
    """A text in which nothing but code calls a person, an issue or a pull request."""
    parts = _CODE.split(without_mentions(text))
    return "".join(
        part if index % 2 else _CALL.sub(lambda found: found[0] + _JOINER, part)
        for index, part in enumerate(parts)
    ).strip()


def marker(kind: str, number: int, place: str) -> str:
    """What the text of an issue or pull request of `place` begins with; that of no other begins so."""
    return f"*{kind} {number} of {place} on Bitbucket,"


def comment_marker(identifier: str) -> str:
    """What the text of a comment begins with."""
    return f"*Comment {identifier} by"


def of_issue(issue: Issue, place: str) -> str:
    """The text of an issue."""
    facts = ", ".join(
        f"{name.lower()} {named(value)}" for name, value in [("State", issue.state), *issue.facts]
    )
    head = f"{marker('Issue', issue.number, place)} by {named(issue.author)}, {day(issue.created)}; {facts}.*"
    return _joined(head, calm(issue.content), _history(issue.events))


def of_pull_request(pull: PullRequest, place: str, note: str) -> str:
    """The text of a pull request; `note` says what it has become, and may be empty."""
    lines = [f"{marker('Pull request', pull.number, place)} by {named(pull.author)}, {day(pull.created)}.*"]
    source = f"{code(pull.source.branch)} at {pull.source.hash[:12] or 'an unknown commit'}"
    if pull.source.repository != pull.destination.repository:
        source += f" in {named(pull.source.repository) if pull.source.repository else 'a fork that is gone'}"
    state = pull.state.lower()
    state += f" as {pull.merge_commit[:12]}" if pull.merge_commit else ""
    state += f" by {named(pull.closed_by)}" if pull.closed_by else ""
    lines.append(f"*From {source} to {code(pull.destination.branch)}; {state}.*")
    lines += [f"*{line}*" for line in _opinions(pull)]
    lines += [f"*{note}*"] if note else []
    reason = f"Reason: {calm(pull.reason)}" if pull.reason else ""
    return _joined(
        "\n".join(lines), calm(pull.description), reason, _tasks(pull.open_tasks), _history(pull.events)
    )


def _opinions(pull: PullRequest) -> Iterator[str]:
    for state, words in (("approved", "Approved by"), ("changes_requested", "Changes requested by")):
        if names := [one.name for one in pull.participants if one.state == state]:
            yield f"{words} {listed(names)}."
    if waiting := [one.name for one in pull.participants if one.is_reviewer and not one.state]:
        yield f"Not reviewed by {listed(waiting)}."


def of_comment(comment: Comment, lines: Sequence[str], answered: Comment | None) -> str:
    """The text of a comment: `lines` are the code that it is about, `answered` what it replies to."""
    head = f"{comment_marker(comment.id)} {named(comment.author)}, {day(comment.when)}"
    head += f", to comment {answered.id} of {named(answered.author)}" if answered is not None else ""
    head += _place(comment.anchor)
    if comment.resolver:
        head += f"; resolved by {named(comment.resolver)}, {day(comment.resolved)}"
    words = "*It was deleted.*" if comment.is_deleted else calm(comment.text)
    return _joined(f"{head}.*", _fenced(lines), words, _tasks(comment.tasks))


def _place(anchor: Anchor | None) -> str:
    if anchor is None:
        return ""
    number = anchor.new if anchor.new is not None else anchor.old
    if number is None:
        return f", on {code(anchor.path)}"
    several = f"s {anchor.first} to" if anchor.first is not None and anchor.first != number else ""
    side = "" if anchor.new is not None else " before the change"
    outdated = ", as it was then" if anchor.is_outdated else ""
    return f", on line{several} {number} of {code(anchor.path)}{side}{outdated}"


def _fenced(lines: Sequence[str]) -> str:
    """Lines of code in a fence that none of them can end."""
    if not lines:
        return ""
    longest = max((len(found) for line in lines for found in _TICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])


def _tasks(tasks: Sequence[Task]) -> str:
    return "\n".join(
        f"- [{'x' if one.is_done else ' '}] {' '.join(calm(one.text).split())}"
        f" *({named(one.author)}, {day(one.when)})*"
        for one in tasks
    )


def _history(events: Sequence[Event]) -> str:
    """What happened, folded away."""
    lines = []
    for one in events[:_EVENTS_MAX]:
        said = f": {' '.join(calm(one.text).split())}" if one.text else ""
        lines.append(f"- {day(one.when)} {named(one.who)} {named(one.what)}{said}")
    if len(events) > _EVENTS_MAX:
        lines.append(f"- and {len(events) - _EVENTS_MAX} more, which the backup has")
    return "\n".join(["<details><summary>History</summary>", "", *lines, "", "</details>"]) if lines else ""


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def in_order(threads: Sequence[Comment]) -> list[tuple[Comment, Comment | None]]:
    """Every comment with what it replies to, the oldest first."""
    found: list[tuple[Comment, Comment | None]] = []
    waiting: list[tuple[Comment, Comment | None]] = [(one, None) for one in threads]
    while waiting:
        one, above = waiting.pop()
        found.append((one, above))
        waiting += [(reply, one) for reply in one.replies]
    return sorted(found, key=lambda pair: (pair[0].when, pair[0].id.zfill(20)))
