"""The brake over shards: small losses in each store add up, one release counts for all, unknown is not 0."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror import backup, prune
from mirror.cluster.brakes import ClusterBrake, Row, merge, merge_brakes
from mirror.cluster.database import Database
from mirror.config import Config, load
from mirror.model import Run, Selector
from mirror.model.elsewhere import Tally
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.format.brake import Brake, Loss, Release, loss_to_json
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock
from tests.cluster.postgres import Postgres
from tests.e2e.helpers import write_config

NOW = datetime(2026, 11, 23, 2, tzinfo=UTC)
LOSS = Loss("refs", "acme", 28, 22, NOW)
ACCEPTED = Release(LOSS, "ann", NOW)


def row(*, is_released: bool = False, by: str | None = None, loss: Loss = LOSS) -> Row:
    return Row(1, loss_to_json(loss), is_released, by)


def test_a_loss_is_told_taken_over_and_released() -> None:
    tripped, empty = Brake(losses=(LOSS,)), Brake()
    assert merge(tripped, []).tell == [loss_to_json(LOSS)]
    assert merge(empty, [row()]).take == [LOSS]
    assert merge(tripped, [row(is_released=True, by="ann")]).release == [(LOSS, "ann")]
    assert merge(Brake(releases=(ACCEPTED,)), [row()]).release_rows == [(1, "ann")]
    for settled in (
        merge(tripped, [row()]),
        merge(empty, [row(is_released=True, by="ann")]),
        merge(Brake(releases=(ACCEPTED,)), [row(is_released=True, by="ann")]),
    ):
        assert not (settled.tell or settled.take or settled.release or settled.release_rows)


def test_of_two_shards_that_found_the_same_loss_one_is_believed() -> None:
    mine = replace(LOSS, at=datetime(2026, 11, 23, 3, tzinfo=UTC))
    found = merge(Brake(losses=(mine,)), [row()])
    assert found.tell == [] and found.take == [LOSS]
    # A later one, after the first was accepted, is one of its own.
    again = merge(Brake(losses=(mine,), releases=(ACCEPTED,)), [row(is_released=True, by="ann")])
    assert again.tell == [loss_to_json(mine)] and again.release == []


class Shards:
    """Two shards that hold one repository each of the workspace acme, with a branch for each of 14 names."""

    def __init__(self, folder: Path, world: World, configs: dict[str, Config], database: Database) -> None:
        self.folder, self.world, self.configs, self.database = folder, world, configs, database
        self.clock = FakeClock()

    @property
    def workspace(self) -> str:
        return self.world.workspaces["acme"].uuid

    async def join(self) -> None:
        async with self.database.session() as connection:
            for name in self.configs:
                uuid = self.world.workspaces["acme"].repositories[f"shop-{name}"].uuid
                await connection.execute(
                    "INSERT INTO shards (name, weight, store_id, host, program, interval_seconds)"
                    " VALUES (%s, 1, %s, 'host', 'mirror', 3600)",
                    [name, f"store-{name}"],
                )
                await connection.execute(
                    "INSERT INTO repositories (uuid, workspace_uuid, full_name, shard)"
                    " VALUES (%s, %s, %s, %s)",
                    [uuid.lower(), self.workspace.lower(), f"acme/shop-{name}", name],
                )

    async def backup(self, name: str, *, is_part: bool = False) -> Run:
        """Back up what a shard has, as its part of the list that was shared out, or by hand."""
        self.clock.elapsed += 600
        if is_part:
            await self._parts("began", name)
        run = await backup.run(
            self.configs[name], [], clock=self.clock, environment=os.environ, elsewhere=self.other(name)
        )
        if is_part:
            await self._parts("ended", name)
        return run

    async def share_out(self) -> None:
        """Give each shard its part of a list."""
        async with self.database.session() as connection:
            await connection.execute(
                "INSERT INTO parts (job, shard, size) SELECT 'backup', name, 1 FROM shards"
            )

    async def _parts(self, what: str, shard: str) -> None:
        async with self.database.session() as connection:
            await connection.execute(
                f"UPDATE parts SET {what} = now() WHERE shard = %s AND ended IS NULL", [shard]
            )

    async def contact(self, *names: str) -> None:
        for name in names:
            await merge_brakes(self.database, self.configs[name].store, name, self.clock)

    async def prune(self, name: str) -> Run:
        return await prune.prune(
            self.configs[name], [], clock=self.clock, environment=os.environ, elsewhere=self.other(name)
        )

    def other(self, name: str) -> ClusterBrake:
        return ClusterBrake(self.database, name)

    async def age(self, name: str, seconds: int) -> None:
        async with self.database.session() as connection:
            await connection.execute(
                "UPDATE tallies SET reported = reported - make_interval(secs => %s) WHERE shard = %s",
                [seconds, name],
            )

    def lose(self, name: str, *branches: int) -> None:
        repository = self.world.workspaces["acme"].repositories[f"shop-{name}"]
        for number in branches:
            repository.delete_ref(b"refs/heads/b%d" % number)

    def losses(self, name: str) -> list[str]:
        with Store.open(self.configs[name].store) as store:
            [home] = store.workspaces()
            return [one.what for one in home.brake().losses]


@pytest.fixture
async def shards(tmp_path: Path, cluster: Database) -> AsyncIterator[Shards]:
    world = World(tmp_path / "upstream")
    acme = world.add_workspace("acme", "Acme")
    for name in ("a", "b"):
        shop = acme.add_repository(f"shop-{name}")
        for number in range(14):
            shop.commit(f"b{number}", {"a.txt": b"%d\n" % number}, "One\n", parents=())
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        configs = {}
        for name in ("a", "b"):
            place = tmp_path / name
            place.mkdir()
            more = "retention: {keep_last: 1}\nbrake: {share: 10%, at_least: 5}\n"
            path = write_config(place, simulator, token, more=more)
            text = path.read_text()
            include = f"  - workspace: acme\n    include: [shop-{name}]\n"
            path.write_text(text.replace("  - workspace: acme\n", include, 1))
            configs[name] = load(path)
            create_or_open(configs[name].store, now=NOW).close()
        made = Shards(tmp_path, world, configs, cluster)
        await made.join()
        yield made


def _codes(run: Run) -> set[int]:
    return {problem.code for problem in run.all_problems}


async def test_small_losses_of_two_shards_trip_the_brake_of_both(shards: Shards) -> None:
    for name in ("a", "b"):
        assert _codes(await shards.backup(name)) == set()
    shards.lose("a", 1, 2, 3)
    assert _codes(await shards.backup("a")) == set()
    shards.lose("b", 1, 2, 3)
    run = await shards.backup("b")
    assert run.exit_code == 5 and "refs fell from" in run.problems[0].text
    assert shards.losses("b") == ["refs"] and shards.losses("a") == []
    # Before the other shard hears of it, its prune asks.
    await shards.contact("b")
    [reason] = {one.facts["reason"] for one in (await shards.prune("a")).entries}
    assert "refs fell from" in reason and "the shard b found it" in reason
    await shards.contact("a")
    assert shards.losses("a") == ["refs"]
    assert {5} == _codes(await shards.prune("a")) == _codes(await shards.prune("b"))

    # Accepted on a, it is released on b, and no later run finds it again.
    await prune.accept_loss(shards.configs["a"].store, Selector("acme"), by="ann", clock=shards.clock)
    await shards.contact("a", "b", "a")
    assert shards.losses("a") == shards.losses("b") == []
    for name in ("a", "b", "a"):
        assert _codes(await shards.backup(name)) == set()
        await shards.contact("a", "b", "a")
    assert shards.losses("a") == shards.losses("b") == []
    assert _codes(await shards.prune("a")) == set()


async def test_what_is_back_releases_itself_on_both_but_not_while_one_is_silent(shards: Shards) -> None:
    for name in ("a", "b"):
        await shards.backup(name)
    repository = shards.world.workspaces["acme"].repositories["shop-a"]
    names = (b"refs/heads/b1", b"refs/heads/b2", b"refs/heads/b3")
    before = {name: repository.refs()[name] for name in names}
    other = shards.world.workspaces["acme"].repositories["shop-b"]
    others = {name: other.refs()[name] for name in names}
    for name in ("a", "b"):
        shards.lose(name, 1, 2, 3)
        await shards.backup(name)
        await shards.contact("a", "b", "a")
    assert shards.losses("a") == shards.losses("b") == ["refs"]
    for ref, value in before.items():
        repository.set_ref(ref, value)
    await shards.backup("a")
    assert shards.losses("a") == ["refs"]  # those of b are missing still
    for ref, value in others.items():
        other.set_ref(ref, value)
    await shards.age("a", 7300)
    await shards.backup("b")
    assert shards.losses("b") == ["refs"]  # a was not heard of for two intervals
    await shards.backup("a")
    await shards.contact("a", "b", "a")
    assert shards.losses("a") == shards.losses("b") == []


async def test_a_shard_that_is_silent_blocks_prune_everywhere(shards: Shards) -> None:
    await shards.backup("a")
    [reason] = {one.facts["reason"] for one in (await shards.prune("a")).entries if one.kind == "repository"}
    assert reason == "the shard b never reported, so what it lost is not known"
    await shards.backup("b")
    assert _codes(await shards.prune("a")) == set()
    await shards.age("b", 7300)
    run = await shards.prune("a")
    assert _codes(run) == {75}
    assert "the shard b has not reported since 20" in run.entries[-1].facts["reason"]


async def test_what_was_lost_here_stays_until_the_others_have_ended_their_parts(shards: Shards) -> None:
    """Else prune would drop what shows a loss that only the sum calls one of many."""
    for name in ("a", "b"):
        assert _codes(await shards.backup(name)) == set()
        shards.lose(name, 1, 2, 3)
    await shards.share_out()
    assert _codes(await shards.backup("a", is_part=True)) == set()
    run = await shards.prune("a")
    assert _codes(run) == {75}
    assert "ended their part of the same list: b" in run.entries[-1].facts["reason"]
    assert _codes(await shards.prune("b")) == set()  # which knows of no loss of its own
    # That b reports, as after a visit that a hook caused, says nothing of the rest of its part.
    async with shards.database.session() as connection:
        await connection.execute("UPDATE tallies SET reported = now() WHERE shard = 'b'")
    assert _codes(await shards.prune("a")) == {75}
    assert 5 in _codes(await shards.backup("b", is_part=True))
    await shards.contact("b", "a")
    assert 5 in _codes(await shards.prune("a"))
    await prune.accept_loss(shards.configs["a"].store, Selector("acme"), by="ann", clock=shards.clock)
    await shards.contact("a", "b")
    assert _codes(await shards.prune("a")) == _codes(await shards.prune("b")) == set()


async def test_a_small_loss_is_pruned_once_all_parts_have_ended(shards: Shards) -> None:
    for name in ("a", "b"):
        await shards.backup(name)
    await shards.share_out()
    assert _codes(await shards.backup("b", is_part=True)) == set()
    shards.lose("a", 1)
    assert _codes(await shards.backup("a", is_part=True)) == set()
    # The last to end its part does not wait for the next list.
    assert _codes(await shards.prune("a")) == _codes(await shards.prune("b")) == set()
    # Of the next list, b has not even begun its part; a has lost no more.
    await shards.share_out()
    assert _codes(await shards.backup("a", is_part=True)) == set()
    assert _codes(await shards.prune("a")) == set()


async def test_without_the_database_nothing_is_pruned_and_nothing_released(
    shards: Shards, postgres: Postgres
) -> None:
    for name in ("a", "b"):
        await shards.backup(name)
        shards.lose(name, 1, 2, 3)
        await shards.backup(name)
    await shards.contact("a", "b", "a")
    postgres.stop()
    try:
        assert 5 in _codes(await shards.backup("a"))
        shards_of = await shards.other("a").exchange(shards.workspace, {"refs": Tally(1)})
        assert not shards_of.is_whole
        reason = await shards.other("a").obstacle(shards.workspace)
        assert reason is not None and reason.startswith("it is not known what the other shards lost")
    finally:
        postgres.start()
    assert shards.losses("a") == ["refs"]


async def test_a_database_that_is_made_again_learns_of_tripped_brakes(shards: Shards) -> None:
    for name in ("a", "b"):
        await shards.backup(name)
        shards.lose(name, 1, 2, 3)
        await shards.backup(name)
    await shards.contact("a", "b", "a")
    async with shards.database.session() as connection:
        await connection.execute("DELETE FROM brakes")
    await shards.contact("b", "a")
    async with shards.database.session() as connection:
        rows = await (await connection.execute("SELECT what FROM brakes WHERE released IS NULL")).fetchall()
    assert rows == [("refs",)]


async def test_in_a_cluster_a_command_that_asked_nobody_prunes_nothing(shards: Shards) -> None:
    from mirror.auth.secrets import SecretSource
    from mirror.config.cluster import ClusterConfig

    await shards.backup("a")
    source = SecretSource("env", "DATABASE")
    config = replace(shards.configs["a"], cluster=ClusterConfig(source, "a", 1))
    run = await prune.prune(config, clock=shards.clock, environment=os.environ)
    assert {one.facts["reason"] for one in run.entries if one.kind == "repository"} == {
        "it is not known what the other hosts of the cluster lost"
    }


async def test_what_left_a_shard_is_not_counted_twice(shards: Shards) -> None:
    for name in ("a", "b"):
        await shards.backup(name)
    before = await shards.other("b").exchange(shards.workspace, {})
    assert before.of("refs").was == 14
    async with shards.database.session() as connection:
        await connection.execute("UPDATE repositories SET shard = 'b'")
    after = await shards.other("b").exchange(shards.workspace, {})
    assert after.of("refs") == Tally() and after.is_whole


async def test_no_shard_begins_a_second_folder(shards: Shards, postgres: Postgres) -> None:
    """What was listed for a shard may have moved away when its turn comes."""
    place = shards.configs["a"].store / "workspaces"

    async def problem(shard: str | None) -> str:
        async with shards.database.session() as connection:
            await connection.execute(
                "UPDATE repositories SET shard = %s WHERE full_name = 'acme/shop-a'", [shard]
            )
        run = await shards.backup("a")
        [entry] = [one for one in run.entries if one.kind == "repository"]
        assert (str(entry.outcome), run.exit_code) == ("failed", 75)
        assert not list(place.glob("*/repositories/*"))
        return entry.problems[0].text

    assert "it belongs to b now" in await problem("b")
    assert "it is on its way" in await problem(None)
    postgres.stop()
    try:
        run = await shards.backup("a")
        assert "not known whether another shard has it" in run.entries[0].problems[0].text
    finally:
        postgres.start()
    assert not list(place.glob("*/repositories/*"))
    async with shards.database.session() as connection:
        await connection.execute("UPDATE repositories SET shard = 'a' WHERE full_name = 'acme/shop-a'")
    assert _codes(await shards.backup("a")) == set()
    # Once there is a folder, the database is not needed for it.
    postgres.stop()
    try:
        assert {str(one.outcome) for one in (await shards.backup("a")).entries} == {"confirmed"}
    finally:
        postgres.start()
