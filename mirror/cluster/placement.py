"""Which shard a repository belongs to.

A new one goes to the shard that has the fewest for its weight. What stores hold already stays where it is:
so the placement can be made again from the stores. What two stores hold belongs to nobody until a person
settles it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirror.cluster.database import Connection
from mirror.errors import TryLater
from mirror.model import Problem

# The key of the advisory lock under which repositories are placed.
_LOCK = 0x706C616365


@dataclass(frozen=True)
class Named:
    """A repository, by its uuid in lower case, with its workspace's uuid and its full name."""

    uuid: str
    workspace_uuid: str
    full_name: str


def place(uuids: Iterable[str], held: Mapping[str, int], weights: Mapping[str, int]) -> dict[str, str]:
    """A shard for each uuid: one after the other to the shard that has the fewest for its weight.

    `held` are how many each shard has, `weights` the weight of each that takes part. Raises TryLater where
    there is no shard."""
    counts = {name: held.get(name, 0) for name in weights}
    found = {}
    for uuid in sorted(set(uuids)):
        if not counts:
            raise TryLater("the cluster has no shard that could take a new repository")
        chosen = min(counts, key=lambda name: ((counts[name] + 1) / weights[name], name))
        counts[chosen] += 1
        found[uuid] = chosen
    return found


async def place_all(connection: Connection, named: Sequence[Named]) -> dict[str, str | None]:
    """Where each of these repositories belongs: its shard, or None where it is on its way from one shard to
    another, or where two stores hold it. New ones are placed. Within the caller's transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    found: dict[str, str | None] = dict(await _rows(connection, "SELECT uuid, shard FROM repositories"))
    new = {one.uuid: one for one in named if one.uuid not in found}
    held = dict(await _rows(connection, "SELECT shard, count(*) FROM repositories GROUP BY shard"))
    shards = await _rows(connection, "SELECT name, weight FROM shards WHERE retired IS NULL")
    placed = place(new, held, dict(shards)) if new else {}
    await _insert(connection, [(new[uuid], shard) for uuid, shard in placed.items()])
    found.update(placed)
    for uuid, _ in await conflicts(connection):
        if uuid in found:
            found[uuid] = None
    wanted = {one.uuid for one in named}
    return {uuid: shard for uuid, shard in found.items() if uuid in wanted}


async def _insert(connection: Connection, placed: Sequence[tuple[Named, str]]) -> None:
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO repositories (uuid, workspace_uuid, full_name, shard) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (uuid) DO NOTHING",
            [(one.uuid, one.workspace_uuid, one.full_name, shard) for one, shard in placed],
        )


async def place_workspaces(
    connection: Connection, uuids: Iterable[str], shards: Sequence[str]
) -> dict[str, str]:
    """The shard that backs up what is the workspace's own, for each of these workspaces: always the same,
    as long as it takes part. Within the caller's transaction."""
    found = dict(await _rows(connection, "SELECT uuid, shard FROM workspaces"))
    for uuid in sorted(set(uuids)):
        if found.get(uuid) not in shards and shards:
            held = await _rows(
                connection,
                "SELECT shard FROM repositories WHERE workspace_uuid = %s AND shard = ANY (%s)"
                " GROUP BY shard ORDER BY min(placed), shard LIMIT 1",
                [uuid, list(shards)],
            )
            found[uuid] = held[0][0] if held else shards[0]
            await connection.execute(
                "INSERT INTO workspaces (uuid, shard) VALUES (%s, %s)"
                " ON CONFLICT (uuid) DO UPDATE SET shard = EXCLUDED.shard",
                [uuid, found[uuid]],
            )
    return found


async def report_holdings(connection: Connection, shard: str, held: Sequence[Named]) -> None:
    """Report what a shard's store holds, all of it. What no shard has yet is placed there. Within the
    caller's transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    await connection.execute(
        "DELETE FROM holdings WHERE shard = %s AND NOT uuid = ANY (%s)", [shard, [one.uuid for one in held]]
    )
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO holdings (shard, uuid, workspace_uuid, full_name) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (shard, uuid) DO UPDATE SET workspace_uuid = EXCLUDED.workspace_uuid,"
            " full_name = EXCLUDED.full_name",
            [(shard, one.uuid, one.workspace_uuid, one.full_name) for one in held],
        )
        # A name is what the store that holds it says.
        await cursor.execute(
            "UPDATE repositories SET workspace_uuid = h.workspace_uuid, full_name = h.full_name"
            " FROM holdings AS h WHERE h.uuid = repositories.uuid AND h.shard = %s"
            " AND repositories.shard = %s AND (repositories.workspace_uuid, repositories.full_name)"
            " IS DISTINCT FROM (h.workspace_uuid, h.full_name)",
            [shard, shard],
        )
    await _insert(connection, [(one, shard) for one in held])
    # Placed elsewhere while nobody knew that this store holds it, and nothing is there yet.
    await connection.execute(
        "UPDATE repositories AS r SET shard = %s FROM holdings AS h WHERE h.shard = %s AND h.uuid = r.uuid"
        " AND r.shard IS DISTINCT FROM %s AND r.shard IS NOT NULL AND NOT EXISTS"
        " (SELECT FROM holdings AS o WHERE o.uuid = r.uuid AND o.shard <> %s)",
        [shard, shard, shard, shard],
    )


async def conflicts(connection: Connection) -> list[tuple[str, list[str]]]:
    """The repositories that several stores hold: the uuid, and the shards."""
    rows = await _rows(
        connection,
        "SELECT uuid, array_agg(shard ORDER BY shard) FROM holdings GROUP BY uuid HAVING count(*) > 1"
        " ORDER BY uuid",
    )
    return [(uuid, list(shards)) for uuid, shards in rows]


async def contested(connection: Connection, shard: str) -> dict[str, Problem]:
    """Why nothing may be written to folders that a shard's store holds, by uuid."""
    rows = await _rows(
        connection,
        "SELECT h.uuid, r.shard, (SELECT array_agg(o.shard ORDER BY o.shard) FROM holdings AS o"
        " WHERE o.uuid = h.uuid) FROM holdings AS h LEFT JOIN repositories AS r USING (uuid)"
        " WHERE h.shard = %s AND (r.shard IS DISTINCT FROM h.shard"
        " OR EXISTS (SELECT FROM holdings AS o WHERE o.uuid = h.uuid AND o.shard <> h.shard))",
        [shard],
    )
    found = {}
    for uuid, owner, holders in rows:
        if len(holders) > 1:
            text = (
                f"the shards {' and '.join(holders)} both have a folder of it: nothing is written to either"
            )
            found[uuid] = Problem(1, text, hint="compare them, keep one, and move the other away")
        elif owner is None:
            found[uuid] = Problem(75, "it is on its way from one shard to another")
        else:
            found[uuid] = Problem(3, f"it belongs to the shard {owner} now")
    return found


async def owner_of(connection: Connection, uuid: str) -> str | None:
    """The shard whose store a repository may be written to; None where there is none."""
    rows = await _rows(
        connection,
        "SELECT shard, (SELECT count(*) FROM holdings AS h WHERE h.uuid = r.uuid) FROM repositories AS r"
        " WHERE uuid = %s",
        [uuid],
    )
    return rows[0][0] if rows and rows[0][1] <= 1 else None


async def _rows(connection: Connection, query: str, parameters: Sequence[object] = ()) -> list[Any]:
    found = await connection.execute(query.encode(), parameters)
    return list(await found.fetchall())
