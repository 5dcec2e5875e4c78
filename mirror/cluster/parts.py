"""What a discovery gave the shards to do: each one's part of the list, and how its run ended."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from dataclasses import dataclass

from procrastinate.manager import JobManager
from psycopg.types.json import Jsonb

from mirror.cluster.database import Connection
from mirror.cluster.jobs import PART, defer, part_lock
from mirror.model import JsonObject, Run

# A shard's older parts are kept for so many days, to tell how they ended.
_KEPT = "30 days"


@dataclass(frozen=True)
class Part:
    """A shard's part of the list for a job of the schedule. `age` is how many seconds ago it was made;
    `younger` are the repositories that were placed after the list was asked for."""

    id: int
    listed: JsonObject
    age: float = 0.0
    younger: frozenset[str] = frozenset()


async def give(
    connection: Connection, manager: JobManager, *, shard: str, job: str, listed: JsonObject, size: int
) -> None:
    """Give a shard its part of a list, which has `size` repositories, within the caller's transaction. It
    takes the place of one that waits."""
    await connection.execute(
        "DELETE FROM parts WHERE shard = %s AND job = %s AND (began IS NULL OR made < now() - %s::interval)",
        [shard, job, _KEPT],
    )
    await connection.execute(
        "INSERT INTO parts (job, shard, listed, size) VALUES (%s, %s, %s, %s)",
        [job, shard, zlib.compress(json.dumps(listed).encode()), size],
    )
    await defer(
        manager, connection, queue=shard, task=PART, lock=part_lock(shard, job), arguments={"job": job}
    )


async def take(connection: Connection, shard: str, job: str) -> Part | None:
    """Begin a shard's newest part that has not ended; None where there is none."""
    rows = await connection.execute(
        "UPDATE parts SET began = now() WHERE id = (SELECT id FROM parts WHERE shard = %s AND job = %s"
        " AND ended IS NULL ORDER BY id DESC LIMIT 1)"
        " RETURNING id, listed, extract(epoch FROM now() - made)::float8",
        [shard, job],
    )
    row = await rows.fetchone()
    if row is None or row[1] is None:
        return None
    # One that a killed process began before it is not worth doing any more.
    await connection.execute(
        "UPDATE parts SET ended = now(), listed = NULL WHERE shard = %s AND job = %s AND id < %s"
        " AND ended IS NULL",
        [shard, job, row[0]],
    )
    listed = json.loads(zlib.decompress(row[1]))
    rows = await connection.execute("SELECT uuid FROM repositories WHERE placed >= %s", [listed.get("asked")])
    return Part(row[0], listed, row[2], frozenset(one[0] for one in await rows.fetchall()))


async def end(connection: Connection, part: Part, run: Run | None) -> None:
    """Note how the run of a part ended; None: there was none, because of an error that the shard logged."""
    counts = Counter(str(entry.outcome) for entry in run.entries) if run is not None else {}
    await connection.execute(
        "UPDATE parts SET ended = now(), listed = NULL, run = %s, exit_code = %s, counts = %s WHERE id = %s",
        [
            run.id if run is not None else None,
            run.exit_code if run is not None else 1,
            Jsonb(dict(counts)),
            part.id,
        ],
    )
