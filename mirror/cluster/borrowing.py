"""The requests of a command by hand: borrowed from the cluster, or its own where the database is away.

A daemon waits for the database. A restore at night must not: it goes on alone and says so. Nobody else counts
what it sends then, so that Bitbucket's 429 is what holds everybody back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from mirror.bitbucket.client.local_leases import LocalLeases
from mirror.cluster.database import Database
from mirror.cluster.leases import ClusterLeases
from mirror.cluster.schema import check
from mirror.config import Config
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, UseJournal
from mirror.model.leases import Hour, Lease, Leases

_log = get_logger("cluster")


class Borrowed:
    """Lends what the cluster lends, until its database cannot be used; then what this process counts itself
    (the port `Leases`)."""

    def __init__(self, shared: ClusterLeases, clock: Clock) -> None:
        self._shared, self._own = shared, LocalLeases(clock)
        self._is_alone = False

    def go_alone(self, error: MirrorError) -> None:
        """Borrow no more, and say so. What is known of the hour goes on counting."""
        self._is_alone = True
        for identity, group, used, limit in self._shared.hours():
            self._own.learn(identity, group, limit=limit, remaining=limit - used)
        hint = "no other host counts what this command sends: together they may pass the hour's limit"
        _log.warning("cluster.not_borrowed", reason=error.message, hint=hint)

    @property
    def _now(self) -> Leases:
        return self._own if self._is_alone else self._shared

    async def lease(self, identity: str, group: str, want: int, *, spares: bool) -> Lease:
        """See `Leases.lease`. Never raises."""
        if not self._is_alone:
            try:
                return await self._shared.lease(identity, group, want, spares=spares)
            except MirrorError as error:
                self.go_alone(error)
        return await self._own.lease(identity, group, want, spares=spares)

    async def give_back(self, identity: str, group: str, lease: Lease, unused: int) -> None:
        """See `Leases.give_back`: to whom it belongs."""
        if lease.id:
            await self._shared.give_back(identity, group, lease, unused)

    def hour(self, identity: str, group: str, *, spares: bool) -> Hour:
        """See `Leases.hour`."""
        return self._now.hour(identity, group, spares=spares)

    def hours(self) -> Sequence[tuple[str, str, int, int]]:
        """See `Leases.hours`."""
        return self._now.hours()

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """See `Leases.learn`."""
        self._now.learn(identity, group, limit=limit, remaining=remaining)

    def block(self, identity: str, group: str, seconds: float) -> None:
        """See `Leases.block`: others are told as soon as the database can be reached."""
        self._own.block(identity, group, seconds)
        self._shared.block(identity, group, seconds)

    def allow(self, *, reserve: int, limit: int) -> None:
        """See `Leases.allow`."""
        self._own.allow(reserve=reserve, limit=limit)
        self._shared.allow(reserve=reserve, limit=limit)

    def share(self, journal: UseJournal) -> None:
        """See `Leases.share`: where the cluster does not lend, this host's other processes count."""
        self._own.share(journal)

    def settle(self) -> None:
        """See `Leases.settle`."""
        self._now.settle()


@asynccontextmanager
async def borrowed(config: Config, clock: Clock, environment: Mapping[str, str]) -> AsyncIterator[Borrowed]:
    """The requests of the cluster that `config` has, for a command. Where its database cannot be used,
    that is logged, and never raised."""
    assert config.cluster is not None
    database = Database.of(config, environment)
    shared = ClusterLeases(database, config.cluster.shard, clock)
    found = Borrowed(shared, clock)
    try:
        try:
            async with database.session() as connection:
                await check(connection)
        except MirrorError as error:
            found.go_alone(error)
        yield found
    finally:
        await shared.finish()
        await database.close()
