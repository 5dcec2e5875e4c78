"""Two hosts in one process: one Bitbucket, one PostgreSQL, and a store of each."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror import backup
from mirror.auth.secrets import SecretSource
from mirror.backup.listing import Listing, list_scope
from mirror.bitbucket.client.budget import Budget
from mirror.cluster import parts
from mirror.cluster.brakes import ClusterBrake
from mirror.cluster.connector import manager_of
from mirror.cluster.database import Database, DatabaseDown
from mirror.cluster.discovery import Due
from mirror.cluster.host import Doings, Host
from mirror.cluster.leases import ClusterLeases
from mirror.cluster.placement import Named
from mirror.cluster.schema import migrate
from mirror.cluster.stores import held_by, me_of
from mirror.config import Config
from mirror.config.cluster import ClusterConfig
from mirror.errors import Locked
from mirror.model import EVERYTHING, Run, Scope
from mirror.model.queue import Job
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.cluster.clusters import database_at
from tests.cluster.postgres import PATIENCE, Postgres
from tests.place import Place


class RealClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Member:
    """A host with its store. `due` are its scheduled backups; `runs` what it backed up, `jobs` what hooks had
    it do."""

    def __init__(self, place: Place, name: str, url: str, *, is_scheduled: bool = True) -> None:
        self.clock, self.host_name = RealClock(), name
        self.config = config_of(place, name)
        if not self.config.store.exists():
            create_or_open(self.config.store, now=self.clock.now()).close()
        self.environment = {**os.environ, "DATABASE": url}
        self.database = Database.of(self.config, self.environment)
        self.leases = ClusterLeases(self.database, name, self.clock)
        self.budget = Budget(self.clock, leases=self.leases)
        self.runs: list[Run] = []
        self.jobs: list[Job] = []
        self.lists = 0
        self.schedule = (
            [Due("backup", EVERYTHING, lambda when: when + timedelta(hours=1))] if is_scheduled else []
        )
        self.before_list: Callable[[], Awaitable[None]] | None = None
        self.host = Host(
            self.config, me_of(self.config, name, "0", 3600.0),
            Doings(self.run_part, self.list_scope, lambda: self.schedule, lambda: None),
            database=self.database, leases=self.leases, clock=self.clock,
        )  # fmt: skip
        self.queue = self.host.queue_of(self.work, Nothing())

    async def run_part(self, scope: Scope, listed: Listing) -> Run:
        run = await backup.run(
            self.config, scope=scope, clock=self.clock, environment=self.environment, budget=self.budget,
            listed=listed, elsewhere=ClusterBrake(self.database, self.host_name),
        )  # fmt: skip
        self.runs.append(run)
        return run

    async def list_scope(self, scope: Scope, known: object) -> Listing:
        self.lists += 1
        found = await list_scope(
            self.config, scope, clock=self.clock, environment=self.environment, budget=self.budget,
            known=known,  # type: ignore[arg-type]
        )  # fmt: skip
        if self.before_list is not None:
            await self.before_list()
        return found

    async def work(self, job: Job) -> None:
        self.jobs.append(job)

    def held(self) -> dict[str, str]:
        with Store.open(self.config.store) as store:
            return {one.uuid: one.full_name for one in store.repositories()}


class Nothing:
    """A queue in which nothing is put."""

    def put(self, job: Job, *, after: float) -> None:
        raise AssertionError(job)

    async def stop(self) -> None:
        pass


def config_of(place: Place, name: str) -> Config:
    cluster = ClusterConfig(SecretSource("env", "DATABASE"), name)
    return replace(place.config, store=place.folder / name, cluster=cluster)


@asynccontextmanager
async def joined(*members: Member) -> AsyncIterator[None]:
    """Members that take part. What is new is shared out among those that have joined: nothing is before all
    have."""
    all_joined = asyncio.Event()

    async def wait_for_all() -> None:
        await all_joined.wait()

    async with AsyncExitStack() as stack:
        for one in members:
            one.before_list = one.before_list or wait_for_all
            stack.push_async_callback(one.host.stop)
            stack.push_async_callback(one.queue.stop)
            await one.host.start()
        all_joined.set()
        yield


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def rows(url: str, query: str) -> list[Any]:
    database = database_at(url)
    try:
        async with database.session() as connection:
            found = await connection.execute(query.encode())
            return [tuple(row) for row in await found.fetchall()]
    finally:
        await database.close()


async def run_again(url: str) -> None:
    """An hour passes for the schedule."""
    await rows(url, "UPDATE discoveries SET due = due - interval '1 hour' RETURNING 1")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hosts report and try again within moments."""
    for name, seconds in (("BEAT_SECONDS", 0.2), ("RETRY_FIRST", 0.1), ("RETRY_LAST", 0.5)):
        monkeypatch.setattr(f"mirror.cluster.host.{name}", seconds)
    return iter([None])


async def test_two_hosts_share_the_work_and_a_new_database_learns_it_from_them(
    place: Place, cluster_url: str, database: str
) -> None:
    one, other = Member(place, "a", cluster_url), Member(place, "b", cluster_url)
    async with joined(one, other):
        await until(lambda: len(one.runs) == 1 and len(other.runs) == 1)
        assert one.lists + other.lists == 1
        held = {**one.held(), **other.held()}
        assert len(one.held()) + len(other.held()) == len(held) == len(place.acme.repositories)
        assert abs(len(one.held()) - len(other.held())) <= 1
        assert [run.exit_code for member in (one, other) for run in member.runs] == [0, 0]
        workspaces = [
            each
            for member in (one, other)
            for run in member.runs
            for each in run.entries
            if each.kind == "workspace"
        ]
        assert len(workspaces) == 1
        await run_again(cluster_url)
        await until(lambda: len(one.runs) == 2 and len(other.runs) == 2)
        async with asyncio.timeout(PATIENCE):
            while await rows(cluster_url, "SELECT 1 FROM parts WHERE ended IS NULL"):
                await asyncio.sleep(0.02)
        assert {str(each.outcome) for run in (one.runs[1], other.runs[1]) for each in run.entries} == {
            "confirmed"
        }
    ended = await rows(cluster_url, "SELECT shard, run, exit_code, counts, listed FROM parts ORDER BY id")
    assert {row[1] for row in ended} == {run.id for member in (one, other) for run in member.runs}
    assert {(row[2], row[4]) for row in ended} == {(0, None)}
    placed: dict[str, str] = dict(await rows(cluster_url, "SELECT uuid, shard FROM repositories"))
    assert placed == {uuid: name for name, member in (("a", one), ("b", other)) for uuid in member.held()}
    assert await rows(cluster_url, "SELECT count(*) FROM procrastinate_jobs") == [(0,)]
    used = await rows(cluster_url, "SELECT sum(count)::int FROM lent")
    assert used == [(len(place.simulator.requests) - git_requests(place),)]

    # Another database, which knows nothing, and a folder that stands in both stores.
    made = database_at(database)
    await migrate(made)
    await made.close()
    uuid, name = next(iter(one.held().items()))
    copy_folder(one.config.store, other.config.store, uuid)
    place.acme.repositories[name.partition("/")[2]].commit("main", {"new": b"new\n"}, "New")
    one, other = Member(place, "a", database), Member(place, "b", database)
    async with joined(one, other):
        await until(lambda: len(one.runs) == 1 and len(other.runs) == 1)
    again: dict[str, str] = dict(await rows(database, "SELECT uuid, shard FROM repositories"))
    assert {key: value for key, value in again.items() if key != uuid} == {
        key: value for key, value in placed.items() if key != uuid
    }
    for member in (one, other):
        (entry,) = [each for each in member.runs[0].entries if each.uuid == uuid]
        assert str(entry.outcome) == "failed" and "a and b both have a folder" in entry.problems[0].text


def git_requests(place: Place) -> int:
    """The requests that are not made to the API."""
    return sum(not one.path.startswith("/2.0/") for one in place.simulator.requests)


def copy_folder(source: Path, target: Path, uuid: str) -> None:
    import shutil

    found = next(source.glob(f"workspaces/*/repositories/*{uuid[1:9]}"))
    shutil.copytree(found, target / found.relative_to(source))


async def test_a_hook_goes_to_the_host_that_holds_the_repository(place: Place, cluster_url: str) -> None:
    one, other = Member(place, "a", cluster_url), Member(place, "b", cluster_url)
    async with joined(one, other):
        await until(lambda: len(one.runs) == 1 and len(other.runs) == 1)
        ours, theirs = next(iter(one.held())), next(iter(other.held()))
        for uuid in (ours, theirs):
            one.queue.put(Job("backup", uuid, is_news=True), after=0.1)
            one.queue.put(Job("backup", uuid, git_only=True), after=0.0)
        await until(lambda: bool(one.jobs) and bool(other.jobs))
        assert one.jobs == [Job("backup", ours, is_news=True)]
        assert other.jobs == [Job("backup", theirs, is_news=True, is_foreign=True)]
        # A repository that no store has, and one that is nobody's.
        place.acme.add_repository("fresh").commit("main", {"a": b"a\n"}, "Begin")
        fresh = place.acme.repositories["fresh"].uuid
        stranger = "{00000000-0000-4000-8000-000000000000}"

        async def both_asked() -> None:
            while len(await rows(cluster_url, "SELECT 1 FROM strangers")) < 2:
                await asyncio.sleep(0.02)

        one.before_list = other.before_list = both_asked
        one.queue.put(Job("backup", stranger, is_news=True), after=0.0)
        one.queue.put(Job("backup", fresh, is_news=True), after=0.0)
        await until(lambda: fresh in [job.subject for job in (*one.jobs, *other.jobs)])
        assert await rows(cluster_url, "SELECT uuid, is_stranger FROM strangers") == [(stranger, True)]
        # Both were found by one list; another is made in five minutes at the earliest.
        lists = one.lists + other.lists
        assert lists == 2
        one.queue.put(Job("backup", stranger, is_news=True), after=0.0)
        one.queue.put(Job("backup", ours, is_news=True), after=0.0)
        await until(lambda: len([job for job in one.jobs if job.subject == ours]) == 2)
        assert one.lists + other.lists == lists


async def test_a_host_that_was_stopped_in_a_discovery_gives_nothing(place: Place, cluster_url: str) -> None:
    """Another took its job meanwhile."""
    one = Member(place, "a", cluster_url)
    taken = asyncio.Event()

    async def be_stopped() -> None:
        if not taken.is_set():
            await rows(
                cluster_url,
                "UPDATE procrastinate_jobs SET worker_id = NULL WHERE status = 'doing' RETURNING 1",
            )
            taken.set()

    one.before_list = be_stopped
    async with joined(one):
        await until(taken.is_set)
        await until(lambda: not one.host._worker.running)
        # It was put back, because nobody did it any more.
        await until(lambda: bool(one.runs))
    assert one.lists == 2 and len(one.runs) == 1


async def test_an_outage_is_outlived(place: Place, cluster_url: str, postgres: Postgres) -> None:
    one = Member(place, "a", cluster_url)
    async with joined(one):
        await until(lambda: len(one.runs) == 1)
        assert one.host.trouble is None and "backup" in one.host.next_times
        postgres.stop()
        try:
            await until(lambda: one.host.trouble is not None)
            assert "cannot be used" in str(one.host.trouble)
            uuid = next(iter(one.held()))
            one.queue.put(Job("backup", uuid, is_news=True), after=0.0)
        finally:
            postgres.start()
        await until(lambda: one.host.trouble is None)
        await until(lambda: [job.subject for job in one.jobs] == [uuid])
        await run_again(cluster_url)
        await until(lambda: len(one.runs) == 2)


async def test_a_start_during_an_outage_waits_for_its_end(
    place: Place, cluster_url: str, postgres: Postgres
) -> None:
    postgres.stop()
    try:
        one = Member(place, "a", cluster_url)
        with pytest.raises(DatabaseDown):
            await one.database.connect()
        async with joined(one):
            assert one.host.trouble is not None
            postgres.start()
            await until(lambda: one.host.trouble is None and bool(one.runs))
    finally:
        if postgres._server is None:
            postgres.start()


async def test_one_daemon_for_a_shard(
    place: Place, cluster_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.cluster.shards.LOCK_SECONDS", 0.0)
    one, same = (Member(place, "a", cluster_url, is_scheduled=False) for _ in range(2))
    async with joined(one):
        with pytest.raises(Locked):
            await same.host.start()
        await same.host.stop()
        # What a reload changes is reported.
        one.host.use(one.config, replace(one.host._membership.me, weight=3, interval=60.0))
        async with asyncio.timeout(PATIENCE):
            while await rows(cluster_url, "SELECT weight, interval_seconds FROM shards") != [(3, 60.0)]:
                await asyncio.sleep(0.02)


async def test_a_part_that_waited_for_days_is_asked_for_anew(place: Place, cluster_url: str) -> None:
    one = Member(place, "a", cluster_url)
    async with joined(one):
        await until(lambda: len(one.runs) == 1)
    listed = await list_scope(
        one.config, EVERYTHING, clock=one.clock, environment=one.environment, budget=Budget(one.clock)
    )
    async with one.database.transaction() as connection:
        await parts.give(
            connection, manager_of(one.database), shard="a", job="backup", listed=listed.to_json(), size=1
        )
        await connection.execute("UPDATE parts SET made = made - interval '3 days' WHERE ended IS NULL")
    again = Member(place, "a", cluster_url)
    async with joined(again):
        await until(lambda: len(again.runs) == 1)
    assert again.lists == 1


async def test_a_part_ends_where_the_store_cannot_be_read(
    place: Place, cluster_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Member(place, "a", cluster_url)

    def read(config: Config) -> list[Named]:
        if one.runs:
            raise OSError("Input/output error")
        return held_by(config)

    monkeypatch.setattr("mirror.cluster.host.held_by", read)
    async with joined(one):
        await until(lambda: len(one.runs) == 1)
        await until(lambda: not one.host._worker.running)
    # Else the others would prune nothing.
    assert await rows(cluster_url, "SELECT count(*) FROM parts WHERE ended IS NULL") == [(0,)]


async def test_a_part_knows_what_was_placed_since_it_was_asked_for(cluster: Database) -> None:
    async with cluster.transaction() as connection:
        await connection.execute(
            "INSERT INTO shards (name, weight, store_id, host, program) VALUES ('a', 1, 's', 'h', '1')"
        )
        await connection.execute(
            "INSERT INTO repositories (uuid, workspace_uuid, full_name, shard, placed) VALUES"
            " ('{1}', '{w}', 'w/1', 'a', now() - interval '1 hour'), ('{2}', '{w}', 'w/2', 'a', now())"
        )
        found = await connection.execute("SELECT (now() - interval '1 minute')::text")
        row = await found.fetchone()
        assert row is not None
        await parts.give(
            connection, manager_of(cluster), shard="a", job="backup",
            listed=Listing((), asked=row[0]).to_json(), size=0,
        )  # fmt: skip
        part = await parts.take(connection, "a", "backup")
    assert part is not None and part.younger == {"{2}"} and part.age == 0
