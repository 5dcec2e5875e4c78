"""The other hosts of a cluster, for commands that ask them what they lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mirror.cli.context import Context
from mirror.config import Config
from mirror.model.elsewhere import Elsewhere


@asynccontextmanager
async def elsewhere(context: Context, config: Config) -> AsyncIterator[Elsewhere | None]:
    """The other hosts of the configuration's cluster; None where it has none."""
    if config.cluster is None:
        yield None
        return
    from mirror.cluster.brakes import ClusterBrake
    from mirror.cluster.database import Database

    database = Database.of(config, context.environment)
    try:
        yield ClusterBrake(database, config.cluster.shard)
    finally:
        await database.close()
