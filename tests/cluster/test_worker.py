"""Jobs of several hosts in one database: their order, their locks, and hosts that die in the midst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job

from mirror.cluster import reaper
from mirror.cluster.connector import manager_of
from mirror.cluster.database import Database, DatabaseDown
from mirror.cluster.jobs import BACKUP, defer
from mirror.cluster.worker import Lane, Worker
from tests.clock import FakeClock
from tests.cluster.clusters import database_at
from tests.cluster.postgres import PATIENCE, Postgres


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


class Host:
    """Does the jobs of a queue. Those whose uuid is in `held` do not end by themselves."""

    def __init__(self, database: Database, queue: str = "a", slots: int = 8) -> None:
        self.database, self.manager = database, manager_of(database)
        self.held: dict[str, asyncio.Event] = {}
        self.began: list[str] = []
        self.ended: list[str] = []
        self.now: set[str] = set()
        self.cut_off: set[str] = set()
        self.worker = Worker(database, self.manager, [Lane(queue, slots, self.work)], FakeClock())
        self.failures = 0

    async def work(self, job: Job) -> None:
        uuid = str(job.task_kwargs["uuid"])
        assert uuid not in self.now, "run twice at once"
        self.now.add(uuid)
        self.began.append(uuid)
        try:
            if uuid in self.held:
                await self.held[uuid].wait()
            if uuid == "fails":
                raise RuntimeError("as it is told to")
            if uuid in self.cut_off:
                self.cut_off.discard(uuid)
                raise DatabaseDown("as it is told to")
            self.ended.append(uuid)
        finally:
            self.now.discard(uuid)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Do jobs, and go on after each outage."""
        task = asyncio.ensure_future(self.serve())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.worker.stop()

    async def serve(self) -> None:
        while True:
            try:
                await self.worker.register()
                await self.worker.fetch()
            except (DatabaseDown, ExceptionGroup):
                self.failures += 1
                await asyncio.sleep(0.05)


async def put(database: Database, uuid: str, queue: str = "a", **more: Any) -> bool:
    arguments = {"uuid": uuid, "git_only": False, "is_news": False, **more.pop("arguments", {})}
    async with database.transaction() as connection:
        return await defer(
            manager_of(database), connection, queue=queue, task=BACKUP, lock=f"backup {uuid}",
            arguments=arguments, **more,
        )  # fmt: skip


async def left(database: Database) -> list[tuple[str, str]]:
    async with database.session() as connection:
        rows = await connection.execute(
            "SELECT args->>'uuid', status::text FROM procrastinate_jobs ORDER BY id"
        )
        return [(uuid, status) for uuid, status in await rows.fetchall()]


async def test_one_runs_and_one_waits_and_hooks_go_first(cluster: Database, cluster_url: str) -> None:
    host = Host(cluster, slots=1)
    host.held["1"] = asyncio.Event()
    async with host.serving():
        assert await put(cluster, "1")
        await until(lambda: host.began == ["1"])
        assert await put(cluster, "1") and not await put(cluster, "1")
        await put(cluster, "2")
        await put(cluster, "3", priority=10)
        await put(cluster, "fails", priority=5)
        await put(cluster, "elsewhere", queue="b")
        await put(cluster, "later", after=3600)
        assert await left(cluster) == [
            ("1", "doing"), ("1", "todo"), ("2", "todo"), ("3", "todo"), ("fails", "todo"),
            ("elsewhere", "todo"), ("later", "todo"),
        ]  # fmt: skip
        host.held["1"].set()
        await until(lambda: len(host.ended) == 4)
        assert host.began == ["1", "3", "fails", "1", "2"]
        assert not await put(cluster, "later")  # which brings it forward
        await until(lambda: "later" in host.ended)
    assert await left(cluster) == [("elsewhere", "todo")]


async def test_the_end_of_a_process_puts_back_what_it_did(cluster: Database) -> None:
    host = Host(cluster)
    host.held = {"1": asyncio.Event(), "2": asyncio.Event()}
    async with host.serving():
        await put(cluster, "1")
        await put(cluster, "2")
        await until(lambda: len(host.began) == 2)
        await put(cluster, "2")
    assert sorted(await left(cluster)) == [("1", "todo"), ("2", "todo")]
    async with cluster.session() as connection:
        rows = await connection.execute("SELECT count(*) FROM procrastinate_workers")
        assert await rows.fetchone() == (0,)


async def stall(database: Database, *uuids: str) -> None:
    """A host begins these, and dies."""
    manager = manager_of(database)
    worker = await manager.register_worker()
    for uuid in uuids:
        await put(database, uuid)
        assert await manager.fetch_job(["a"], worker) is not None
    async with database.session() as connection:
        await connection.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = %s",
            [worker],
        )


async def test_one_conflict_does_not_stop_the_reaper(cluster: Database) -> None:
    await stall(cluster, "1", "2", "3")
    await put(cluster, "1", arguments={"git_only": True, "is_news": True})
    manager = manager_of(cluster)
    # What procrastinate's documentation does, ends at the first.
    stalled = list(await manager.get_stalled_jobs())
    with pytest.raises(UniqueViolation):
        for job in stalled:
            await manager.retry_job(job)
    assert [status for _, status in await left(cluster)].count("doing") == 3
    assert await reaper.reap(cluster, manager) == 3
    assert sorted(await left(cluster)) == [("1", "todo"), ("2", "todo"), ("3", "todo")]
    async with cluster.session() as connection:
        # The sibling does what both were to do.
        rows = await connection.execute("SELECT args FROM procrastinate_jobs WHERE args->>'uuid' = '1'")
        assert await rows.fetchone() == ({"uuid": "1", "git_only": False, "is_news": True},)
    assert await reaper.reap(cluster, manager) == 0


async def test_jobs_of_a_host_that_lives_stay(cluster: Database) -> None:
    host = Host(cluster)
    host.held["1"] = asyncio.Event()
    async with host.serving():
        await put(cluster, "1")
        await until(lambda: host.began == ["1"])
        await host.worker.beat()
        assert await left(cluster) == [("1", "doing")]


async def test_a_start_takes_up_what_the_killed_process_left_at_once(cluster: Database) -> None:
    manager = manager_of(cluster)
    worker = await manager.register_worker()
    await put(cluster, "1")
    await manager.fetch_job(["a"], worker)
    host = Host(cluster)
    async with host.serving():
        await until(lambda: host.ended == ["1"])


async def test_what_others_put_back_is_not_run_twice(cluster: Database) -> None:
    """A host that could not be heard for long goes on with its job, and finds it put back."""
    host = Host(cluster)
    host.held["1"] = asyncio.Event()
    async with host.serving():
        await put(cluster, "1")
        await until(lambda: host.began == ["1"])
        async with cluster.session() as connection:
            rows = await connection.execute("SELECT id FROM procrastinate_jobs")
            found = await rows.fetchall()
        await reaper.put_back(cluster, [row[0] for row in found])
        host.worker.wake()
        await put(cluster, "2")
        await until(lambda: host.ended == ["2"])
        host.held["1"].set()
        await until(lambda: host.ended == ["2", "1"])
    assert host.began == ["1", "2"] and await left(cluster) == []


async def test_an_outage_ends_no_job_and_loses_none(
    cluster: Database, cluster_url: str, postgres: Postgres
) -> None:
    host, outside = Host(cluster), database_at(cluster_url)
    host.held["1"] = asyncio.Event()
    async with host.serving():
        await put(outside, "1")
        await put(outside, "2", after=0)
        await until(lambda: sorted(host.began) == ["1", "2"])
        postgres.stop()
        try:
            await until(lambda: host.failures > 0)
            host.held["1"].set()
            await until(lambda: sorted(host.ended) == ["1", "2"])
        finally:
            postgres.start()
        await put(outside, "3")
        await until(lambda: "3" in host.ended)
        assert sorted(host.began) == ["1", "2", "3"]
    assert await left(outside) == []
    await outside.close()


async def test_two_hosts_never_do_one_job_both(cluster: Database, cluster_url: str) -> None:
    """The queue of discoveries is everybody's."""
    other = database_at(cluster_url)
    hosts = [Host(cluster, "_discover", 2), Host(other, "_discover", 2)]
    for one in hosts:
        one.worker._lanes = [Lane("own", 1, one.work), Lane("_discover", 2, one.work)]
    async with hosts[0].serving(), hosts[1].serving():
        for number in range(40):
            await put(cluster, str(number % 10), queue="_discover")
        await until(lambda: not hosts[0].worker.running and not hosts[1].worker.running)
        async with asyncio.timeout(PATIENCE):
            while await left(cluster):
                await asyncio.sleep(0.02)
    done = [*hosts[0].ended, *hosts[1].ended]
    assert set(done) == {str(number) for number in range(10)}
    await other.close()


async def test_a_job_that_could_not_reach_the_database_is_done_again(cluster: Database) -> None:
    host = Host(cluster)
    host.cut_off = {"1"}
    async with host.serving():
        await put(cluster, "1")
        await until(lambda: host.ended == ["1"])
        assert host.began == ["1", "1"]
    assert await left(cluster) == []
