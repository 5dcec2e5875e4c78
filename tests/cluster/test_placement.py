"""Which shard a repository belongs to: the rule, and the table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mirror.cluster.database import Database
from mirror.cluster.placement import Named, conflicts, owner_of, place, place_all, report_holdings
from mirror.cluster.shards import Me, register
from mirror.errors import TryLater

NAMES = some.text("abcd", min_size=1, max_size=3)


@given(
    some.sets(some.text("0123456789abcdef", min_size=1, max_size=6), max_size=60),
    some.dictionaries(NAMES, some.integers(0, 40)),
    some.dictionaries(NAMES, some.integers(1, 9), min_size=1),
)
def test_new_ones_go_where_the_fewest_are_for_the_weight(
    uuids: set[str], held: dict[str, int], weights: dict[str, int]
) -> None:
    found = place(uuids, held, weights)
    assert found.keys() == uuids
    assert found == place(sorted(uuids, reverse=True), held, weights)
    assert set(found.values()) <= weights.keys()
    counts = {name: held.get(name, 0) + list(found.values()).count(name) for name in weights}
    for taker in set(found.values()):
        # The last one it took would have made every other shard at least as full.
        for other in weights:
            assert counts[taker] / weights[taker] <= (counts[other] + 1) / weights[other]


def test_without_a_shard_nothing_is_placed() -> None:
    assert place([], {}, {}) == {}
    with pytest.raises(TryLater, match="no shard"):
        place(["a"], {}, {})


def named(*uuids: str) -> list[Named]:
    return [Named(uuid, "{w}", f"acme/{uuid}") for uuid in uuids]


async def with_shards(database: Database, **weights: int) -> None:
    async with database.session() as connection:
        for name, weight in weights.items():
            await register(connection, Me(name, weight, f"store-{name}", "host", "0"))


async def placed(database: Database, *uuids: str) -> dict[str, str | None]:
    async with database.transaction() as connection:
        return await place_all(connection, named(*uuids))


async def holds(database: Database, shard: str, *uuids: str) -> None:
    async with database.transaction() as connection:
        await report_holdings(connection, shard, named(*uuids))


async def owner(database: Database, uuid: str) -> str | None:
    async with database.session() as connection:
        return await owner_of(connection, uuid)


async def test_a_place_is_kept(cluster: Database) -> None:
    await with_shards(cluster, a=1, b=2)
    first = await placed(cluster, *"123456")
    assert sorted(first.values(), key=str) == ["a", "a", "b", "b", "b", "b"]
    await with_shards(cluster, c=1)
    again = await placed(cluster, *"12345678")
    assert first.items() <= again.items()
    assert (again["7"], again["8"]) == ("c", "c")
    async with cluster.session() as connection:
        await connection.execute("UPDATE shards SET retired = now() WHERE name = 'c'")
        await connection.execute("UPDATE repositories SET shard = NULL WHERE uuid = '1'")
    assert (await placed(cluster, "1", "9"))["1"] is None
    assert await owner(cluster, "9") in ("a", "b") and await owner(cluster, "nowhere") is None


async def test_the_placement_is_made_again_from_the_stores(cluster: Database) -> None:
    await with_shards(cluster, a=1, b=1)
    # a's daemon came first, and a discovery placed what b's store holds before b could say so.
    await holds(cluster, "a", "1", "2", "3")
    assert (await placed(cluster, "1", "4", "5"))["1"] == "a"
    async with cluster.session() as connection:
        await connection.execute("UPDATE repositories SET shard = 'a' WHERE uuid = '4'")
    await holds(cluster, "b", "4", "6")
    found = await placed(cluster, *"123456")
    assert [found[uuid] for uuid in "12346"] == ["a", "a", "a", "b", "b"]


async def test_what_two_stores_hold_belongs_to_nobody_until_one_gives_it_up(cluster: Database) -> None:
    await with_shards(cluster, a=1, b=1)
    await holds(cluster, "a", "1", "2")
    await holds(cluster, "b", "2", "3")
    async with cluster.session() as connection:
        assert await conflicts(connection) == [("2", ["a", "b"])]
    assert await placed(cluster, "1", "2", "3") == {"1": "a", "2": None, "3": "b"}
    assert await owner(cluster, "2") is None and await owner(cluster, "3") == "b"
    await holds(cluster, "a", "1")
    await holds(cluster, "b", "2", "3")
    assert await placed(cluster, "2") == {"2": "b"} and await owner(cluster, "2") == "b"


async def test_a_store_says_how_its_repositories_are_called(cluster: Database) -> None:
    await with_shards(cluster, a=1)
    await placed(cluster, "1")
    async with cluster.transaction() as connection:
        await report_holdings(connection, "a", [Named("1", "{x}", "other/new-name")])
    async with cluster.session() as connection:
        rows = await connection.execute("SELECT workspace_uuid, full_name FROM repositories")
        assert await rows.fetchall() == [("{x}", "other/new-name")]
