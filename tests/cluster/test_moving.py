"""Repositories move between the shards of a cluster through real copies: nothing is lost, and one writes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror import backup, verify
from mirror.cluster import carrying, mover, moving
from mirror.cluster.brakes import ClusterBrake
from mirror.cluster.database import Database
from mirror.cluster.mover import Mover
from mirror.cluster.overview import ShardState, overview
from mirror.cluster.returned import put_aside
from mirror.config import Config, load
from mirror.copy import sending
from mirror.errors import UsageError
from mirror.model import Selector
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.format import layout
from mirror.store.reading.reader import Store
from mirror.store.writing.moving import bring_back, put_away
from tests.bucket.servers import NOBODY, ObjectServer
from tests.clock import FakeClock
from tests.crash.actions import again, changes, small
from tests.e2e.helpers import write_config

ACME = Selector("acme")


class Hosts:
    """Shards a and b with a copy each; a has the repository acme/website, and is its placement."""

    def __init__(
        self, database: Database, world: World, configs: dict[str, Config], env: dict[str, str]
    ) -> None:
        self.database, self.world, self.configs, self.environment = database, world, configs, env
        self.clock = FakeClock()
        # By shard, the keys that the object storage refuses.
        self.refused: dict[str, dict[str, str]] = {}
        self.uuid = world.workspaces["acme"].repositories["website"].uuid.lower()

    async def join(self) -> None:
        async with self.database.session() as connection:
            for name, config in self.configs.items():
                await connection.execute(
                    "INSERT INTO shards (name, weight, store_id, host, program, copy_to, interval_seconds)"
                    " VALUES (%s, 1, %s, %s, 'mirror', %s, 3600)",
                    [name, f"store-{name}", f"host-{name}", config.copies[0].to],
                )
            acme = self.world.workspaces["acme"].uuid.lower()
            for table in ("repositories", "holdings"):
                await connection.execute(
                    f"INSERT INTO {table} (uuid, workspace_uuid, full_name, shard)"
                    " VALUES (%s, %s, 'acme/website', 'a')",
                    [self.uuid, acme],
                )

    async def backup(self, name: str) -> None:
        self.clock.elapsed += 3600
        run = await backup.run(self.configs[name], [], clock=self.clock, environment=os.environ)
        assert run.exit_code == 0, run.all_problems

    async def copy(self, name: str) -> None:
        config = self.configs[name]
        run = await sending.run(config, config.copies[0], clock=self.clock, environment=self.environment)
        assert run.exit_code == 0, run.all_problems

    def mover(self, name: str) -> Mover:
        environment = self.environment | self.refused.get(name, {})
        return Mover(self.database, self.configs[name], name, self.clock, environment)

    async def tend(self, *names: str) -> None:
        for name in names:
            self.clock.elapsed += 60
            await self.mover(name).tend()

    async def ask(self) -> None:
        async with self.database.transaction() as connection:
            chosen = await moving.placed(connection, ACME)
            await moving.ask(connection, chosen, await moving.shard_called(connection, "b"))

    async def state(self) -> tuple[str, str | None]:
        async with self.database.session() as connection:
            [move] = await moving.moves(connection, [self.uuid])
            rows = await connection.execute("SELECT shard FROM repositories")
            [(shard,)] = await rows.fetchall()
            if move.problem:
                return f"{move.state}: {move.problem}", shard
            return move.state, shard

    async def kill(self, name: str) -> None:
        """The host is not seen any more."""
        async with self.database.session() as connection:
            await connection.execute(
                "UPDATE shards SET seen = seen - interval '1 hour' WHERE name = %s", [name]
            )

    async def give_up(self, name: str, target: str | None = None) -> list[str]:
        """Call a host dead that is not seen any more; returns the names of what moves."""
        await self.kill(name)
        async with self.database.transaction() as connection:
            shard = await moving.shard_called(connection, name)
            return [
                one.full_name
                for one in (await moving.give_up(connection, shard, afresh=False, target=target))[0]
            ]

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        async with self.database.session() as connection:
            return await (await connection.execute(query.encode())).fetchall()

    def quarantine(self, name: str) -> int:
        return len(list((self.configs[name].store / layout.QUARANTINE).iterdir()))

    def snapshots(self, name: str) -> int | None:
        with Store.open(self.configs[name].store) as store:
            folder = store.folder_of_repository(self.uuid)
            return None if folder is None else len(folder.metadata.snapshots())

    async def findings(self, name: str) -> list[object]:
        run = await verify.run(self.configs[name].store, clock=self.clock)
        return list(run.facts["findings"])


@pytest.fixture
async def hosts(tmp_path: Path, cluster: Database, seaweed: ObjectServer) -> AsyncIterator[Hosts]:
    world = World(tmp_path / "upstream")
    small(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    bucket = seaweed.make_bucket()
    with Simulator(world) as simulator:
        configs = {}
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            more = f"copies: [{{to: 's3://{bucket}/{name}', endpoint: '{seaweed.endpoint}'}}]\n"
            configs[name] = load(write_config(tmp_path / name, simulator, token, more=more))
        made = Hosts(cluster, world, configs, {**os.environ, **seaweed.environment()})
        await made.join()
        await made.backup("a")
        changes(world)
        await made.backup("a")
        yield made


async def test_a_repository_moves_to_another_shard_that_goes_on_with_it(hosts: Hosts) -> None:
    await hosts.ask()
    await hosts.tend("b")
    assert await hosts.state() == ("wanted", "a")
    await hosts.tend("a")
    assert await hosts.state() == ("sent", None)
    assert hosts.snapshots("a") is None and hosts.snapshots("b") is None
    assert (
        await hosts.findings("a"),
        len(list((hosts.configs["a"].store / layout.QUARANTINE).iterdir())),
    ) == ([], 1)
    await hosts.tend("b")
    assert await hosts.state() == ("arrived", "b")
    assert hosts.snapshots("b") == 2
    again(hosts.world)
    await hosts.backup("b")
    assert hosts.snapshots("b") == 3
    assert await hosts.findings("b") == []
    async with hosts.database.session() as connection:
        rows = await connection.execute("SELECT shard FROM holdings")
        assert await rows.fetchall() == [("b",)]


async def test_a_dead_hosts_repositories_come_from_its_copy(hosts: Hosts) -> None:
    await hosts.copy("a")
    again(hosts.world)
    await hosts.backup("a")  # which no copy has
    async with hosts.database.transaction() as connection:
        a = await moving.shard_called(connection, "a")
        with pytest.raises(UsageError, match="so its host is not dead"):
            await moving.give_up(connection, a, afresh=False)
    await hosts.kill("a")
    shutil.rmtree(hosts.configs["a"].store)
    async with hosts.database.transaction() as connection:
        a = await moving.shard_called(connection, "a")
        moved, left = await moving.give_up(connection, a, afresh=False)
    assert ([one.full_name for one in moved], left) == (["acme/website"], [])
    await hosts.tend("b")
    assert await hosts.state() == ("arrived", "b")
    assert hosts.snapshots("b") == 2
    async with hosts.database.session() as connection:
        [move] = await moving.moves(connection, [hosts.uuid])
        assert move.copied is not None  # and said
    await hosts.backup("b")
    assert hosts.snapshots("b") == 3
    assert await hosts.findings("b") == []


async def test_what_no_copy_has_is_mirrored_anew_only_when_confirmed(hosts: Hosts) -> None:
    await hosts.kill("a")
    async with hosts.database.transaction() as connection:
        a = await moving.shard_called(connection, "a")
        await connection.execute("UPDATE shards SET copy_to = NULL WHERE name = 'a'")
        a = replace(a, copy_to=None)
        assert [one.full_name for one in (await moving.give_up(connection, a, afresh=False))[1]] == [
            "acme/website"
        ]
        found = await overview(connection)
        assert found.exit_code == 3 and "was called dead and still has 1 repositories" in found.concerns[0]
    async with hosts.database.transaction() as connection:
        await moving.give_up(connection, a, afresh=True)
    async with hosts.database.session() as connection:
        rows = await connection.execute("SELECT shard FROM repositories")
        assert await rows.fetchall() == [("b",)]


async def test_an_empty_copy_fails_the_move_and_says_what_to_do(hosts: Hosts) -> None:
    await hosts.copy("b")  # a copy, but not of this
    await hosts.kill("a")
    async with hosts.database.transaction() as connection:
        await connection.execute("UPDATE shards SET copy_to = (SELECT copy_to FROM shards WHERE name = 'b')")
        await moving.give_up(connection, await moving.shard_called(connection, "a"), afresh=False)
    await hosts.tend("b")
    state, shard = await hosts.state()
    assert shard is None and state.startswith("failed: the copy of a has nothing of acme/website")
    async with hosts.database.transaction() as connection:
        assert await moving.start_afresh(connection, "a") == ["acme/website"]
    async with hosts.database.session() as connection:
        assert [one.shard for one in await moving.placed(connection)] == ["b"]


async def test_a_source_without_a_copy_or_that_is_away_sends_nothing(hosts: Hosts) -> None:
    await hosts.kill("a")
    with pytest.raises(UsageError, match="has not reported for"):
        await hosts.ask()
    async with hosts.database.session() as connection:
        await connection.execute("UPDATE shards SET copy_to = NULL, seen = now()")
    with pytest.raises(UsageError, match="has no copy"):
        await hosts.ask()


async def test_a_copy_that_cannot_be_reached_leaves_the_repository_where_it_is(hosts: Hosts) -> None:
    config = hosts.configs["a"]
    entry = replace(config.copies[0], endpoint="http://127.0.0.1:9")
    hosts.configs["a"] = replace(config, copies=(entry,))
    await hosts.ask()
    await hosts.tend("a")
    assert hosts.snapshots("a") == 2
    state, shard = await hosts.state()
    assert shard == "a" and state.startswith("wanted: the copy could not be brought up to date")
    async with hosts.database.session() as connection:
        found = await overview(connection)
    assert found.exit_code == 3
    assert "acme/website is held up on its way from a to b (wanted): the copy could" in found.concerns[0]
    hosts.configs["a"] = config
    await hosts.tend("a", "b")
    assert await hosts.state() == ("arrived", "b")


async def test_what_the_target_cannot_take_goes_back_and_may_be_moved_again(hosts: Hosts) -> None:
    await hosts.ask()
    await hosts.tend("a")
    hosts.refused["b"] = NOBODY.environment
    await hosts.tend("b")
    state, shard = await hosts.state()
    assert state.startswith("returning: ") and shard is None
    assert hosts.snapshots("a") is None and hosts.snapshots("b") is None
    await hosts.tend("b", "a")
    state, shard = await hosts.state()
    assert state.startswith("failed: ") and shard == "a"
    assert (hosts.snapshots("a"), hosts.quarantine("a")) == (2, 0)
    assert await hosts.rows("SELECT shard FROM holdings") == [("a",)]
    # It was nobody's for a while, so it is backed up at once.
    assert await hosts.rows("SELECT queue_name FROM procrastinate_jobs") == [("a",)]
    [text] = [one for one in await concerns(hosts) if "could not be moved" in one]
    assert "acme/website could not be moved from a to b" in text
    again(hosts.world)
    await hosts.backup("a")
    assert hosts.snapshots("a") == 3 and await hosts.findings("a") == []
    hosts.refused.clear()
    await hosts.ask()
    await hosts.tend("a", "b")
    assert await hosts.state() == ("arrived", "b") and hosts.snapshots("b") == 3
    assert await hosts.findings("a") == [] and await hosts.findings("b") == []


async def test_what_was_never_backed_up_moves_without_a_folder(hosts: Hosts) -> None:
    hosts.uuid = "new"
    async with hosts.database.session() as connection:
        await connection.execute("UPDATE repositories SET uuid = 'new'; DELETE FROM holdings")
    await hosts.ask()
    await hosts.tend("a")
    assert await hosts.state() == ("arrived", "b")
    assert await hosts.rows("SELECT queue_name FROM procrastinate_jobs") == [("b",)]
    # One that is on its way already goes back to whom it belongs.
    async with hosts.database.session() as connection:
        await connection.execute(
            "UPDATE moves SET state = 'sent'; UPDATE repositories SET shard = NULL;"
            " DELETE FROM procrastinate_jobs"
        )
    await hosts.copy("a")
    await hosts.tend("b", "a")
    state, shard = await hosts.state()
    assert state.startswith("failed: the copy of a has nothing of acme/website") and shard == "a"


async def test_a_disk_that_is_full_once_the_folder_has_left_loses_nothing(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def then_full(work: Callable[..., object]) -> Callable[..., object]:
        def fill(*given: object) -> None:
            work(*given)
            raise OSError(errno.ENOSPC, "No space left on device")

        return fill

    await hosts.ask()
    with monkeypatch.context() as full:
        full.setattr("mirror.cluster.carrying.put_away", then_full(put_away))
        await hosts.tend("a")
    assert hosts.snapshots("a") is None and hosts.quarantine("a") == 1
    state, shard = await hosts.state()
    assert state.startswith("wanted: ") and shard is None  # else a would mirror it anew
    await hosts.tend("a")
    hosts.refused["b"] = NOBODY.environment
    await hosts.tend("b")
    with monkeypatch.context() as full:
        full.setattr("mirror.cluster.carrying.bring_back", then_full(bring_back))
        await hosts.tend("a")
    assert hosts.snapshots("a") == 2
    await hosts.tend("a")
    state, shard = await hosts.state()
    assert state.startswith("failed: ") and shard == "a" and hosts.snapshots("a") == 2


async def concerns(hosts: Hosts) -> list[str]:
    async with hosts.database.session() as connection:
        return (await overview(connection)).concerns


async def test_a_move_goes_on_without_a_host_that_is_called_dead(hosts: Hosts) -> None:
    async with hosts.database.session() as connection:
        await connection.execute(
            "INSERT INTO shards (name, weight, store_id, host, program) VALUES ('c', 1, 'c', 'c', '1')"
        )
    # The target dies: the folder goes back.
    await hosts.ask()
    await hosts.tend("a")
    assert await hosts.state() == ("sent", None)
    assert await hosts.give_up("b") == []
    await hosts.tend("a")
    assert await hosts.state() == ("failed: the shard b was called dead", "a") and hosts.snapshots("a") == 2
    # The source dies before it sent anything new: the copy is what there is.
    async with hosts.database.transaction() as connection:
        await connection.execute("UPDATE shards SET retired = NULL, seen = now()")
    await hosts.ask()
    assert await hosts.give_up("a", "b") == ["acme/website"]
    assert await hosts.state() == ("sent", None)
    # What cannot be fetched is told, and the next call tries it again.
    hosts.refused["b"] = NOBODY.environment
    await hosts.tend("a", "b")
    state, shard = await hosts.state()
    assert state.startswith("failed: ") and shard is None
    hosts.refused.clear()
    assert await hosts.give_up("a", "b") == ["acme/website"]
    # The target dies as well, and the third host is to have it.
    assert await hosts.give_up("b") == []
    assert await hosts.rows("SELECT state, target FROM moves") == [("sent", "c")]
    with pytest.raises(UsageError, match="the shard b was called dead"):
        await hosts.give_up("a", "b")
    # Both die, the target first: what was to go back goes to the third host as well.
    async with hosts.database.session() as connection:
        await connection.execute(
            "UPDATE moves SET state = 'returning', target = 'b', is_dead = false;"
            " UPDATE shards SET retired = NULL WHERE name = 'a'"
        )
    await hosts.give_up("a")
    assert await hosts.rows("SELECT state, target FROM moves") == [("sent", "c")]


async def test_a_source_that_was_called_dead_while_it_sent_changes_nothing(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hosts.copy("a")
    await hosts.ask()
    real = carrying.depart

    async def is_stopped_for_long(*args: Any, **kwargs: Any) -> object:
        done = await real(*args, **kwargs)
        await hosts.give_up("a")
        await hosts.tend("b")
        return done

    monkeypatch.setattr(mover, "depart", is_stopped_for_long)
    await hosts.tend("a")
    assert await hosts.state() == ("arrived", "b")
    assert hosts.snapshots("a") is None and hosts.snapshots("b") == 2


async def test_a_shard_that_comes_back_from_the_dead_puts_its_folders_aside(hosts: Hosts) -> None:
    await hosts.copy("a")
    again(hosts.world)
    await hosts.backup("a")  # which no copy has
    await hosts.give_up("a")
    store = hosts.configs["a"].store

    async def come_back() -> ShardState:
        await put_aside(hosts.database, store, "a", hosts.clock)
        async with hosts.database.session() as connection:
            found = await overview(connection)
        told = found.to_json()["returned"]
        assert [(one["name"], one["host"]) for one in told] == [("a", "host-a")]
        return found.shards[0]

    # As long as nobody has it, it stays.
    found = await come_back()
    assert (found.shard.aside, found.shard.alone, hosts.snapshots("a")) == (0, 1, 3)
    assert "1 repository of it no other shard has" in found.concerns[-1]
    await hosts.tend("b")
    assert hosts.snapshots("b") == 2
    for _ in range(2):
        found = await come_back()
        assert (found.shard.aside, found.shard.alone, hosts.snapshots("a")) == (1, 0, None)
    assert "1 folder that others have now lie" in found.concerns[-1]
    [aside] = (store / layout.QUARANTINE).iterdir()
    assert (aside / layout.LEDGER_FILE).is_file()
    assert await hosts.findings("a") == [] and await hosts.findings("b") == []
    reason = await ClusterBrake(hosts.database, "a").obstacle(hosts.world.workspaces["acme"].uuid)
    assert reason is not None
