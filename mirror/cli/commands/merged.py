"""The status of a whole cluster: that of this host's store, with the rows that other shards told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from mirror import browse
from mirror.browse import RepositoryStatus, Status
from mirror.browse.cluster import with_others
from mirror.cli.context import Context
from mirror.errors import MirrorError, UsageError

if TYPE_CHECKING:
    from mirror.config import Config


async def status_of(context: Context) -> tuple[Status, list[str]]:
    """The status, and what is not known of other shards; see `browse.status` for what it raises."""
    selectors = context.selectors()
    config = context.config_if_any() if context.options.store is None else None
    if config is None or config.cluster is None:
        return await asyncio.to_thread(browse.status, context.store(), selectors), []
    rows, unknown = await _others(context, config)
    try:
        found = await asyncio.to_thread(browse.status, context.store(), selectors)
    except UsageError:
        if not rows:
            raise
        everything = await asyncio.to_thread(browse.status, context.store())
        found = replace(everything, repositories=(), workspaces=())
    return with_others(found, rows), unknown


async def _others(context: Context, config: Config) -> tuple[list[RepositoryStatus], list[str]]:
    from mirror.cluster.database import Database
    from mirror.cluster.rows import matching, other_rows

    assert config.cluster is not None
    database = Database.of(config, context.environment)
    try:
        async with database.session() as connection:
            rows, unknown = await other_rows(connection, config.cluster.shard)
        return matching(rows, context.selectors()), unknown
    except MirrorError as error:
        return [], [f"what the other shards have is not known: {error.message}"]
    finally:
        await database.close()
