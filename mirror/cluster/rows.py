"""The rows of `mirror status` that shards tell: never good where nobody heard of them lately.

When a repository was last confirmed changes with each run, and mostly nothing else does. So each shard has
one more row, which says that of all its repositories: a run that found nothing new writes this one alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from mirror.browse import RepositoryStatus, Status
from mirror.browse.status import UNKNOWN
from mirror.cluster.database import Connection
from mirror.cluster.overview import unknown_since
from mirror.cluster.schema import check
from mirror.cluster.shards import shards
from mirror.model import JsonObject, Selector, time_text

# The key of the row that says when repositories were confirmed: `at`, but for those in `but`, by folder.
CONFIRMED = ("confirmed", "")


def rows_of(found: Status) -> dict[tuple[str, str], JsonObject]:
    """The rows of a store's status, by kind and place."""
    rows = {("repository", one.folder): one.to_json() for one in found.repositories}
    times = {place: row.pop("last_confirmed") for (_, place), row in rows.items()}
    for row in rows.values():
        if row["last_snapshot"] is not None:  # then nobody asks, and each run writes something
            row["written"] = None
    [(at, _)] = Counter(times.values()).most_common(1) or [(None, 0)]
    rows[CONFIRMED] = {"at": at, "but": {place: time for place, time in times.items() if time != at}}
    rows.update({("workspace", one.name): one.to_json() for one in found.workspaces})
    return rows


async def other_rows(connection: Connection, shard: str) -> tuple[list[RepositoryStatus], list[str]]:
    """The rows of all repositories of other shards, and what there is to say of shards that are unknown.

    Of a shard that is unknown, or was called dead, it is not known either how its repositories are. Raises
    UsageError where the database is of another version: its rows may mean something else.
    """
    await check(connection)
    known = {one.name: one for one in await shards(connection) if one.name != shard}
    rows = await connection.execute(
        "SELECT shard, kind, place, content FROM status_rows WHERE shard <> %s"
        " AND kind IN ('repository', 'confirmed') ORDER BY 1, 2, 3",
        [shard],
    )
    placed = await connection.execute("SELECT full_name, shard FROM repositories WHERE shard IS NOT NULL")
    homes: defaultdict[str, set[str]] = defaultdict(set)  # one made anew has the name of a deleted one
    for full_name, home in await placed.fetchall():
        homes[full_name].add(home)
    having = set().union(*homes.values())
    found, said = [], []
    for name, one in known.items():
        since = one.retired or unknown_since(one)
        if since is not None and name in having:
            said.append(f"the shard {name} is unknown since {time_text(since)}")
    confirmed: defaultdict[str, JsonObject] = defaultdict(lambda: {"at": None, "but": {}})
    for name, kind, place, content in await rows.fetchall():
        if kind == "confirmed":  # it comes first of its shard
            confirmed[name] = content
            continue
        time = confirmed[name]["but"].get(place, confirmed[name]["at"])
        row = RepositoryStatus.from_json({"last_confirmed": time, **content})
        since = known[name].retired or unknown_since(known[name])
        if name not in homes.get(row.name, {name}):
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
