"""Commands by hand borrow of the same requests as the daemons, and go on where they cannot."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence

import pytest

from mirror.cluster.borrowing import borrowed
from mirror.cluster.database import Database
from mirror.simulator.rate_limits import group_of
from tests.cluster.test_host import RealClock, config_of
from tests.e2e.helpers import mirror
from tests.place import Place

NOWHERE = "postgresql:///nowhere?host=/nonexistent"
RESTORE = ("restore", "acme/website", "--to", "bitbucket:acme/website")
COMMANDS = (
    ("backup",),
    ("backup", "--dry-run"),
    ("doctor",),
    ("doctor", "--record", "answers"),
    ("hooks", "check"),
    ("diff", "acme/website", "latest", "upstream"),
    (*RESTORE, "--dry-run"),
    (*RESTORE, "--check"),
)


@pytest.fixture
def place(place: Place) -> Place:
    """The sample workspace, in the configuration of a host that has hooks."""
    path = place.folder / "config.yaml"
    with path.open("a") as config:
        config.write(
            "cluster: {database: {env: DATABASE}, shard: a}\n"
            "hooks: {listen: '127.0.0.1:9322', url: 'http://127.0.0.1:9', secret: {env: HOOKS}}\n"
        )
    return place


def run(place: Place, url: str, words: Sequence[str]) -> tuple[int, str, str]:
    environment = {"DATABASE": url, "HOOKS": "a-secret-of-the-hooks-0123456789"}
    done = mirror(*words, "-c", str(place.folder / "config.yaml"), env=environment, cwd=place.folder)
    return done.returncode, done.stdout, done.stderr


def asked(place: Place) -> Counter[str]:
    """The requests so far, by group of resources; those that no limit of the API counts left out."""
    groups = Counter(group_of(one.path) for one in tuple(place.simulator.requests) if one.identity)
    del groups["git"]
    return groups


async def lent(cluster: Database) -> dict[str, int]:
    async with cluster.session() as connection:
        rows = await connection.execute("SELECT resources, sum(count)::int FROM lent GROUP BY resources")
        return dict(await rows.fetchall())


async def _end_sessions(cluster: Database) -> None:
    """End the sessions of all others with the database, as a server does that is stopped."""
    async with cluster.session() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_every_command_borrows_each_request_that_it_sends(
    place: Place, cluster_url: str, cluster: Database
) -> None:
    before = asked(place)
    for words in COMMANDS:
        code, out, errors = run(place, cluster_url, words)
        assert code in (0, 1, 3, 4, 75) and "unexpected" not in errors, (words, out, errors)
        now = asked(place)
        assert now.total() > before.total(), words
        assert await lent(cluster) == dict(now), (words, out, errors)
        before = now
    code, out, errors = run(place, cluster_url, ("cluster", "status", "--json"))
    spent = {one["group"]: one for one in json.loads(out)["budgets"]}
    assert {one["credential"] for one in spent.values()} == {"workspaces[0].credential"}
    assert {group: one["used"] for group, one in spent.items()} == dict(before)
    token = place.folder / "token"
    secret = token.read_text()
    token.rename(place.folder / "away")
    code, unread, errors = run(place, cluster_url, ("cluster", "status"))
    (place.folder / "away").rename(token)
    assert f"a credential of other hosts ({spent['api']['identity'][:8]})" in unread
    assert "warning: workspaces[0].credential: " in unread and secret not in out + unread + errors
    # Where the database is away, a restore goes on, and the doctor says so.
    code, out, errors = run(place, NOWHERE, (*RESTORE, "--dry-run"))
    assert code == 0, (out, errors)
    assert "cluster.not_borrowed" in errors and "together they may pass the hour's limit" in errors
    code, out, errors = run(place, NOWHERE, ("doctor", "--json"))
    [told] = [one for one in json.loads(out)["checks"] if one["name"] == "cluster"]
    assert told["state"] == "warn" and "cannot be used" in told["text"]
    assert asked(place).total() > before.total() and await lent(cluster) == dict(before)
    assert run(place, NOWHERE, ("backup", "--dry-run"))[0] == 75
    # Others have spent the hour: nothing is sent.
    async with cluster.session() as connection:
        await connection.execute("UPDATE budgets SET requests_limit = 5")
        await connection.execute("UPDATE lent SET at = now()")
    before = asked(place)
    run(place, cluster_url, ("doctor",))
    assert asked(place) == before


async def test_what_the_cluster_lent_counts_on_where_the_database_goes_away(
    place: Place, cluster_url: str, cluster: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.cluster.leases.PATIENCE_SECONDS", 0.0)
    environment = {**os.environ, "DATABASE": cluster_url}
    async with borrowed(config_of(place, "a"), RealClock(), environment) as leases:
        leases.allow(reserve=0, limit=100)
        leases.learn("somebody", "api", limit=100, remaining=100)
        lease = await leases.lease("somebody", "api", 60, spares=False)
        assert lease.requests == 60 and lease.id
        environment["DATABASE"] = NOWHERE
        await _end_sessions(cluster)
        granted = 0
        while (own := await leases.lease("somebody", "api", 60, spares=False)).requests:
            assert not own.id
            granted += own.requests
        assert granted == 40 and leases.hour("somebody", "api", spares=False).free == 0
