"""The queue: one job of each subject runs, and one waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mirror.daemon.queue import LocalQueue
from mirror.model.queue import Job
from tests.clock import HeldClock


class Work:
    """Notes each job that begins, and lets it go on when it is told to."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.ended: list[Job] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, job: Job) -> None:
        self.begun.append(job)
        await self.may_end.wait()
        self.ended.append(job)


def backup(subject: str, *, git_only: bool = False) -> Job:
    return Job("backup", subject, git_only)


def made(work: Callable[[Job], Awaitable[None]]) -> tuple[LocalQueue, HeldClock]:
    clock = HeldClock()
    return LocalQueue(work, clock), clock


async def test_jobs_of_one_key_join_while_they_wait() -> None:
    work = Work()
    queue, clock = made(work)
    for _ in range(100):
        queue.put(backup("a"), after=2)
    queue.put(backup("b"), after=2)
    await clock.pass_time(1.9)
    assert work.begun == []
    await clock.pass_time(0.1)
    assert work.ended == [backup("a"), backup("b")]
    assert len(queue) == 0


async def test_a_stream_of_jobs_does_not_put_off_the_first() -> None:
    work = Work()
    queue, clock = made(work)
    for _ in range(4):
        queue.put(backup("a"), after=2)
        await clock.pass_time(0.5)
    assert work.ended == [backup("a")]


async def test_one_runs_and_one_waits() -> None:
    work = Work()
    queue, clock = made(work)
    work.may_end.clear()
    queue.put(backup("a"), after=0)
    await clock.pass_time(0)
    for _ in range(5):
        queue.put(backup("a"), after=2)
    await clock.pass_time(10)
    assert work.begun == [backup("a")]
    work.may_end.set()
    await clock.pass_time(0)
    assert work.ended == [backup("a")] * 2
    assert len(queue) == 0


async def test_a_sooner_job_moves_the_time_of_the_one_that_waits() -> None:
    work = Work()
    queue, clock = made(work)
    queue.put(backup("a", git_only=True), after=60)
    await clock.pass_time(1)
    queue.put(backup("a"), after=2)
    await clock.pass_time(2)
    assert work.ended == [backup("a")]  # both, and the API is asked


async def test_a_long_job_holds_up_no_other_key() -> None:
    work = Work()
    queue, clock = made(work)
    work.may_end.clear()
    for name in "abcdefgh":
        queue.put(backup(name), after=0)
    await clock.pass_time(0)
    assert len(work.begun) == 8
    work.may_end.set()
    await clock.pass_time(0)
    assert len(work.ended) == 8


async def test_a_job_that_fails_does_not_end_the_queue() -> None:
    calls = []

    async def fail(job: Job) -> None:
        calls.append(job)
        raise RuntimeError("broken")

    queue, clock = made(fail)
    queue.put(backup("a"), after=0)
    await clock.pass_time(0)
    queue.put(backup("a"), after=0)
    await clock.pass_time(0)
    assert calls == [backup("a")] * 2


@pytest.mark.parametrize("is_running", [False, True])
async def test_stop_drops_what_waits_and_cancels_what_runs(is_running: bool) -> None:
    work = Work()
    queue, clock = made(work)
    work.may_end.clear()
    queue.put(backup("a"), after=0 if is_running else 2)
    await clock.pass_time(0)
    assert len(work.begun) == is_running
    await queue.stop()
    work.may_end.set()
    queue.put(backup("b"), after=0)
    await clock.pass_time(10)
    assert work.ended == []
    assert len(queue) == 0
