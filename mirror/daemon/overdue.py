"""Which jobs are overdue: none ended for two intervals of its schedule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from mirror.config import After, Every
from mirror.daemon.schedule import Job
from mirror.daemon.state import State
from mirror.model import time_text
from mirror.notify.conditions import Condition, Event, Report


def overdue_report(jobs: Iterable[Job], state: State, now: datetime) -> Report:
    """The jobs that are overdue at `now`.

    It counts from when the daemon began to keep the schedule: what it missed before, it runs at once. A
    first job, however long, is not overdue.
    """
    conditions = []
    jobs = tuple(jobs)
    for job in jobs:
        last, begun = state.last_ended(job.kind, job.scope), state.running.get(job.name)
        if begun is not None and last is None:
            continue
        base = max(one for one in (state.kept, last, begun) if one is not None)
        limit = _limit(base, job, jobs)
        if limit is None or now <= limit:
            continue
        text = f"{job.name} is overdue: none has ended since {time_text(last or state.kept)}"
        if begun is not None:
            text += f", one has been running since {time_text(begun)}"
        conditions.append(Condition(job.name, "", Event.OVERDUE, 1, text))
    return Report("schedule", tuple(conditions))


def _limit(base: datetime, job: Job, jobs: Sequence[Job]) -> datetime | None:
    """Two intervals after `base`: of a job that follows others, of the one of these that runs least often."""
    if not isinstance(job.trigger, After):
        return two_intervals_after(base, job)
    followed = [two_intervals_after(base, one) for one in jobs if one.kind == job.trigger.kind]
    return max((one for one in followed if one is not None), default=None)


def two_intervals_after(moment: datetime, job: Job) -> datetime | None:
    """The second time after `moment` at which a job is due; None where there is none."""
    first = job.due_after(moment)
    if first is None or isinstance(job.trigger, Every):
        return None if first is None else job.due_after(first)
    return job.due_after(first + timedelta(seconds=1))
