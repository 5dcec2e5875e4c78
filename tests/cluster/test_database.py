"""Connections, migrations and shards, with a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import pytest

from mirror.auth.secrets import SecretSource
from mirror.cluster.database import Database, DatabaseDown
from mirror.cluster.schema import check, migrate, our_migrations
from mirror.cluster.shards import Me, Membership, register, shards
from mirror.errors import CredentialRefused, Locked, UsageError
from mirror.model import Clock
from tests.clock import HeldClock
from tests.cluster.clusters import database_at
from tests.cluster.postgres import Postgres


async def tables(database: Database) -> set[str]:
    async with database.session() as connection:
        rows = await connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        return {row[0] for row in await rows.fetchall()}


async def test_two_make_the_schema_at_once(database: str) -> None:
    one, other = database_at(database), database_at(database)
    done = await asyncio.gather(migrate(one), migrate(other))
    made = [each for each in done if each.applied]
    assert len(made) == 1
    assert made[0].applied == ("procrastinate", *(name for name, _ in our_migrations()))
    assert done[0].cluster == done[1].cluster
    found = await tables(one)
    assert {"mirror.shards", "mirror.repositories", "procrastinate.procrastinate_jobs"} <= found
    assert not {name for name in found if name.startswith("public.")}
    assert (await migrate(one)).applied == ()
    async with one.session() as connection:
        await check(connection)
    await one.close()
    await other.close()


async def test_a_schema_that_is_not_of_this_version_is_refused(cluster: Database, database: str) -> None:
    bare = database_at(database)
    async with bare.session() as connection:
        with pytest.raises(UsageError, match="no schema of mirror yet"):
            await check(connection)
    with pytest.raises(UsageError, match="lacks what it needs"):
        async with bare.session() as connection:
            await connection.execute("SELECT * FROM shards")
    await bare.close()
    async with cluster.session() as connection:
        await connection.execute("INSERT INTO migrations (name) VALUES ('9999_later.sql')")
        with pytest.raises(UsageError, match=r"newer version: it has 9999_later\.sql"):
            await check(connection)
    with pytest.raises(UsageError, match=r"9999_later\.sql"):
        await migrate(cluster)
    async with cluster.session() as connection:
        await connection.execute("DELETE FROM migrations WHERE name LIKE '9999%' OR name LIKE '0001%'")
        with pytest.raises(UsageError, match="older version"):
            await check(connection)


async def test_migrations_of_procrastinate_are_applied_where_they_are_lacking(cluster: Database) -> None:
    last = "procrastinate/03.03.00_01_pre_priority_lock_fetch_job.sql"
    async with cluster.session() as connection:
        await connection.execute("DROP FUNCTION procrastinate_fetch_job_v2")
        await connection.execute("DELETE FROM migrations WHERE name = %s", [last])
    assert (await migrate(cluster)).applied == (last,)
    async with cluster.session() as connection:
        rows = await connection.execute("SELECT to_regproc('procrastinate.procrastinate_fetch_job_v2')")
        assert await rows.fetchone() != (None,)


@pytest.mark.parametrize("text", ["not a S3CRET", "host='S3CRET"])
async def test_a_secret_that_is_no_connection_string_is_not_quoted(text: str) -> None:
    with pytest.raises(UsageError, match="no connection string") as caught:
        await database_at(text).connect()
    assert "S3CRET" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


async def test_the_secret_is_read_anew_for_each_connection(database: str) -> None:
    environment = {**os.environ, "DSN": "postgresql:///nowhere?host=/nonexistent"}
    moved = Database(SecretSource("env", "DSN"), environment, label="moved")
    with pytest.raises(DatabaseDown, match="cannot be used"):
        await moved.connect()
    environment["DSN"] = database
    async with moved.session() as connection:
        rows = await connection.execute("SELECT current_setting('application_name')")
        assert await rows.fetchone() == ("moved",)
    await moved.close()


async def test_what_the_server_refuses(postgres: Postgres, database: str) -> None:
    name = database.partition("?")[0].rpartition("/")[2]
    with pytest.raises(UsageError, match="does not exist"):
        await database_at(postgres.url("nosuch")).connect()
    with pytest.raises(CredentialRefused, match="refused the sign-in"):
        await database_at(postgres.url(name).replace("postgres@", "stranger@")).connect()


async def test_a_connection_that_the_server_ended_is_replaced(cluster: Database, postgres: Postgres) -> None:
    async with cluster.session() as connection:
        await connection.execute("SELECT 1")
    postgres.restart()
    async with cluster.transaction() as connection:
        rows = await connection.execute("SELECT count(*) FROM cluster")
        assert await rows.fetchone() == (1,)
    with pytest.raises(DatabaseDown):
        async with cluster.session() as connection:
            postgres.stop()
            try:
                await connection.execute("SELECT 1")
            finally:
                postgres.start()
    async with cluster.session() as connection:
        await connection.execute("SELECT 1")


async def test_a_server_that_hangs_is_down(cluster: Database, postgres: Postgres) -> None:
    with pytest.raises(DatabaseDown, match="does not answer"):
        async with cluster.session(seconds=0.5) as connection:
            postgres.pause()
            # Later it takes the request to cancel, which psycopg waits for.
            asyncio.get_running_loop().call_later(1.0, postgres.proceed)
            await connection.execute("SELECT 1")


def me(name: str, store: str = "", weight: int = 1) -> Me:
    return Me(name, weight, store or f"store-{name}", "host", "0", ("s3://b/" + name,), 3600.0)


async def test_a_shard_has_one_store_and_a_store_one_name(cluster: Database) -> None:
    async with cluster.session() as connection:
        await register(connection, me("a"))
        await register(connection, me("b", weight=2))
        await register(connection, me("a", weight=3))
        with pytest.raises(UsageError, match="the shard a is another store, store-a"):
            await register(connection, me("a", "other"))
        with pytest.raises(UsageError, match="known to the cluster as the shard b, not c"):
            await register(connection, me("c", "store-b"))
        found = await shards(connection)
        assert {one.interval_seconds for one in found} == {3600.0}
        assert [(one.name, one.weight, one.copy_to) for one in found] == [
            ("a", 3, "s3://b/a"),
            ("b", 2, "s3://b/b"),
        ]
        await connection.execute("UPDATE shards SET retired = now() WHERE name = 'a'")
        with pytest.raises(UsageError, match="called dead"):
            await register(connection, me("a"))


async def test_a_shard_has_one_daemon_and_says_when_its_clock_is_off(
    cluster: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    clock: Clock = HeldClock()
    one, other = (Membership(cluster, me("a"), clock) for _ in range(2))
    await one.join()
    with pytest.raises(Locked, match="another daemon is the shard a"):
        await other.join(wait=0)
    connection = await one.beat(None)
    (shard,) = await shards(connection)
    assert (
        shard.age < 100 and shard.skew is not None and abs(timedelta(seconds=shard.skew)) > timedelta(days=1)
    )
    await connection.execute("SELECT 1")
    async with cluster.session() as admin:
        # What the server does to a session that is silent for too long.
        await admin.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    with pytest.raises(DatabaseDown):
        await one.beat(None)
    assert not one.is_held
    await other.join(wait=0)
    assert other.is_held
    await other.leave()
    await one.join(wait=0)
    await one.leave()


async def test_the_server_ends_a_session_that_is_silent(cluster: Database) -> None:
    member = Membership(cluster, me("a"), HeldClock())
    await member.join()
    connection = await member.beat(None)
    rows = await connection.execute("SHOW idle_session_timeout")
    assert await rows.fetchone() == ("40s",)
    await connection.execute("SET idle_session_timeout = '1ms'")
    with pytest.raises(DatabaseDown):
        for _ in range(1000):
            await asyncio.sleep(0.01)
            await member.beat(None)
