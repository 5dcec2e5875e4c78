"""A backup by hand of one host of a cluster: its own shard's part, within the same budget; or what that would
be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mirror import backup
from mirror.backup.listing import Listing, list_scope
from mirror.cluster import schema
from mirror.cluster.brakes import ClusterBrake
from mirror.cluster.database import Connection, Database
from mirror.cluster.discovery import known_names, share_out
from mirror.cluster.leases import ClusterLeases
from mirror.cluster.placement import Named, place_all, report_holdings
from mirror.cluster.shards import Me, register, shards
from mirror.cluster.stores import held_by, me_of
from mirror.config import Config
from mirror.connect import budget_of
from mirror.model import EVERYTHING, Clock, Progress, Run, RunEntry, Selector

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
        await join(database, config, host, program)
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


async def dry_run(
    config: Config,
    selectors: Sequence[Selector],
    *,
    host: str,
    program: str,
    clock: Clock,
    environment: Mapping[str, str],
) -> Run:
    """What `run` would back up. Nothing is written, nor placed. The fact `elsewhere` says how many of what
    was chosen belong to each other shard; "": to none, as they are on their way, or in several stores. Raises
    as `run`."""
    assert config.cluster is not None
    shard, database = config.cluster.shard, Database.of(config, environment)
    leases = ClusterLeases(database, shard, clock)
    budget = budget_of(config, clock, leases=leases)
    try:
        async with database.session() as connection:
            await schema.check(connection)
        found = await backup.run(
            config, selectors, clock=clock, environment=environment, budget=budget, dry_run=True
        )
        held = await asyncio.to_thread(held_by, config)
        me = me_of(config, host, program, None)
        async with (
            database.transaction(seconds=_PLACING_SECONDS) as connection,
            connection.transaction(force_rollback=True),
        ):
            homes = await _would_place(connection, me, held, found.entries)
        mine = tuple(one for one in found.entries if homes[one.uuid.lower()] == shard)
        others = Counter(home or "" for home in homes.values() if home != shard)
        return replace(found, entries=mine, facts={**found.facts, "elsewhere": dict(others)})
    finally:
        await budget.settle()
        await leases.finish()
        await database.close()


async def _would_place(
    connection: Connection, me: Me, held: Sequence[Named], entries: Sequence[RunEntry]
) -> dict[str, str | None]:
    """Where repositories belong, once what is new is placed; within a transaction that is rolled back."""
    if me.name not in {one.name for one in await shards(connection)}:
        await register(connection, me)
        await report_holdings(connection, me.name, held)
    return await place_all(connection, [Named(one.uuid.lower(), "", one.full_name) for one in entries])


async def join(database: Database, config: Config, host: str, program: str) -> None:
    """Register this host's shard, and report what its store has. From now on new repositories are placed
    there too, whether its daemon runs or not. Raises NoStore, and as `register`."""
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
