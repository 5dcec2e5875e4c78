"""Jobs that become due while a job of their kind runs, with the real scheduler and a clock that the test
moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo

import apscheduler.schedulers.base
import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from mirror.config import Cron, Every, Trigger
from mirror.daemon.queue import LocalQueue
from mirror.daemon.schedule import Job as ScheduledJob
from mirror.model import EVERYTHING
from mirror.model.queue import Job as Due
from tests.clock import FakeClock

START = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Times:
    """The time of day; only the test moves it."""

    now = START


class _Datetime(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return Times.now.astimezone(tz)


class Job:
    """Work that takes this long by the test's clock."""

    def __init__(self, name: str, takes: timedelta, turn: asyncio.Lock, log: list[tuple[str, float]]) -> None:
        self.name, self.takes, self.log = name, takes, log
        self.ends: datetime | None = None
        self.queue = LocalQueue(self.work, FakeClock(), lambda _: turn)

    def due(self) -> None:
        self.queue.put(Due("backup", self.name), after=0)

    async def work(self, _: Due) -> None:
        self.log.append((self.name, (Times.now - START) / HOUR))
        self.ends = Times.now + self.takes
        while Times.now < self.ends:
            await asyncio.sleep(0)
        self.ends = None


class Day:
    """The scheduler and its time."""

    def __init__(self) -> None:
        self.scheduler = AsyncIOScheduler(timezone=UTC)
        self.scheduler.start()

    def add(self, trigger: Trigger, job: Job) -> None:
        async def due() -> None:
            job.due()

        made = ScheduledJob("backup", EVERYTHING, trigger).scheduler_trigger(Times.now)
        self.scheduler.add_job(due, made, coalesce=True, misfire_grace_time=None)

    async def goes_on(self, until: timedelta) -> None:
        while Times.now < START + until:
            self.scheduler.wakeup()
            for _ in range(20):
                await asyncio.sleep(0)
            Times.now += timedelta(minutes=10)


@pytest.fixture
async def day(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Day]:
    Times.now = START
    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", _Datetime)
    made = Day()
    yield made
    made.scheduler.shutdown(wait=False)
    await asyncio.sleep(0)


async def test_a_run_that_outlasts_its_interval_is_followed_by_the_next_at_once(day: Day) -> None:
    log: list[tuple[str, float]] = []
    job = Job("backup", 5 * HOUR, asyncio.Lock(), log)
    day.add(Every(4 * HOUR), job)
    await day.goes_on(21 * HOUR)
    began = [at for _, at in log]
    assert began == pytest.approx([0, 5, 10, 15, 20], abs=0.6)
    await job.queue.stop()


async def test_what_was_due_several_times_runs_once(day: Day) -> None:
    log: list[tuple[str, float]] = []
    job = Job("backup", 9 * HOUR, asyncio.Lock(), log)
    day.add(Cron("0 0-6/2 * * *"), job)  # at 0, 2, 4 and 6
    await day.goes_on(23 * HOUR)
    assert [at for _, at in log] == pytest.approx([0, 9], abs=0.4)
    await job.queue.stop()


async def test_what_waits_for_its_turn_runs_once(day: Day) -> None:
    """A prune runs; all backups that become due meanwhile are one backup."""
    log: list[tuple[str, float]] = []
    turn = asyncio.Lock()
    prune, job = Job("prune", 7 * HOUR, turn, log), Job("backup", HOUR, turn, log)
    day.add(Cron("0 0 * * *"), prune)
    day.add(Cron("0 1-5/2 * * *"), job)
    await day.goes_on(20 * HOUR)
    assert [name for name, _ in log] == ["prune", "backup"]
    assert [at for _, at in log] == pytest.approx([0, 7], abs=0.6)
    await prune.queue.stop()
    await job.queue.stop()


async def test_a_lane_of_its_own_runs_beside_the_others(day: Day) -> None:
    log: list[tuple[str, float]] = []
    verify = Job("verify", 10 * HOUR, asyncio.Lock(), log)
    job = Job("backup", HOUR, asyncio.Lock(), log)
    day.add(Cron("0 0 * * *"), verify)
    day.add(Every(4 * HOUR), job)
    await day.goes_on(9 * HOUR)
    assert sorted(log) == [("backup", 0), ("backup", 4), ("backup", 8), ("verify", 0)]
    await verify.queue.stop()
    await job.queue.stop()


async def test_a_stopped_queue_ends_its_work_and_runs_nothing_more() -> None:
    seen: list[str] = []

    async def work(_: Due) -> None:
        seen.append("began")
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("ended")

    queue = LocalQueue(work, FakeClock())
    queue.put(Due("backup", "backup"), after=0)
    await asyncio.sleep(0)
    queue.put(Due("backup", "backup"), after=0)
    await queue.stop()
    queue.put(Due("backup", "backup"), after=0)
    await asyncio.sleep(0)
    assert seen == ["began", "ended"]
