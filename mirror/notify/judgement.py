"""Whether a report needs a notice. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from mirror.notify.conditions import Event, Report
from mirror.notify.memory import Remembered, Topic, after

# A condition that lasts has its next notice so long after the last one, a little earlier at need: a
# daily run does not end at the same minute every day.
REMIND_AFTER = timedelta(hours=24)
RUNS_VARY = timedelta(hours=1)


@dataclass(frozen=True)
class Verdict:
    """What a notice says about one topic: something is `new`, something is `still` not well, all is `over`,
    or `nothing`.

    `conditions` are the present ones, or those that are over: first those without a notice so far, then the
    most important. `if_sent` is what to remember once the notice is sent; `if_not_sent`, where that fails.
    """

    topic: str
    kind: Literal["new", "still", "over", "nothing"]
    conditions: tuple[Remembered, ...]
    source: str
    if_sent: Topic
    if_not_sent: Topic


def judge(report: Report, before: Topic, *, now: datetime, on: Iterable[Event]) -> Verdict:
    """Compare a report with the notices `before`; `on` are the events that have notices."""
    wanted = frozenset(on)
    chosen = tuple(one for one in report.conditions if one.event in wanted)
    if_not_sent = after(before, replace(report, conditions=chosen), now)
    present = sorted(
        if_not_sent.conditions.values(),
        key=lambda one: (one.notified is not None, one.condition.rank, one.condition.key),
    )
    if_sent = Topic(
        {one.condition.key: replace(one, notified=one.notified or now) for one in present}, now, report.source
    )
    was = [one for one in before.conditions.values() if one.notified is not None and one.condition.repeats]
    kind: Literal["new", "still", "over", "nothing"] = "nothing"
    if any(one.notified is None for one in present):
        kind = "new"
    elif any(one.condition.repeats for one in present):
        kind = "still" if _is_due(before.noticed, now) else "nothing"
    elif was and Event.RECOVERY in wanted:
        kind, present, if_not_sent = "over", was, replace(before, is_over=True)
    if kind == "nothing":
        if_sent = if_not_sent
    return Verdict(report.topic, kind, tuple(present), report.source, if_sent, if_not_sent)


def _is_due(noticed: datetime | None, now: datetime) -> bool:
    """Whether the next notice is due. A notice in the future was sent by a wrong clock."""
    return noticed is None or now - noticed >= REMIND_AFTER - RUNS_VARY or noticed - now > RUNS_VARY
