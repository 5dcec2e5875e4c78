"""A shard that a person called dead comes back: what others have by now is put aside, and nothing is lost.

Its store may have snapshots that its copy had not, so each folder goes to the quarantine, where somebody may
compare it. What no other shard has stays where it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from mirror.cluster.carrying import put_aside as put_folder_aside
from mirror.cluster.database import Connection, Database
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock
from mirror.store.reading.reader import RepositoryFolder, Store
from mirror.store.writing.moving import quarantined

_log = get_logger("cluster")


async def put_aside(database: Database, store_path: Path, shard: str, clock: Clock) -> None:
    """Put into the quarantine what other shards have by now of what this store has, and tell the cluster. A
    folder that is in use, or damaged, is left to the next call. Raises what the database raises."""
    async with database.session() as connection:
        homes = await _homes(connection, shard)
    held, _ = await asyncio.to_thread(_held, store_path, homes)
    for folder in held:
        home = homes.get(folder.uuid.lower())
        if home is None:
            continue
        try:
            await put_folder_aside(store_path, folder.uuid, to=home, clock=clock)
        except (MirrorError, OSError) as error:
            _log.warning("cluster.not_put_aside", repository=folder.full_name, reason=str(error))
        else:
            hint = f"{home} goes on with it; what this folder alone has stays in quarantine/"
            _log.warning("cluster.put_aside", repository=folder.full_name, now_at=home, hint=hint)
    held, aside = await asyncio.to_thread(_held, store_path, homes)
    alone = [one for one in held if one.uuid.lower() not in homes]
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE shards SET returned = now(), aside = %s, alone = %s WHERE name = %s",
            [aside, len(alone), shard],
        )


async def _homes(connection: Connection, shard: str) -> Mapping[str, str]:
    """By uuid, the shards that have a folder of what is placed there."""
    rows = await connection.execute(
        "SELECT uuid, shard FROM repositories JOIN holdings USING (uuid, shard) WHERE shard <> %s", [shard]
    )
    return dict(await rows.fetchall())


def _held(store_path: Path, homes: Mapping[str, str]) -> tuple[list[RepositoryFolder], int]:
    """What a store holds, and how many folders in its quarantine others have too."""
    with Store.open(store_path) as store:
        held = store.repositories(on_damage=lambda _: None)
        return list(held), sum(uuid.lower() in homes for uuid, _ in quarantined(store))
