"""The budget that hosts share, with a real PostgreSQL."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from mirror.cluster.database import Database, DatabaseDown
from mirror.cluster.leases import LEASE_SECONDS, MARGIN_SECONDS, ClusterLeases
from mirror.model.leases import Lease
from tests.clock import FakeClock, HeldClock
from tests.cluster.clusters import database_at
from tests.cluster.postgres import Postgres

ME = "user {me}"


def lender(database: Database, shard: str = "a", *, reserve: int = 0, limit: int = 1000) -> ClusterLeases:
    return ClusterLeases(database, shard, HeldClock(), reserve=reserve, limit=limit)


async def pass_time(database: Database, seconds: float) -> None:
    """Let so much time pass for what was lent."""
    async with database.session() as connection:
        await connection.execute("UPDATE lent SET at = at - make_interval(secs => %s)", [seconds])
        await connection.execute(
            "UPDATE budgets SET blocked_until = blocked_until - make_interval(secs => %s),"
            " inferred_until = inferred_until - make_interval(secs => %s)",
            [seconds, seconds],
        )


async def test_hosts_that_borrow_at_once_stay_within_the_limit(cluster: Database, cluster_url: str) -> None:
    databases = [cluster, *(database_at(cluster_url) for _ in range(2))]
    lenders = [lender(one, str(number), limit=100, reserve=10) for number, one in enumerate(databases)]

    async def borrow(one: ClusterLeases) -> int:
        leases = [await one.lease(ME, "api", 7, spares=False) for _ in range(10)]
        return sum(lease.requests for lease in leases)

    assert sum(await asyncio.gather(*(borrow(one) for one in lenders))) == 90
    refused = await lenders[0].lease(ME, "api", 1, spares=False)
    assert refused.requests == 0
    assert 3600 <= refused.again <= 3600 + LEASE_SECONDS + MARGIN_SECONDS
    hour = lenders[0].hour(ME, "api", spares=False)
    assert (hour.used, hour.limit, hour.free) == (90, 100, 0) and hour.again > 3500
    # Others' groups and identities are counted apart, and nobody's identity is written down.
    assert (await lenders[0].lease(ME, "files", 7, spares=False)).requests == 7
    assert (await lenders[0].lease("other", "api", 7, spares=False)).requests == 7
    async with cluster.session() as connection:
        rows = await connection.execute("SELECT identity FROM budgets")
        assert not [row for row in await rows.fetchall() if ME in row[0] or len(row[0]) != 64]
    # The hour rolls: a minute later than the last use could have been.
    await pass_time(cluster, 3600 + LEASE_SECONDS)
    assert (await lenders[1].lease(ME, "api", 50, spares=False)).requests == 0
    await pass_time(cluster, MARGIN_SECONDS + 1)
    assert (await lenders[1].lease(ME, "api", 50, spares=False)).requests == 50
    for one in databases[1:]:
        await one.close()


async def test_who_spares_leaves_a_quarter(cluster: Database) -> None:
    one = lender(cluster, limit=100)
    assert (await one.lease(ME, "api", 1000, spares=True)).requests == 75
    assert (await one.lease(ME, "api", 1, spares=True)).requests == 0
    assert one.hour(ME, "api", spares=True).free == 0 and one.hour(ME, "api", spares=False).free == 25
    assert (await one.lease(ME, "api", 1000, spares=False)).requests == 25


async def test_what_is_given_back_may_be_lent_again(cluster: Database) -> None:
    one = lender(cluster, limit=50)
    lease = await one.lease(ME, "api", 50, spares=False)
    assert lease.until == LEASE_SECONDS + one._clock.monotonic()
    await one.give_back(ME, "api", lease, 30)
    assert (await one.lease(ME, "api", 50, spares=False)).requests == 30
    # The 20 may have been sent at the end of the lease, and count so long.
    await pass_time(cluster, 3600 + MARGIN_SECONDS + 1)
    assert (await one.lease(ME, "api", 50, spares=False)).requests == 0
    await pass_time(cluster, LEASE_SECONDS)
    again = await one.lease(ME, "api", 50, spares=False)
    assert again.requests == 50
    await one.give_back(ME, "api", again, 50)
    await one.give_back(ME, "api", Lease(0), 0)
    assert (await one.lease(ME, "api", 50, spares=False)).requests == 50


async def test_limits_and_refusals_are_known_to_all(cluster: Database) -> None:
    one, other = lender(cluster, "a"), lender(cluster, "b")
    await one.lease(ME, "api", 100, spares=False)
    one.learn(ME, "api", limit=500, remaining=350)  # 50 were sent by others
    await one.finish()
    assert (await other.lease(ME, "api", 1000, spares=False)).requests == 350
    assert other.hour(ME, "api", spares=False).limit == 500
    one.block(ME, "api", 300)
    assert one.hour(ME, "api", spares=False).blocked == 300
    await one.finish()
    await pass_time(cluster, 0)
    refused = await other.lease(ME, "api", 1, spares=False)
    assert refused.requests == 0 and 200 < refused.again <= 300
    assert other.hour(ME, "api", spares=False).blocked > 200


async def test_a_limit_that_no_header_tells_is_inferred_for_an_hour(cluster: Database) -> None:
    one = lender(cluster)
    await one.lease(ME, "api", 80, spares=False)
    one.block(ME, "api", 0)
    await one.finish()
    await one.lease(ME, "api", 1, spares=False)
    assert one.hour(ME, "api", spares=False).limit == 80
    await pass_time(cluster, 3700)
    assert (await one.lease(ME, "api", 2000, spares=False)).requests == 1000


async def test_an_outage_is_waited_out_and_a_long_one_is_told(cluster: Database, postgres: Postgres) -> None:
    one = ClusterLeases(cluster, "a", FakeClock())
    await one.lease(ME, "api", 1, spares=False)
    postgres.stop()
    try:
        with pytest.raises(DatabaseDown):
            await one.lease(ME, "api", 1, spares=False)
        await one.give_back(ME, "api", Lease(1, math.inf, 0, "1"), 1)
        one.learn(ME, "api", limit=7, remaining=7)
        await one.finish()
    finally:
        postgres.start()
    assert (await one.lease(ME, "api", 1, spares=False)).requests == 1


async def test_what_an_outage_kept_from_being_told_is_told_later(
    cluster: Database, postgres: Postgres
) -> None:
    one, other = ClusterLeases(cluster, "a", FakeClock()), lender(cluster, "b")
    await one.lease(ME, "api", 1, spares=False)
    postgres.stop()
    try:
        one.learn(ME, "api", limit=500, remaining=400)
        await one.finish()
    finally:
        postgres.start()
    await one.lease(ME, "api", 1, spares=False)
    one.learn(ME, "api", limit=500, remaining=350)
    await one.finish()
    assert (await other.lease(ME, "api", 1000, spares=False)).requests == 350


async def test_a_refusal_holds_here_before_it_is_written_and_is_written_after_an_outage(
    cluster: Database, postgres: Postgres
) -> None:
    one, other = ClusterLeases(cluster, "a", RealSleep()), lender(cluster, "b")
    await one.lease(ME, "api", 1, spares=False)
    postgres.stop()
    try:
        one.block(ME, "api", 600)
        await asyncio.sleep(0.2)
    finally:
        postgres.start()
    # Whatever is first: to write it, or to borrow.
    refused = await one.lease(ME, "api", 1, spares=False)
    assert refused.requests == 0 and 500 < refused.again <= 600
    assert one.hour(ME, "api", spares=False).blocked > 500
    await one.finish()
    assert (await other.lease(ME, "api", 1, spares=False)).requests == 0


class RealSleep(FakeClock):
    """Sleeps for a moment."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.05)
        await super().sleep(seconds)


async def test_a_long_outage_costs_each_request_one_try(cluster: Database, postgres: Postgres) -> None:
    clock = FakeClock()
    one = ClusterLeases(cluster, "a", clock)
    postgres.stop()
    try:
        for _ in range(3):
            with pytest.raises(DatabaseDown):
                await one.lease(ME, "api", 1, spares=False)
    finally:
        postgres.start()
    assert clock.elapsed == 60
    assert (await one.lease(ME, "api", 1, spares=False)).requests == 1


async def test_a_database_whose_clock_was_set_back_stops_nobody_for_long(cluster: Database) -> None:
    one = lender(cluster, limit=10)
    await one.lease(ME, "api", 10, spares=False)
    one.block(ME, "api", 3600)
    await one.finish()
    await pass_time(cluster, -86400)
    other = lender(cluster, "b", limit=10)
    assert (await other.lease(ME, "api", 1, spares=False)).again <= 3600
    await pass_time(cluster, 3601)
    refused = await lender(cluster, "c", limit=10).lease(ME, "api", 1, spares=False)
    assert refused.requests == 0 and refused.again <= 3600 + LEASE_SECONDS + MARGIN_SECONDS
    await pass_time(cluster, 3600 + LEASE_SECONDS + MARGIN_SECONDS + 1)
    last = lender(cluster, "d", limit=10)
    assert (await last.lease(ME, "api", 10, spares=False)).requests == 10


class Borrower:
    """A host that borrows. Its rights are sent at any moment before their leases end, however late the answer
    came that lent them."""

    def __init__(self, database: Database, name: str, clock: FakeClock, chance: random.Random) -> None:
        self._leases = ClusterLeases(database, name, clock, limit=LIMIT)
        self._clock, self._chance = clock, chance
        self._lease, self._unsent = Lease(0), 0
        # Until when each right that was taken may be sent.
        self._rights: list[float] = []

    async def borrow(self) -> Lease:
        """As `Budget` does it: what is left of the last lease goes back first."""
        await self.give_back()
        self._lease = await self._leases.lease(ME, "api", self._chance.randint(5, 40), spares=False)
        self._unsent = self._lease.requests
        return self._lease

    def take(self) -> None:
        """Give some of the lease to callers, who send later."""
        if self._clock.monotonic() < self._lease.until:
            count = self._chance.randint(self._unsent // 2, self._unsent)
            self._unsent -= count
            self._rights += [self._lease.until] * count

    async def give_back(self) -> None:
        if self._unsent:
            await self._leases.give_back(ME, "api", self._lease, self._unsent)
            self._unsent = 0

    def send(self, share: float) -> int:
        """Send some of the rights that have not run out; returns how many."""
        self._rights = [until for until in self._rights if self._clock.monotonic() < until]
        chosen = [until for until in self._rights if self._chance.random() < share]
        for one in chosen:
            self._rights.remove(one)
        return len(chosen)

    def next_end(self) -> float | None:
        """When the first right runs out."""
        return min((until for until in self._rights if until > self._clock.monotonic()), default=None)

    def die(self) -> None:
        """It forgets what it was lent."""
        self._lease, self._unsent, self._rights = Lease(0), 0, []


LIMIT = 60


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_borrowers_do_no_hour_has_more_than_the_limit(cluster: Database, seed: int) -> None:
    chance, clock = random.Random(seed), FakeClock()
    hosts = [Borrower(cluster, name, clock, chance) for name in "abc"]
    sent: list[float] = []

    async def pass_by(seconds: float) -> None:
        clock.elapsed += seconds
        await pass_time(cluster, seconds)

    for _ in range(240):
        host = chance.choice(hosts)
        what = chance.choice(("borrow", "borrow", "borrow", "give back", "wait", "last"))
        if what == "borrow":
            lease = await host.borrow()
            host.take()
            if not lease.requests:  # the next one is lent as early as can be
                sent += [clock.monotonic()] * sum(one.send(0.5) for one in hosts)
                ends = [end for one in hosts if (end := one.next_end()) is not None]
                await pass_by(min([lease.again + 0.01, *(end - clock.monotonic() - 0.1 for end in ends)]))
        elif what == "give back":
            await host.give_back()
        elif what == "wait":
            await pass_by(chance.choice((1.0, 5.0, 20.0)))
        elif (end := host.next_end()) is not None:
            await pass_by(end - clock.monotonic() - 0.1)
            sent += [clock.monotonic()] * sum(one.send(1.0) for one in hosts)
        if chance.random() < 0.02:
            host.die()
    assert len(sent) > 2 * LIMIT
    spans = [late - early for early, late in zip(sent, sent[LIMIT:], strict=False)]
    assert min(spans) >= 3600, f"{LIMIT + 1} requests within {min(spans)} s"
