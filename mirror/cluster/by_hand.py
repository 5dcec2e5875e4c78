"""A backup by hand of one host of a cluster: its own shard's part, within the same budget."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mirror import backup
from mirror.backup.listing import Listing, list_scope
from mirror.cluster import schema
from mirror.cluster.brakes import ClusterBrake
from mirror.cluster.database import Database
from mirror.cluster.discovery import known_names, share_out
from mirror.cluster.leases import ClusterLeases
from mirror.cluster.placement import report_holdings
from mirror.cluster.shards import register, shards
from mirror.cluster.stores import held_by, me_of
from mirror.config import Config
from mirror.connect import budget_of
from mirror.model import EVERYTHING, Clock, Progress, Run, Selector

# Placing many repositories may take so many seconds.
_PLACING_SECONDS = 300.0


async def run(
    config: Config,
    selectors: Sequence[Selector],
    *,
    host: str,
    program: str,
    clock: Clock,
    environment: Mapping[str, str],
    full: bool,
    lock_wait: float,
    progress: Progress,
) -> Run:
    """Back up what belongs to this host's shard, as `backup.run` does; new repositories are placed, here or
    elsewhere. Raises what that raises, and DatabaseDown, CredentialRefused and UsageError of the database."""
    assert config.cluster is not None
    shard, database = config.cluster.shard, Database.of(config, environment)
    leases = ClusterLeases(database, shard, clock)
    budget = budget_of(config, clock, leases=leases)
    try:
        await _join(database, config, host, program)
        listing = await list_scope(
            config, EVERYTHING, clock=clock, environment=environment, budget=budget,
            known=await known_names(database),
        )  # fmt: skip
        done = await backup.run(
            config, selectors, clock=clock, environment=environment, full=full, lock_wait=lock_wait,
            progress=progress, budget=budget, listed=await _own_part(database, listing, shard),
            elsewhere=ClusterBrake(database, shard),
        )  # fmt: skip
        async with database.transaction() as connection:
            await report_holdings(connection, shard, await asyncio.to_thread(held_by, config))
        return done
    finally:
        await leases.finish()
        await database.close()


async def _join(database: Database, config: Config, host: str, program: str) -> None:
    me = me_of(config, host, program, None)
    held = await asyncio.to_thread(held_by, config)
    async with database.session() as connection:
        await schema.check(connection)
        known = next((one for one in await shards(connection) if one.name == me.name), None)
        # The daemon knows its interval, which a command does not.
        await register(connection, me if known is None else replace(me, interval=known.interval_seconds))
    async with database.transaction() as connection:
        await report_holdings(connection, me.name, held)


async def _own_part(database: Database, listing: Listing, shard: str) -> Listing:
    async with database.transaction(seconds=_PLACING_SECONDS) as connection:
        taking = [one.name for one in await shards(connection) if one.retired is None]
        return (await share_out(connection, listing, taking))[shard]
