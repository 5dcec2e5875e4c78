"""What the running service tells its listeners: the port `mirror.model.live.Live`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mirror.daemon.clustered import Clustered
from mirror.daemon.hooks import Hooks
from mirror.daemon.jobs import Means
from mirror.daemon.overdue import overdue_report
from mirror.daemon.state import State
from mirror.daemon.timetable import Timetable
from mirror.model import Scope
from mirror.model.live import BudgetLeft, HooksState, NextJob, Picture, RunningJob


class ServiceLive:
    """Reads the service's own state; never the store."""

    def __init__(
        self, means: Means, state: State, timetable: Timetable, hooks: Hooks, cluster: Clustered
    ) -> None:
        self._means, self._state, self._timetable, self._hooks = means, state, timetable, hooks
        self._cluster = cluster

    def since(self) -> datetime:
        """When the service started."""
        return self._state.since

    def running(self) -> Sequence[RunningJob]:
        """The jobs that run now."""
        found = []
        for job, since in list(self._state.running.items()):
            kind, scope = Scope.of_job(job)
            progress = self._state.progress.get(job)
            picture = progress.picture() if progress is not None else Picture()
            found.append(RunningJob(kind, scope.only, since, picture))
        return found

    def following(self) -> Sequence[NextJob]:
        """The jobs of the schedule."""
        times, overdue = self._timetable.next_times(), self._overdue()
        return [
            NextJob(job.kind, job.scope.only, times.get(job.name), job.trigger.text, job.name in overdue)
            for job in self._timetable.jobs
        ]

    def budget(self) -> Sequence[BudgetLeft]:
        """The hour's requests of each credential."""
        return self._means.budget.report()

    def hooks(self) -> HooksState | None:
        """What hooks did; None where there are none."""
        return None if self._means.config.hooks is None else self._hooks.state()

    def not_ready(self) -> Sequence[str]:
        """Why the service is not ready; empty where it is."""
        trouble = self._state.trouble
        closed = [] if trouble is None else [f"the listeners failed: {trouble}"]
        apart = [] if self._cluster.trouble is None else [self._cluster.trouble]
        return [*closed, *apart, *self._overdue().values()]

    def _overdue(self) -> dict[str, str]:
        """By job, what is said of it where it is overdue."""
        report = overdue_report(self._timetable.jobs, self._state, self._means.clock.now())
        return {one.key: one.text for one in report.conditions}
