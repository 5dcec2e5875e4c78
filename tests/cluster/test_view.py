"""The page and the metrics of one host of a cluster show what the others have, and where."""

from __future__ import annotations

import os
from dataclasses import replace

from starlette.applications import Starlette

from mirror.cluster.database import Database
from mirror.cluster.operations import Contact
from mirror.cluster.view import View
from mirror.config import Config
from mirror.store.writing.writer import create_or_open
from mirror.web import make_app
from tests.clock import FakeClock
from tests.cluster.test_by_hand import held, run
from tests.cluster.test_host import RealClock, config_of
from tests.place import Place
from tests.web.helpers import access, client_of


def page_of(config: Config, url: str) -> Starlette:
    view = View(config, FakeClock(), {**os.environ, "DATABASE": url})
    return make_app(
        config.store, clock=RealClock(), access=access(FakeClock()), config=config, cluster=view.look
    )


async def ask(app: Starlette, path: str, *, status: int = 200) -> str:
    async with client_of(app) as browser:
        found = await browser.get(path)
        assert found.status_code == status, found.text
        return found.text


def values(text: str, metric: str) -> dict[str, float]:
    """The samples of a metric, by their labels."""
    lines = (line for line in text.splitlines() if line.startswith(metric))
    return {line.rpartition(" ")[0].removeprefix(metric): float(line.rpartition(" ")[2]) for line in lines}


async def written(cluster: Database) -> dict[tuple[str, str, str], str]:
    """By the key of each row of a status, which transaction wrote it."""
    async with cluster.session() as connection:
        rows = await connection.execute("SELECT shard, kind, place, xmin::text FROM status_rows")
        return {(shard, kind, place): by for shard, kind, place, by in await rows.fetchall()}


async def test_every_host_shows_the_whole_cluster(place: Place, cluster_url: str, cluster: Database) -> None:
    environment = {**os.environ, "DATABASE": cluster_url}
    one, other = (config_of(place, name) for name in "ab")
    for config in (one, other):
        create_or_open(config.store, now=RealClock().now()).close()
    await run(one, environment)
    await run(other, environment)  # takes part from now on
    for slug in ("new-1", "new-2"):
        place.acme.add_repository(slug).commit("main", {"a": b"a\n"}, "Begin")
    for config in (one, other):
        await run(config, environment)
    page = page_of(one, cluster_url)
    assert "(2 not told yet)" in await ask(page, "/")
    told = {}
    for name, config in (("a", one), ("b", other)):
        contact = Contact(cluster, name, RealClock(), environment)
        await contact._push_rows(config)
        told[name] = await ask(page_of(config, cluster_url), "/metrics")
    page = page_of(one, cluster_url)
    text = await ask(page, "/")
    count = len(held(one)) + len(held(other))
    assert f"{count} repositories" in text and "not told yet" not in text
    for slug in (*held(one), *held(other)):
        assert f'href="/repositories/acme/{slug}"' in text
    # A run that finds nothing new writes one row at most, and a start none.
    await run(other, environment)  # what was saved is confirmed
    await Contact(cluster, "b", RealClock(), environment)._push_rows(other)
    before = await written(cluster)
    await run(other, environment)
    await Contact(cluster, "b", RealClock(), environment)._push_rows(other)
    after = await written(cluster)
    assert {key for key in after if after[key] != before.get(key)} <= {("b", "confirmed", "")}
    await Contact(cluster, "b", RealClock(), environment)._push_rows(other)
    assert await written(cluster) == after and after.keys() == before.keys()
    # What is elsewhere is no 404.
    text = await ask(page, "/repositories/acme/new-1")
    assert 'in the store of the shard <b>b</b>, on the host <b dir="auto">here</b>' in text
    assert "less than a minute ago" in text and "none: what this shard holds is lost with its disk" in text
    await ask(page, "/repositories/acme/nothing", status=404)
    # Summed over the hosts, each repository counts once; of the cluster each host tells the same.
    each = [values(text, "mirror_repository_snapshots") for text in told.values()]
    assert len(each[0]) + len(each[1]) == count and not each[0].keys() & each[1].keys()
    spaces = [values(text, "mirror_workspace_counted_from_timestamp_seconds") for text in told.values()]
    assert [len(found) for found in spaces] == [1, 0]
    shards = [values(text, "mirror_shard_repositories") for text in told.values()]
    assert shards[0] == shards[1] == {'{shard="a"}': len(held(one)), '{shard="b"}': 2}
    assert values(told["a"], "mirror_cluster_known") == {"": 1}
    # Where the database is away the others are unknown, and no zero.
    page = page_of(replace(one), "postgresql:///nowhere?host=/nonexistent")
    text = await ask(page, "/")
    assert "The other shards are unknown" in text and "This is the shard a alone" in text
    assert 'href="/repositories/acme/website"' in text and "new-1" not in text
    text = await ask(page, "/repositories/acme/new-1", status=404)
    assert "Whether another shard has it is not known: the cluster" in text
    text = await ask(page, "/metrics")
    assert values(text, "mirror_cluster_known") == {"": 0} and not values(text, "mirror_shard")
    assert values(text, "mirror_repository_snapshots") == each[0]
