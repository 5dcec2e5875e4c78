"""The text of a notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirror.model import time_text
from mirror.notify.conditions import Event
from mirror.notify.judgement import Verdict
from mirror.notify.memory import Remembered

# How many conditions a notice describes; the others are counted.
LINES_MAX = 3
# A zero-width sign after each @: chat services would call out to people whom a hostile name mentions.
_NO_MENTION = "@\u2060"
_HEADLINES = {
    Event.DAMAGE: "{topic} found damage",
    Event.BRAKE: "the mass-loss brake is tripped",
    Event.FAILURE: "{topic} failed",
    Event.OVERDUE: "a job is overdue",
    Event.EXPIRING: "a credential expires",
}
_ORDER = tuple(_HEADLINES)


@dataclass(frozen=True)
class Message:
    """A notice: plain text of one title and a few lines."""

    title: str
    body: str
    kind: Literal["failure", "warning", "success"]


def compose(verdicts: Sequence[Verdict], *, host: str, store: Path) -> Message | None:
    """One message about all verdicts that report something; None where none does."""
    bad = [one for one in verdicts if one.kind in ("new", "still")]
    over = [one for one in verdicts if one.kind == "over"]
    if not bad and not over:
        return None
    lines = [_line(one) for one in _first(bad)]
    count = sum(len(one.conditions) for one in bad)
    if count > len(lines):
        lines.append(f"and {count - len(lines)} more")
    lines += [
        f"{one.topic} is well again: all that was reported ({len(one.conditions)}) is over" for one in over
    ]
    lines += ["", *(one.source for one in (*bad, *over) if one.source)]
    lines += [f"Store {store} on {host}", f"Look with: mirror status --store {store}"]
    title = f"Mirror on {host}: {_headline(bad) if bad else f'{over[0].topic} is well again'}"
    body = "\n".join(lines).replace("@", _NO_MENTION)
    return Message(title, body, _kind(bad))


def _first(verdicts: Sequence[Verdict]) -> list[Remembered]:
    """The conditions that are described: first those that are new, then the most important."""
    every = [one for verdict in verdicts for one in verdict.conditions]
    every.sort(key=lambda one: (one.notified is not None, one.condition.rank))
    return [one for one in every if one.condition.text][:LINES_MAX]


def _line(one: Remembered) -> str:
    since = f" (since {time_text(one.since)})" if one.notified is not None and one.condition.repeats else ""
    return f"- {one.condition.line}{since}"


def _headline(verdicts: Sequence[Verdict]) -> str:
    """The most important event that is new; else the most important one, as one that lasts."""
    new = [one for one in verdicts if one.kind == "new"]
    found = [
        (_ORDER.index(each.condition.event), verdict.topic)
        for verdict in new or verdicts
        for each in verdict.conditions
        if each.notified is None or not new
    ]
    position, topic = min(found)
    text = _HEADLINES[_ORDER[position]].format(topic=topic)
    return text if new else f"still not well: {text}"


def _kind(bad: Sequence[Verdict]) -> Literal["failure", "warning", "success"]:
    events = {each.condition.event for one in bad for each in one.conditions}
    if not events:
        return "success"
    return "failure" if events & {Event.FAILURE, Event.DAMAGE, Event.BRAKE} else "warning"
