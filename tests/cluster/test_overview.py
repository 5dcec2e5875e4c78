"""What a person sees of a cluster: by the database's clock, and never good where it is not known."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from mirror import browse
from mirror.auth.secrets import SecretSource
from mirror.browse import RepositoryStatus
from mirror.browse.cluster import with_others
from mirror.cluster.database import Database
from mirror.cluster.overview import overview
from mirror.cluster.rows import other_rows
from mirror.cluster.soundness import look
from mirror.config import load
from mirror.config.cluster import ClusterConfig
from mirror.errors import UsageError
from mirror.store.reading.troubles import FailureStreak
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock


async def _shard(database: Database, name: str, *, age: int = 0, copy: str | None = "s3://x/y") -> None:
    async with database.session() as connection:
        await connection.execute(
            "INSERT INTO shards"
            " (name, weight, store_id, host, program, copy_to, interval_seconds, seen, skew)"
            " VALUES (%s, 1, %s, 'host', 'mirror', %s, 3600, now() - make_interval(secs => %s), 0)",
            [name, f"store-{name}", copy, age],
        )
        await connection.execute(
            "INSERT INTO repositories (uuid, workspace_uuid, full_name, shard) VALUES (%s, 'w', %s, %s)",
            [f"uuid-{name}", f"acme/{name}", name],
        )


async def test_shards_are_here_silent_or_unknown(cluster: Database) -> None:
    for name, age in (("a", 0), ("b", 300), ("c", 7300)):
        await _shard(cluster, name, age=age)
    async with cluster.session() as connection:
        found = await overview(connection)
    assert [one.state for one in found.shards] == ["here", "silent", "unknown"]
    assert [one.repositories for one in found.shards] == [1, 1, 1]
    assert found.exit_code == 3
    assert [text.partition(" (")[0][:30] for text in found.concerns] == [
        "the shard b was last seen 5 mi", "the shard c is unknown since 2",
    ]  # fmt: skip
    assert found.concerns[0].endswith("mirror cluster move --from b")


async def test_a_tripped_brake_and_two_homes_are_told(cluster: Database) -> None:
    await _shard(cluster, "a", copy=None)
    loss = {
        "what": "refs",
        "repository": "",
        "name": "acme",
        "was": 9,
        "now": 1,
        "at": "2026-11-23T02:00:00Z",
    }
    async with cluster.session() as connection:
        assert (await overview(connection)).concerns == [
            "the shard a has no copy: what it holds is lost with its disk"
        ]
        await connection.execute(
            "INSERT INTO brakes (workspace_uuid, what, loss, shard) VALUES ('w', 'refs', %s, 'a')",
            [Jsonb(loss)],
        )
        found = await overview(connection)
        assert found.exit_code == 5 and found.concerns[0].startswith("acme: refs fell from 9 to 1")
        # A move to a shard that was called dead meanwhile goes on for nobody.
        await connection.execute(
            "INSERT INTO moves (uuid, full_name, source, target, state, copy_to)"
            " VALUES ('u', 'acme/x', 'a', 'b', 'sent', 's3://x/y');"
            "INSERT INTO shards (name, weight, store_id, host, program, retired)"
            " VALUES ('b', 1, 'b', 'b', '1', now())"
        )
        found = await overview(connection)
    assert found.exit_codes == (5, 3) and found.concerns[0] == (
        "acme/x is on its way from a to b, which was called dead: mirror cluster move --from b"
    )


async def test_the_rows_of_an_unknown_shard_are_unknown(cluster: Database, tmp_path: Path) -> None:
    create_or_open(tmp_path, now=FakeClock().now()).close()
    row = RepositoryStatus(
        "acme/b", "b~1a2b3c4d", "confirmed", "20261123T020000Z", "20261123T020000Z",
        FakeClock().now(), 1, 100, failing=FailureStreak(3, "2026-11-23T02:00:00Z", "no"),
    )  # fmt: skip
    for name in "ab":
        await _shard(cluster, name)
    async with cluster.session() as connection:
        await connection.execute(
            "INSERT INTO status_rows (shard, kind, place, content) VALUES ('b', 'repository', 'b', %s)",
            [Jsonb(row.to_json())],
        )
        assert await other_rows(connection, "a") == ([row], [])
        await connection.execute(
            "UPDATE status_rows SET content = content - 'last_confirmed';"
            " INSERT INTO status_rows (shard, kind, place, content) VALUES ('b', 'confirmed', '',"
            """ '{"at": "2026-01-01T00:00:00Z", "but": {"b": "2026-01-02T00:00:00Z"}}')"""
        )
        [[shown], _] = await other_rows(connection, "a")
        assert shown == replace(row, last_confirmed=datetime(2026, 1, 2, tzinfo=UTC))
        assert await other_rows(connection, "b") == ([], [])
        await connection.execute("UPDATE shards SET seen = now() - interval '3 hours' WHERE name = 'b'")
        [[shown], [said]] = await other_rows(connection, "a")
        assert shown.state.startswith("unknown since 20") and shown.last_confirmed is None
        assert said.startswith("the shard b is unknown since 20")
        # One that was made anew has the name of a deleted one, which this shard has.
        await connection.execute(
            "INSERT INTO repositories (uuid, workspace_uuid, full_name, shard)"
            " VALUES ('old', 'w', 'acme/b', 'a')"
        )
        [[shown], _] = await other_rows(connection, "a")
        found = browse.status(tmp_path)
        deleted = replace(row, folder="b~5e6f7a8b", is_settled=True)
        found = with_others(replace(found, repositories=(deleted,)), [shown, replace(deleted, state="told")])
        assert found.repositories == (deleted, shown)
        await connection.execute("DELETE FROM repositories WHERE uuid = 'old'")
        # Where it moved away, the row of its former shard counts for nothing.
        await _shard(cluster, "c")
        await connection.execute("UPDATE repositories SET shard = 'c' WHERE full_name = 'acme/b'")
        assert await other_rows(connection, "a") == ([], [])
        # What a newer version wrote is not read.
        await connection.execute("INSERT INTO mirror.migrations (name) VALUES ('9999_new.sql')")
        with pytest.raises(UsageError, match="is of a newer version"):
            await other_rows(connection, "a")


async def test_doctor_names_what_is_wrong_with_the_cluster(
    cluster: Database, cluster_url: str, tmp_path: Path
) -> None:
    clock = FakeClock()
    create_or_open(tmp_path / "store", now=clock.now()).close()
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "config.yaml").write_text(
        "store: store\nworkspaces:\n  - workspace: acme\n"
        "    credential: {kind: workspace_access_token, token: {file: token}}\n"
        "cluster: {database: {env: DATABASE}, shard: a}\n"
    )
    config = load(tmp_path / "config.yaml")
    assert config.cluster == ClusterConfig(SecretSource("env", "DATABASE"), "a", 1)
    await _shard(cluster, "a")
    environment = {**os.environ, "DATABASE": cluster_url}
    told = {one.text: one for one in await look(config, environment, clock)}
    assert told["the shard a is another store, on host"].code == 2
    assert any("s off the database's" in text for text in told)  # the test's clock
    assert any(text.startswith("PostgreSQL 1") for text in told)
    [gone] = await look(config, {**environment, "DATABASE": "postgresql://x@/x?host=/nowhere"}, clock)
    assert gone.state == "warn" and gone.code == 75
