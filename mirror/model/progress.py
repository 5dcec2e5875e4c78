"""Gathers the progress reports of one run into the picture that a terminal and a page draw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mirror.model.estimate import Estimate, Known, Underway, raw_estimate
from mirror.model.live import Activity, Picture
from mirror.model.ports import DONE, LATER


@dataclass
class _Subject:
    """A subject that is worked on: since when, and since when at this stage (monotonic seconds)."""

    since: float
    stage: str
    stage_since: float
    done: int | None = None
    total: int | None = None

    def underway(self, cost: float, now: float) -> Underway:
        """The subject as the estimate takes it: a stage that takes most of its time stands for all of it."""
        whole, stage = now - self.since, now - self.stage_since
        if not self.total or self.done is None or stage < whole / 2:
            return Underway(cost, whole)
        return Underway(cost, stage, min(1.0, max(0, self.done) / self.total))


class Gatherer:
    """A Progress that remembers everything it is told. Any thread may report, and any may look.

    `clock` returns monotonic seconds; the run begins when the gatherer is made.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._costs: dict[str, float] = {}
        self._cost_total = self._cost_ended = 0.0
        self._is_total_known = False
        self._ended: set[str] = set()
        self._later: set[str] = set()  # those whose first turn is over
        self._active: dict[str, _Subject] = {}
        self._objects = self._bytes = self._requests = self._due = 0
        self._left: int | None = None
        self._limit: int | None = None
        self._waits: dict[str, float] = {}  # by subject, until when
        self._waiting_since: float | None = None
        self._waited = 0.0
        self._estimate = Estimate()

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """See Progress."""
        now = self._clock()
        with self._lock:
            if stage in (DONE, LATER):
                self._active.pop(subject, None)
                self._end_wait(subject, now)
                self._end(subject, stage)
                return
            found = self._active.get(subject)
            if found is None:
                found = self._active[subject] = _Subject(now, stage, now)
            elif found.stage != stage:
                found.stage, found.stage_since = stage, now
            found.done, found.total = done, total

    def _end(self, subject: str, stage: str) -> None:
        """Count an expected subject: its cost once, when its first turn is over."""
        if subject not in self._costs or subject in self._ended:
            return
        if subject not in self._later:
            self._cost_ended += self._costs[subject]
        (self._ended if stage == DONE else self._later).add(subject)

    def expect(self, costs: Mapping[str, float], *, more: bool = False) -> None:
        """See Progress."""
        with self._lock:
            for subject, cost in costs.items():
                if subject not in self._ended and subject not in self._later:
                    self._cost_total += cost - self._costs.get(subject, 0.0)
                    self._costs[subject] = cost
            self._is_total_known = not more

    def received(self, objects: int, size: int) -> None:
        """See Progress."""
        with self._lock:
            self._objects += objects
            self._bytes += size

    def requested(self, requests: int, left: int | None, limit: int | None) -> None:
        """See Progress."""
        with self._lock:
            self._requests += requests
            self._due = max(0, self._due - requests)
            self._left, self._limit = left, limit

    def due(self, requests: int) -> None:
        """See Progress."""
        with self._lock:
            self._due = max(0, requests)

    def wait(self, subject: str, seconds: float) -> None:
        """See Progress."""
        now = self._clock()
        with self._lock:
            self._waits[subject] = now + seconds
            if self._waiting_since is None:
                self._waiting_since = now

    def _end_wait(self, subject: str, now: float) -> None:
        if self._waits.pop(subject, None) is not None and not self._waits and self._waiting_since is not None:
            self._waited += now - self._waiting_since
            self._waiting_since = None

    def picture(self) -> Picture:
        """What is known now."""
        now = self._clock()
        with self._lock:
            waiting = max((until - now for until in self._waits.values()), default=None)
            total = len(self._costs) if self._is_total_known else None
            raw = raw_estimate(self._known(now, max(0.0, waiting or 0.0))) if total else None
            return Picture(
                activities=tuple(
                    Activity(subject, one.stage, one.done, one.total) for subject, one in self._active.items()
                ),
                done=len(self._ended),
                total=total,
                objects=self._objects,
                bytes=self._bytes,
                requests=self._requests,
                requests_left=self._left,
                seconds=now - self._began,
                seconds_left=self._estimate.update(now, raw),
                waiting=None if waiting is None else max(0.0, waiting),
            )

    def _known(self, now: float, waiting: float) -> Known:
        waited = self._waited + (now - self._waiting_since if self._waiting_since is not None else 0.0)
        underway = [
            one.underway(self._costs[subject], now)
            for subject, one in self._active.items()
            if subject in self._costs and subject not in self._ended and subject not in self._later
        ]
        return Known(
            seconds=max(0.0, now - self._began - waited),
            done=self._cost_ended,
            queued=max(0.0, self._cost_total - self._cost_ended - sum(one.cost for one in underway)),
            underway=underway,
            requests=self._requests,
            due=self._due,
            left=self._left,
            limit=self._limit,
            waiting=waiting,
        )
