"""The rows of `mirror status` that other shards told: never good where nobody heard of them lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mirror.browse import RepositoryStatus
from mirror.browse.status import UNKNOWN
from mirror.cluster.database import Connection
from mirror.cluster.overview import unknown_since
from mirror.cluster.shards import shards
from mirror.model import Selector, time_text


async def other_rows(connection: Connection, shard: str) -> tuple[list[RepositoryStatus], list[str]]:
    """The rows of all repositories of other shards, and what there is to say of shards that are unknown.

    Of a shard that is unknown, or was called dead, it is not known either how its repositories are.
    """
    known = {one.name: one for one in await shards(connection) if one.name != shard}
    rows = await connection.execute(
        "SELECT shard, content FROM status_rows WHERE shard <> %s AND kind = 'repository' ORDER BY 1, place",
        [shard],
    )
    placed = await connection.execute("SELECT full_name, shard FROM repositories WHERE shard IS NOT NULL")
    homes = dict(await placed.fetchall())
    found, said = [], []
    for name, one in known.items():
        since = one.retired or unknown_since(one)
        if since is not None and name in homes.values():
            said.append(f"the shard {name} is unknown since {time_text(since)}")
    for name, content in await rows.fetchall():
        row, since = RepositoryStatus.from_json(content), known[name].retired or unknown_since(known[name])
        if homes.get(row.name, name) != name:
            continue  # it has moved since
        if since is not None:
            row = replace(row, state=UNKNOWN + time_text(since), last_confirmed=None, last_complete=None)
        found.append(row)
    return found, said


def matching(rows: Sequence[RepositoryStatus], selectors: Sequence[Selector]) -> list[RepositoryStatus]:
    """The rows that selectors match, or all."""
    return [one for one in rows if not selectors or any(_is(selector, one) for selector in selectors)]


def _is(selector: Selector, row: RepositoryStatus) -> bool:
    workspace, _, slug = row.name.partition("/")
    return selector.matches_workspace(workspace) and selector.matches_repository(slug, row.folder)
