"""The other hosts of a cluster, for commands that ask them what they lost, and for the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mirror.cli.context import Context
from mirror.config import Config
from mirror.model.elsewhere import Elsewhere

if TYPE_CHECKING:
    from mirror.web.context import LookAtCluster


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


def view_of(context: Context, config: Config) -> LookAtCluster | None:
    """What a page shows of the configuration's cluster; None where it has none."""
    if config.cluster is None:
        return None
    from mirror.cluster.view import View

    return View(config, context.clock, context.environment).look
