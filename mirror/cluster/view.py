"""The cluster for a host's page and metrics: asked for when somebody looks, and not more often than helps."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from mirror.browse import RepositoryStatus
from mirror.browse.cluster import ClusterSeen, ShardSeen
from mirror.cluster.database import Connection, Database
from mirror.cluster.overview import Overview, ShardState, overview
from mirror.cluster.rows import other_rows
from mirror.config import Config
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock

# What was seen is believed for so many seconds. So many it takes at most to be connected and to read what
# shards there are, and so many more to read the rows of all repositories.
BELIEVED_SECONDS, PATIENCE_SECONDS, ROWS_SECONDS = 10.0, 5.0, 25.0

_log = get_logger("cluster")


class View:
    """Looks at the cluster of a configuration. Several threads may, none of which runs an event loop."""

    def __init__(self, config: Config, clock: Clock, environment: Mapping[str, str]) -> None:
        assert config.cluster is not None
        self._config, self._shard = config, config.cluster.shard
        self._clock, self._environment = clock, environment
        self._lock = threading.Lock()
        self._seen: ClusterSeen | None = None
        self._at = float("-inf")

    def look(self) -> ClusterSeen:
        """What there is to see. Never raises, and takes some seconds at most: where the database cannot be
        asked, that is what there is to see."""
        with self._lock:
            if self._seen is None or self._clock.monotonic() >= self._at + BELIEVED_SECONDS:
                try:
                    self._seen = asyncio.run(self._ask())
                except (MirrorError, OSError) as error:
                    reason = error.message if isinstance(error, MirrorError) else str(error)
                    reason = reason or "the cluster's database does not answer"
                    _log.info("cluster.not_seen", reason=reason)
                    self._seen = ClusterSeen(self._shard, trouble=reason)
                self._at = self._clock.monotonic()
            return self._seen

    async def _ask(self) -> ClusterSeen:
        database = Database.of(self._config, self._environment)
        try:
            async with (
                asyncio.timeout(PATIENCE_SECONDS) as patience,
                database.session(seconds=PATIENCE_SECONDS + ROWS_SECONDS) as connection,
            ):
                found = await overview(connection)
                patience.reschedule(asyncio.get_running_loop().time() + ROWS_SECONDS)
                rows, _ = await other_rows(connection, self._shard)
                homes = await _homes(connection, self._shard)
                return ClusterSeen(
                    self._shard, shards=tuple(_shards(found, rows, homes, self._shard)), rows=tuple(rows),
                    homes=homes, discovered=await _discovered(connection), concerns=tuple(found.own_concerns),
                )  # fmt: skip
        finally:
            await database.close()


def _shards(
    found: Overview, rows: Sequence[RepositoryStatus], homes: Mapping[str, str], mine: str
) -> list[ShardSeen]:
    told = Counter(homes.get(row.name) for row in rows)
    return [_shard(one, 0 if one.shard.name == mine else told[one.shard.name], mine) for one in found.shards]


def _shard(one: ShardState, told: int, mine: str) -> ShardSeen:
    untold = 0 if one.shard.name == mine else max(0, one.repositories - told)
    return ShardSeen(
        one.shard.name, one.state, one.shard.host, one.shard.seen, one.repositories, untold, one.running,
        one.waiting, tuple(one.shard.copies), tuple(one.concerns),
    )  # fmt: skip


async def _homes(connection: Connection, mine: str) -> dict[str, str]:
    rows = await connection.execute(
        "SELECT full_name, shard FROM repositories WHERE shard IS NOT NULL AND shard <> %s", [mine]
    )
    return dict(await rows.fetchall())


async def _discovered(connection: Connection) -> datetime | None:
    """When a discovery of the schedule last began."""
    rows = await connection.execute(
        "SELECT max(due) FROM discoveries WHERE job <> 'new' AND due > '-infinity'"
    )
    row = await rows.fetchone()
    return None if row is None else row[0]
