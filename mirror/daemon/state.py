"""What the service remembers of its jobs while it lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from mirror.errors import NoStore
from mirror.model import Scope, time_from_text
from mirror.model.progress import Gatherer
from mirror.model.scope import covering
from mirror.store.reading.reader import Store


@dataclass
class State:
    """By job (`Job.name`): since when one runs and how far it is, when the last one began and ended.

    `since` is when the service started, and `kept` since when it has kept the schedule without a gap: a
    machine that slept has one. `trouble` is why the listeners are closed where they should be open.
    `store_id` is the id of the store. Threads of the page read it while jobs begin and end.
    """

    since: datetime
    kept: datetime
    store_id: str = ""
    trouble: str | None = None
    running: dict[str, datetime] = field(default_factory=dict)
    progress: dict[str, Gatherer] = field(default_factory=dict)
    began: dict[str, datetime] = field(default_factory=dict)
    ended: dict[str, datetime] = field(default_factory=dict)

    def recall(self, store: Path) -> None:
        """Add what the run records of the store say: when the last run of each job that was not stopped
        began. What another store said is forgotten."""
        try:
            with Store.open(store) as opened:
                began, store_id = opened.history().began, opened.id
        except NoStore:
            return
        if store_id != self.store_id:
            self.began, self.ended, self.store_id = {}, {}, store_id
        recorded = {job: time_from_text(when) for job, when in began.items()}
        self.began = _newest(recorded, self.began)
        self.ended = _newest(recorded, self.ended)

    def last_began(self, kind: str, scope: Scope) -> datetime | None:
        """When a run last began that had all of this scope."""
        return max(covering(dict(self.began), kind, scope), default=None)

    def last_ended(self, kind: str, scope: Scope) -> datetime | None:
        """When a run last ended that had all of this scope."""
        return max(covering(dict(self.ended), kind, scope), default=None)

    def has_ended_since(self, kind: str, moment: datetime | None) -> bool:
        """Whether a run of this kind, of any scope, ended after `moment`; None: ever."""
        ended = [when for job, when in self.ended.items() if Scope.of_job(job)[0] == kind]
        return any(moment is None or when > moment for when in ended)

    def shift(self, by: timedelta) -> None:
        """The clock was set: what was noted under it is so much later."""
        self.since, self.kept = self.since + by, self.kept + by
        for times in (self.running, self.began, self.ended):
            times.update({job: when + by for job, when in times.items()})


def _newest(first: Mapping[str, datetime], second: Mapping[str, datetime]) -> dict[str, datetime]:
    """The later of two times of each job."""
    return {
        job: max(when for when in (first.get(job), second.get(job)) if when is not None)
        for job in first.keys() | second.keys()
    }
