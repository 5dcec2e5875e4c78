"""What is asked for: repositories that move to another shard, through the copy of the one that has them.

The table `moves` says how far each is. Every step may be killed; whoever did it does it again (`mover`).

    wanted     the source sends the folder to its copy, records that it leaves, and puts it into quarantine
    sent       nobody writes it; the target fetches it from the copy, verifies it, and takes it into its store
    returning  the target cannot take it; the source takes its folder out of the quarantine
    arrived    the placement names the target
    failed     the problem says why; the placement names the source as before, where it lives

A step counts only where the move is still as whoever does it found it. A host that a person calls dead sends
nothing, and takes nothing back: what its copy has is all there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mirror.cluster.database import Connection
from mirror.cluster.placement import place
from mirror.cluster.shards import SILENCE_SECONDS, Shard, shards
from mirror.errors import UsageError
from mirror.model import JsonObject, Selector, time_text
from mirror.store.reading.reader import Store, current_workspace

MOVES = "SELECT uuid, full_name, source, target, state, copy_to, is_dead, copied, problem FROM moves"


@dataclass(frozen=True)
class Move:
    """A repository that moves. `copied`: of when what arrives is, where its host is dead."""

    uuid: str
    full_name: str
    source: str
    target: str
    state: str
    copy_to: str
    is_dead: bool
    copied: datetime | None
    problem: str | None

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {**self.__dict__, "copied": time_text(self.copied) if self.copied is not None else None}


@dataclass(frozen=True)
class Placed:
    """A repository and its shard."""

    uuid: str
    full_name: str
    shard: str


async def placed(
    connection: Connection, selector: Selector | None = None, shard: str | None = None
) -> list[Placed]:
    """The repositories that `selector` matches, or those of a shard; without those on their way."""
    rows = await connection.execute(
        "SELECT uuid, full_name, shard FROM repositories WHERE shard IS NOT NULL ORDER BY full_name"
    )
    every = [Placed(*row) for row in await rows.fetchall()]
    return [
        one
        for one in every
        if (shard is None or one.shard == shard) and (selector is None or _is(selector, one.full_name))
    ]


def _is(selector: Selector, full_name: str) -> bool:
    workspace, _, slug = full_name.partition("/")
    return selector.matches_workspace(workspace) and selector.matches_repository(slug)


async def shard_called(connection: Connection, name: str) -> Shard:
    """A shard by its name. Raises UsageError where there is none."""
    every = await shards(connection)
    for one in every:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in every) or "none"
    raise UsageError(f"the cluster has no shard {name}", hint=f"it has: {names}")


async def ask(connection: Connection, chosen: Sequence[Placed], target: Shard) -> list[Placed]:
    """Have repositories moved by the daemons of both shards; returns those that are not at the target yet.

    Within the caller's transaction. Raises UsageError where the target takes no part, or a source has no copy
    or is not there.
    """
    if target.retired is not None:
        raise UsageError(f"the shard {target.name} was called dead", hint="name another one with --to")
    known = {one.name: one for one in await shards(connection)}
    moving = [one for one in chosen if one.shard != target.name]
    for source in (known[name] for name in sorted({one.shard for one in moving})):
        if source.copy_to is None:
            raise UsageError(
                f"the shard {source.name} has no copy, and folders are carried through it",
                hint="give it one (copies:), or bring the folder by rsync: mirror cluster adopt FOLDER",
            )
        if source.age > SILENCE_SECONDS:
            raise UsageError(
                f"the shard {source.name} has not reported for {source.age:.0f} s, so it can send nothing",
                hint=f"start its daemon; where the host is dead: mirror cluster move --from {source.name}",
            )
    for one in moving:
        copy_to = known[one.shard].copy_to
        assert copy_to is not None
        await _insert(connection, one, target.name, "wanted", copy_to, is_dead=False)
    return moving


async def give_up(
    connection: Connection, source: Shard, *, afresh: bool, target: str | None = None
) -> tuple[list[Placed], list[Placed]]:
    """Call a shard dead, and have its repositories brought to others from its copy. Returns those that move,
    and those that cannot, because the shard has no copy; with `afresh` others mirror these anew. What was on
    its way from or to the shard goes on without it, and what failed is tried again.

    Within the caller's transaction. Raises UsageError where the shard reported lately, or `target` takes no
    part.
    """
    if source.retired is None and source.age <= SILENCE_SECONDS:
        raise UsageError(
            f"the shard {source.name} reported {source.age:.0f} s ago, so its host is not dead",
            hint="stop its daemon first; to move from a host that lives, name what and --to",
        )
    await connection.execute(
        "UPDATE shards SET retired = coalesce(retired, now()) WHERE name = %s", [source.name]
    )
    if target is not None and (await shard_called(connection, target)).retired is not None:
        raise UsageError(f"the shard {target} was called dead", hint="name another one with --to")
    left = await _leave_under_way(connection, source.name, afresh=afresh)
    chosen = await placed(connection, shard=source.name)
    uuids = [one.uuid for one in (*chosen, *left)]
    targets = await _targets(connection, uuids, target)
    await _send_to(connection, {one.uuid: targets[one.uuid] for one in left})
    await connection.execute("DELETE FROM holdings WHERE shard = %s", [source.name])
    going = await _going_on(connection, source.name)
    if source.copy_to is None and not afresh:
        return going, chosen
    for one in chosen:
        if source.copy_to is None:
            await connection.execute(
                "UPDATE repositories SET shard = %s WHERE uuid = %s", [targets[one.uuid], one.uuid]
            )
            continue
        await _insert(connection, one, targets[one.uuid], "sent", source.copy_to, is_dead=True)
        await connection.execute("UPDATE repositories SET shard = NULL WHERE uuid = %s", [one.uuid])
    return (going, chosen) if source.copy_to is None else ([*chosen, *going], [])


async def _leave_under_way(connection: Connection, dead: str, *, afresh: bool) -> list[Placed]:
    """Let moves that had begun go on without a shard; returns those that need another target."""
    # What it was to send comes from its copy, as far as that has it.
    await connection.execute(
        "WITH left_ AS (UPDATE moves SET is_dead = true, changed = now(), problem = NULL, state = 'sent'"
        " WHERE source = %s AND (state IN ('wanted', 'sent', 'returning')"
        " OR (state = 'failed' AND is_dead AND NOT %s)) RETURNING uuid)"
        " UPDATE repositories AS r SET shard = NULL FROM left_ WHERE r.uuid = left_.uuid",
        [dead, afresh],
    )
    # What it was to get goes back where that is possible.
    await connection.execute(
        "UPDATE moves SET state = 'returning', changed = now(), problem = %s"
        " WHERE target = %s AND NOT is_dead AND state IN ('wanted', 'sent')",
        [f"the shard {dead} was called dead", dead],
    )
    # What comes from a dead one needs a target that lives, also where another one died before.
    rows = await connection.execute(
        "SELECT m.uuid, m.full_name, m.source FROM moves AS m JOIN shards AS s ON s.name = m.target"
        " WHERE s.retired IS NOT NULL AND m.is_dead AND m.state IN ('sent', 'failed') ORDER BY m.full_name"
    )
    return [Placed(*row) for row in await rows.fetchall()]


async def _send_to(connection: Connection, targets: Mapping[str, str]) -> None:
    for uuid, name in targets.items():
        await connection.execute(
            "UPDATE moves SET target = %s, changed = now() WHERE uuid = %s", [name, uuid]
        )


async def _going_on(connection: Connection, dead: str) -> list[Placed]:
    """The repositories that were on their way from a shard before it was called dead."""
    rows = await connection.execute(
        "SELECT uuid, full_name, source FROM moves WHERE source = %s AND is_dead AND state = 'sent'"
        " ORDER BY full_name",
        [dead],
    )
    return [Placed(*row) for row in await rows.fetchall()]


async def start_afresh(connection: Connection, source: str) -> list[str]:
    """Let the targets mirror anew what could not be brought from a dead shard; returns the names."""
    rows = await connection.execute(
        "WITH gone AS (DELETE FROM moves WHERE source = %s AND is_dead AND state = 'failed'"
        " RETURNING uuid, full_name, target) UPDATE repositories AS r SET shard = gone.target FROM gone"
        " WHERE r.uuid = gone.uuid RETURNING gone.full_name",
        [source],
    )
    return sorted(row[0] for row in await rows.fetchall())


async def _targets(connection: Connection, uuids: Sequence[str], target: str | None) -> dict[str, str]:
    if target is not None:
        return dict.fromkeys(uuids, target)
    rows = await connection.execute("SELECT shard, count(*) FROM repositories GROUP BY shard")
    held = dict(await rows.fetchall())
    weights = {one.name: one.weight for one in await shards(connection) if one.retired is None}
    return place(uuids, held, weights) if uuids else {}


async def _insert(
    connection: Connection, one: Placed, target: str, state: str, copy_to: str, *, is_dead: bool
) -> None:
    await connection.execute(
        "INSERT INTO moves (uuid, full_name, source, target, state, copy_to, is_dead)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (uuid) DO UPDATE SET"
        " full_name = EXCLUDED.full_name, source = EXCLUDED.source, target = EXCLUDED.target,"
        " state = EXCLUDED.state, copy_to = EXCLUDED.copy_to, is_dead = EXCLUDED.is_dead, problem = NULL,"
        " copied = NULL, asked = now(), changed = now() WHERE moves.state IN ('arrived', 'failed')",
        [one.uuid, one.full_name, one.shard, target, state, copy_to, is_dead],
    )


async def moves(connection: Connection, uuids: Sequence[str]) -> list[Move]:
    """How far the moves of some repositories are."""
    rows = await connection.execute(f"{MOVES} WHERE uuid = ANY (%s) ORDER BY full_name", [list(uuids)])
    return [Move(*row) for row in await rows.fetchall()]


async def moves_of(connection: Connection, selector: Selector) -> list[Move]:
    """The moves of repositories that `selector` matches and that have not ended."""
    rows = await connection.execute(f"{MOVES} WHERE state NOT IN ('arrived', 'failed') ORDER BY full_name")
    return [one for row in await rows.fetchall() if _is(selector, (one := Move(*row)).full_name)]


async def check_free(connection: Connection, uuid: str, shard: str) -> None:
    """Raise UsageError where another shard that takes part has a repository, or may be bringing it."""
    rows = await connection.execute(
        "SELECT s.name FROM holdings AS h JOIN shards AS s ON s.name = h.shard"
        " WHERE h.uuid = %s AND s.name <> %s AND s.retired IS NULL",
        [uuid, shard],
    )
    for (name,) in await rows.fetchall():
        raise UsageError(
            f"the shard {name} has this repository",
            hint=f"move it: mirror cluster move SELECTOR --to {shard}; or, where the host of {name} is dead:"
            f" mirror cluster move --from {name}",
        )
    rows = await connection.execute(
        "SELECT source, target FROM moves WHERE uuid = %s AND state NOT IN ('arrived', 'failed')", [uuid]
    )
    for source, target in await rows.fetchall():
        raise UsageError(
            f"this repository is on its way from {source} to {target}", hint="wait until it ends"
        )


async def take_over(connection: Connection, store_path: Path, uuid: str, shard: str) -> None:
    """A repository that was adopted belongs to a shard from now on. Within the caller's transaction."""
    with Store.open(store_path) as store:
        folder = store.folder_of_repository(uuid)
        assert folder is not None
        home = current_workspace(folder, store.workspaces(on_damage=lambda _: None))
    values = [uuid, "" if home is None else home.uuid.lower(), folder.full_name, shard]
    await connection.execute(
        "INSERT INTO repositories (uuid, workspace_uuid, full_name, shard) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (uuid) DO UPDATE SET shard = EXCLUDED.shard",
        values,
    )
    await connection.execute(
        "INSERT INTO holdings (uuid, workspace_uuid, full_name, shard) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        values,
    )
    await connection.execute("DELETE FROM moves WHERE uuid = %s AND state = 'failed'", [uuid])
