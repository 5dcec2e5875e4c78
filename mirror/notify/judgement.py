"""Whether there is something to tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from mirror.notify.conditions import Event, Report
from mirror.notify.memory import Remembered, Topic, after

# What is still not well is told again so long after the last notice about it, a little earlier at need: a
# daily run does not end at the same minute every day.
REMIND_AFTER = timedelta(hours=24)
RUNS_VARY = timedelta(hours=1)


@dataclass(frozen=True)
class Verdict:
    """What there is to tell about one topic: something `new`, something that is `still` not well, that all is
    `over`, or `nothing`.

    `conditions` are the present ones, or those that are over: first those that nobody was told about, then
    the most important. `told` is what to remember once people have been told; `untold`, where that fails.
    """

    topic: str
    kind: Literal["new", "still", "over", "nothing"]
    conditions: tuple[Remembered, ...]
    source: str
    told: Topic
    untold: Topic


def judge(report: Report, before: Topic, *, now: datetime, on: Iterable[Event]) -> Verdict:
    """Compare a report with what people were told `before`; `on` are the events that they want to be told."""
    wanted = frozenset(on)
    chosen = tuple(one for one in report.conditions if one.event in wanted)
    untold = after(before, replace(report, conditions=chosen), now)
    present = sorted(
        untold.conditions.values(),
        key=lambda one: (one.told is not None, one.condition.rank, one.condition.key),
    )
    told = Topic(
        {one.condition.key: replace(one, told=one.told or now) for one in present}, now, report.source
    )
    was = [one for one in before.conditions.values() if one.told is not None and one.condition.repeats]
    kind: Literal["new", "still", "over", "nothing"] = "nothing"
    if any(one.told is None for one in present):
        kind = "new"
    elif any(one.condition.repeats for one in present):
        kind = "still" if _is_due(before.noticed, now) else "nothing"
    elif was and Event.RECOVERY in wanted:
        kind, present, untold = "over", was, replace(before, is_over=True)
    if kind == "nothing":
        told = untold
    return Verdict(report.topic, kind, tuple(present), report.source, told, untold)


def _is_due(noticed: datetime | None, now: datetime) -> bool:
    """Whether to tell again. A notice in the future was sent by a wrong clock."""
    return noticed is None or now - noticed >= REMIND_AFTER - RUNS_VARY or noticed - now > RUNS_VARY
