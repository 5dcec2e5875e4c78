"""What a shard does at each contact with the cluster beside its jobs: brakes, rows of its status, moves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping

from psycopg.types.json import Jsonb

from mirror import browse
from mirror.browse.folder_facts import FolderFacts
from mirror.cluster.brakes import merge_brakes
from mirror.cluster.database import Connection, Database
from mirror.cluster.mover import Mover
from mirror.cluster.rows import rows_of
from mirror.config import Config
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, JsonObject, dumps
from mirror.store.reading.reader import Store

_log = get_logger("cluster")
_Key = tuple[str, str]


class Contact:
    """Tells the cluster what this shard's store is like, and does what others ask of it. `run` it again and
    again, one at a time; each step may be killed."""

    def __init__(self, database: Database, shard: str, clock: Clock, environment: Mapping[str, str]) -> None:
        self._database, self._shard = database, shard
        self._clock, self._environment = clock, environment
        self._facts = FolderFacts()
        self._told_at: str | None = None
        self._told: dict[_Key, str] | None = None

    async def run(self, config: Config) -> None:
        """Do it once, by this configuration. What fails is logged, and tried again the next time."""
        for work in (self._merge, self._push_rows, self._move):
            try:
                await work(config)
            except (MirrorError, OSError) as error:
                text = error.message if isinstance(error, MirrorError) else str(error)
                _log.warning("cluster.contact_failed", what=work.__name__.strip("_"), reason=text)

    async def _move(self, config: Config) -> None:
        await Mover(self._database, config, self._shard, self._clock, self._environment).tend()

    async def _merge(self, config: Config) -> None:
        await merge_brakes(self._database, config.store, self._shard, self._clock)

    async def _push_rows(self, config: Config) -> None:
        """Tell the rows of `mirror status` that changed, after each run."""
        with Store.open(config.store) as store:
            last = store.last_run()
        if last is None or last.id == self._told_at:
            return
        rows = await asyncio.to_thread(self._rows, config)
        marks = {key: _mark(row) for key, row in rows.items()}
        async with self._database.transaction(seconds=120) as connection:
            told = self._told if self._told is not None else await self._told_before(connection)
            changed = [key for key, mark in marks.items() if told.get(key) != mark]
            async with connection.cursor() as cursor:
                await cursor.executemany(
                    "DELETE FROM status_rows WHERE shard = %s AND kind = %s AND place = %s",
                    [(self._shard, *key) for key in told.keys() - marks.keys()],
                )
                await cursor.executemany(
                    "INSERT INTO status_rows (shard, kind, place, content) VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT (shard, kind, place) DO UPDATE SET content = EXCLUDED.content",
                    [(self._shard, *key, Jsonb(rows[key])) for key in changed],
                )
        self._told, self._told_at = marks, last.id

    def _rows(self, config: Config) -> dict[_Key, JsonObject]:
        """The rows of this store's status, by kind and folder."""
        return rows_of(browse.status(config.store, (), self._facts))

    async def _told_before(self, connection: Connection) -> dict[_Key, str]:
        """The marks of what an earlier process told."""
        rows = await connection.execute(
            "SELECT kind, place, content FROM status_rows WHERE shard = %s", [self._shard]
        )
        return {(kind, place): _mark(content) for kind, place, content in await rows.fetchall()}


def _mark(row: JsonObject) -> str:
    return hashlib.sha256(dumps(row)).hexdigest()
