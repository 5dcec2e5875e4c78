"""A backup by hand on one host of a cluster, and what the service of a host says of the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mirror.bitbucket.client.budget import Budget
from mirror.cluster import by_hand
from mirror.cluster.database import Database
from mirror.cluster.shards import Me, register
from mirror.config import Config
from mirror.daemon.clustered import Clustered
from mirror.daemon.jobs import Means
from mirror.daemon.live import ServiceLive
from mirror.daemon.schedule import jobs_of
from mirror.daemon.state import State
from mirror.daemon.timetable import Timetable
from mirror.errors import UsageError
from mirror.model import EVERYTHING, NoProgress, Run, Scope
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.cluster.test_host import RealClock, config_of
from tests.place import Place


async def run(config: Config, environment: Mapping[str, str]) -> Run:
    return await by_hand.run(
        config, (), host="here", program="0", clock=RealClock(), environment=environment, full=False,
        lock_wait=0.0, progress=NoProgress(),
    )  # fmt: skip


def held(config: Config) -> set[str]:
    with Store.open(config.store) as store:
        return {one.slug for one in store.repositories()}


async def test_it_backs_up_what_belongs_to_this_shard(
    place: Place, cluster_url: str, cluster: Database
) -> None:
    environment = {**os.environ, "DATABASE": cluster_url}
    one, other = (config_of(place, name) for name in "ab")
    for config in (one, other):
        create_or_open(config.store, now=RealClock().now()).close()
    done = await run(one, environment)
    assert done.exit_code == 0 and held(one) == set(place.acme.repositories)
    # Another shard takes part from now on: what is new goes there, as it has nothing yet.
    await run(other, environment)
    for slug in ("new-1", "new-2"):
        place.acme.add_repository(slug).commit("main", {"a": b"a\n"}, "Begin")
    asked = len(place.simulator.requests)
    would = await by_hand.dry_run(
        one, (), host="here", program="0", clock=RealClock(), environment=environment
    )
    assert {each.full_name for each in would.entries} == {f"acme/{slug}" for slug in held(one)}
    assert would.facts["elsewhere"] == {"b": 2} and held(other) == set()
    assert len(place.simulator.requests) - asked == would.facts["requests"]
    async with cluster.session() as connection:  # nothing was placed
        rows = await connection.execute("SELECT 1 FROM repositories WHERE full_name LIKE 'acme/new%'")
        assert await rows.fetchall() == []
    runs = [await run(config, environment) for config in (one, other, one)]
    assert [each.exit_code for each in runs] == [0, 0, 0]
    assert held(other) == {"new-1", "new-2"}
    assert not held(one) & held(other)
    async with cluster.session() as connection:
        rows = await connection.execute("SELECT shard, count(*) FROM holdings GROUP BY shard ORDER BY shard")
        assert await rows.fetchall() == [("a", len(held(one))), ("b", 2)]
        await connection.execute("UPDATE shards SET retired = now() WHERE name = 'b'")
    with pytest.raises(UsageError, match="called dead"):
        await run(other, environment)


async def test_another_store_under_the_name_of_a_shard_is_refused(
    place: Place, cluster_url: str, cluster: Database
) -> None:
    async with cluster.session() as connection:
        await register(connection, Me("a", 1, "another", "there", "0"))
    config = config_of(place, "a")
    create_or_open(config.store, now=RealClock().now()).close()
    with pytest.raises(UsageError, match="the shard a is another store"):
        await run(config, {**os.environ, "DATABASE": cluster_url})


async def test_the_service_is_not_ready_while_it_is_cut_off(place: Place) -> None:
    config = config_of(place, "a")
    create_or_open(config.store, now=RealClock().now()).close()
    environment = {**os.environ, "DATABASE": "postgresql:///nowhere?host=/nonexistent"}
    clock, nothing = RealClock(), Any
    cluster = Clustered(config, clock, environment)
    budget = Budget(clock, leases=cluster.leases)
    means = Means(config, clock, environment, budget, elsewhere=cluster.elsewhere)

    async def nobody(_scope: Scope, _listed: object) -> Run | None:
        raise AssertionError

    cluster.take_part(means, jobs_of(config), nobody, lambda: None)
    await cluster.start()
    try:
        timetable = Timetable(config, lambda *_: None, lambda: None, cluster.next_times)
        state = State(clock.now(), clock.now())
        live = ServiceLive(means, state, timetable, nothing, cluster)  # type: ignore[arg-type]
        (why,) = live.not_ready()
        assert why.startswith("cut off from the cluster: the cluster's database cannot be used")
        timetable.plan(config, state, clock.now())
        assert EVERYTHING.job("backup") not in timetable.next_times()
        cluster.check(replace(config, limits=replace(config.limits, api_reserve=7)))
        for changed in (replace(config, cluster=None), replace(config, store=place.folder / "other")):
            with pytest.raises(UsageError, match="another one now"):
                cluster.check(changed)
    finally:
        await cluster.stop()
