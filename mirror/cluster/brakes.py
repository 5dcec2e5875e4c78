"""The mass-loss brake over the shards of a cluster.

Each shard reports what its part of a workspace lost, and judges the sum. The truth is the brake.json of each
store: a loss that tripped one of them is written into all, and so is its release, whether everything is back
or somebody accepted it on any host. The database only carries them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from psycopg.types.json import Jsonb

from mirror import prune
from mirror.cluster.database import Connection, Database
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, JsonObject, Selector
from mirror.model.elsewhere import Others, Tally
from mirror.store.format.brake import Brake, Loss, loss_from_json, loss_to_json
from mirror.store.reading.reader import Store, StoreDamaged, WorkspaceFolder
from mirror.store.writing.small_files import write_brake
from mirror.store.writing.writer import open_store

_log = get_logger("cluster")
# After so many intervals of its backups without a report a shard is unknown. One without a schedule counts as
# if it ran once a day (in seconds).
INTERVALS, INTERVAL_SECONDS = 2, 86400.0

# Shards that hold something of a workspace, and did not report of it lately. A shard reports after each part.
_SILENT = """
SELECT s.name, s.retired IS NOT NULL, max(t.reported)::text
FROM shards s LEFT JOIN tallies t ON t.shard = s.name AND t.workspace_uuid = %(workspace)s
WHERE s.name <> %(shard)s
    AND EXISTS (SELECT FROM repositories r WHERE r.shard = s.name AND r.workspace_uuid = %(workspace)s)
GROUP BY s.name
HAVING max(t.reported) IS NULL OR max(t.reported)
    < now() - make_interval(secs => %(intervals)s * coalesce(s.interval_seconds, %(interval)s))
ORDER BY s.name
"""
# A loss that is found in a part of a list is of when the list was shared out.
_REPORT = """
INSERT INTO tallies (shard, workspace_uuid, what, was, lost, vanished, is_missing, lost_in)
VALUES (%(shard)s, %(workspace)s, %(what)s, %(was)s, %(lost)s, %(vanished)s, %(is_missing)s,
    (SELECT max(made) FROM parts WHERE shard = %(shard)s AND began IS NOT NULL AND ended IS NULL))
ON CONFLICT (shard, workspace_uuid, what) DO UPDATE SET was = EXCLUDED.was, lost = EXCLUDED.lost,
    vanished = EXCLUDED.vanished, is_missing = EXCLUDED.is_missing, reported = now(),
    lost_in = CASE WHEN EXCLUDED.lost > tallies.lost OR EXCLUDED.vanished > tallies.vanished
        THEN coalesce(EXCLUDED.lost_in, tallies.lost_in) ELSE tallies.lost_in END
"""
# Shards that hold something of a workspace and have not ended their part of the list in which this one found
# a loss that nobody has accepted.
_BEHIND = """
SELECT s.name FROM shards s JOIN tallies t ON t.shard = s.name AND t.workspace_uuid = %(workspace)s,
    (SELECT max(lost_in) AS list FROM tallies WHERE shard = %(shard)s
        AND workspace_uuid = %(workspace)s AND (lost > 0 OR vanished > 0)) AS own
WHERE s.name <> %(shard)s
    AND EXISTS (SELECT FROM repositories r WHERE r.shard = s.name AND r.workspace_uuid = %(workspace)s)
    AND NOT EXISTS (SELECT FROM brakes b WHERE b.workspace_uuid = %(workspace)s AND b.released > own.list)
GROUP BY s.name, own.list
HAVING max(t.reported) < own.list
    OR EXISTS (SELECT FROM parts p WHERE p.shard = s.name AND p.ended IS NULL AND p.made <= own.list)
ORDER BY s.name
"""


class ClusterBrake:
    """The other shards, for the brake and prune of the shard `shard`; see `mirror.model.elsewhere`."""

    def __init__(self, database: Database, shard: str) -> None:
        self._database, self._shard = database, shard

    async def exchange(self, workspace: str, own: Mapping[str, Tally]) -> Others:
        """Report this shard's tallies of a workspace, then sum those of all others."""
        workspace = workspace.lower()
        try:
            async with self._database.transaction() as connection:
                for what, one in own.items():
                    values = {**asdict(one), "shard": self._shard, "workspace": workspace, "what": what}
                    await connection.execute(_REPORT, values)
            async with self._database.session() as connection:
                is_whole = not await self._silent(connection, workspace)
                return Others(await self._sums(connection, workspace), is_whole)
        except MirrorError as error:
            _log.warning("cluster.tallies_unknown", workspace=workspace, reason=error.message)
            return Others(is_whole=False)

    async def _sums(self, connection: Connection, workspace: str) -> dict[str, Tally]:
        rows = await connection.execute(
            # What left a shard counts where it is now.
            "SELECT what, was, lost, vanished, is_missing FROM tallies AS t"
            " WHERE workspace_uuid = %s AND shard <> %s AND EXISTS (SELECT FROM repositories AS r"
            " WHERE r.shard = t.shard AND r.workspace_uuid = t.workspace_uuid)",
            [workspace, self._shard],
        )
        sums: dict[str, Tally] = {}
        for what, *values in await rows.fetchall():
            sums[what] = sums.get(what, Tally()) + Tally(*values)
        return sums

    async def _silent(self, connection: Connection, workspace: str) -> list[tuple[str, bool, str | None]]:
        parameters = {
            "workspace": workspace, "shard": self._shard, "intervals": INTERVALS,
            "interval": INTERVAL_SECONDS,
        }  # fmt: skip
        return await (await connection.execute(_SILENT, parameters)).fetchall()

    async def obstacle(self, workspace: str) -> str | None:
        """Why nothing of a workspace may be pruned: a shard is silent, a brake tripped, or nobody knows."""
        workspace = workspace.lower()
        try:
            async with self._database.session() as connection:
                for name, is_retired, reported in await self._silent(connection, workspace):
                    return _silence(name, reported, is_retired=is_retired)
                if (why := await self._not_judged(connection, workspace)) is not None:
                    return why
                rows = await connection.execute(
                    "SELECT loss, shard FROM brakes WHERE workspace_uuid = %s AND released IS NULL",
                    [workspace],
                )
                for loss, shard in await rows.fetchall():
                    return f"{loss_from_json(loss)} (the shard {shard} found it); see mirror accept-loss"
        except MirrorError as error:
            return f"it is not known what the other shards lost: {error.message}"
        return None

    async def _not_judged(self, connection: Connection, workspace: str) -> str | None:
        """Why what this shard lost lately does not count as judged yet."""
        rows = await connection.execute(
            "SELECT 1 FROM shards WHERE name = %s AND retired IS NOT NULL", [self._shard]
        )
        if await rows.fetchone() is not None:
            return f"the shard {self._shard} was called dead"
        rows = await connection.execute(_BEHIND, {"workspace": workspace, "shard": self._shard})
        behind = [name for (name,) in await rows.fetchall()]
        if not behind:
            return None
        return (
            "something was lost here, and whether it is part of a mass loss is not known until these shards"
            f" have ended their part of the same list: {', '.join(behind)}"
        )

    async def why_not_here(self, repository: str) -> str | None:
        """Why this shard may make no folder for a repository: it left after it was listed for this shard, or
        another shard has it, or nobody knows."""
        try:
            async with self._database.session() as connection:
                return await _why_not_in(connection, repository.lower(), self._shard)
        except MirrorError as error:
            return f"it is not known whether another shard has it: {error.message}"


async def _why_not_in(connection: Connection, uuid: str, shard: str) -> str | None:
    """Why a shard that has no folder of a repository may make none; None where it may."""
    found = await connection.execute("SELECT shard FROM repositories WHERE uuid = %s", [uuid])
    row = await found.fetchone()
    if row is None:
        return "the cluster has not placed it yet"
    owner = row[0]
    if owner != shard:
        return "it is on its way from one shard to another" if owner is None else f"it belongs to {owner} now"
    others = await connection.execute(
        "SELECT shard FROM holdings WHERE uuid = %s AND shard <> %s ORDER BY shard", [uuid, shard]
    )
    holder = await others.fetchone()
    return f"the shard {holder[0]} has a folder of it" if holder is not None else None


def _silence(name: str, reported: str | None, *, is_retired: bool) -> str:
    since = "never reported" if reported is None else f"has not reported since {reported[:19]}Z"
    hint = f"; it was called dead: mirror cluster move --from {name}" if is_retired else ""
    return f"the shard {name} {since}, so what it lost is not known{hint}"


@dataclass(frozen=True)
class Row:
    """A loss that the database carries. `released_by` is None where all was back."""

    id: int
    loss: JsonObject
    is_released: bool = False
    released_by: str | None = None


@dataclass
class Merged:
    """What makes a store's brake and the database agree: losses to tell, rows to release there; losses to
    take over here, and losses here to release, each with the person."""

    tell: list[JsonObject] = field(default_factory=list)
    release_rows: list[tuple[int, str | None]] = field(default_factory=list)
    take: list[Loss] = field(default_factory=list)
    release: list[tuple[Loss, str | None]] = field(default_factory=list)


def merge(own: Brake, rows: Sequence[Row]) -> Merged:
    """Compare the brake of a workspace in one store with the rows of that workspace. A loss is known by its
    kind and the time that the shard which found it gave it; no two clocks are compared."""
    found = Merged()
    known = {_key(row.loss): row for row in rows}
    releases = {_key(loss_to_json(one.loss)): one.by for one in own.releases}
    tripped = {row.loss["what"] for row in rows if not row.is_released}
    mine = {_key(loss_to_json(one)): one for one in own.losses if not one.repository}
    for key, loss in mine.items():
        row = known.get(key)
        if row is not None and row.is_released:
            found.release.append((loss, row.released_by))
        elif row is None and loss.what not in tripped:
            found.tell.append(loss_to_json(loss))
    for row in rows:
        key = _key(row.loss)
        if row.is_released or key in mine:
            continue
        if key in releases:
            found.release_rows.append((row.id, releases[key]))
        else:
            found.take.append(loss_from_json(row.loss))
    return found


def _key(loss: JsonObject) -> tuple[str, str]:
    return str(loss["what"]), str(loss["at"])


async def merge_brakes(database: Database, store_path: Path, shard: str, clock: Clock) -> None:
    """Carry tripped brakes and their releases between this store and the database. Raises MirrorError, as
    where a folder is locked: the next call does what is left."""
    rows: dict[str, list[Row]] = {}
    async with database.session() as connection:
        result = await connection.execute(
            "SELECT workspace_uuid, id, loss, released IS NOT NULL, released_by FROM brakes ORDER BY id"
        )
        for workspace, *values in await result.fetchall():
            rows.setdefault(workspace, []).append(Row(*values))
    with Store.open(store_path) as store:
        merging = []
        for folder in store.workspaces(on_damage=lambda _: None):
            try:
                merging.append((folder, merge(folder.brake(), rows.get(folder.uuid.lower(), ()))))
            except StoreDamaged:
                continue  # prune treats it as tripped, and the next run names it
    for folder, found in merging:
        await _tell(database, shard, folder, found)
        await _take(store_path, folder, found, clock)


async def _tell(database: Database, shard: str, folder: WorkspaceFolder, found: Merged) -> None:
    if not (found.tell or found.release_rows):
        return
    async with database.transaction() as connection:
        for loss in found.tell:
            await connection.execute(
                "INSERT INTO brakes (workspace_uuid, what, loss, shard) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                [folder.uuid.lower(), loss["what"], Jsonb(loss), shard],
            )
        for identifier, by in found.release_rows:
            await connection.execute(
                "UPDATE brakes SET released = now(), released_by = %s WHERE id = %s AND released IS NULL",
                [by, identifier],
            )


async def _take(store_path: Path, folder: WorkspaceFolder, found: Merged, clock: Clock) -> None:
    """Write what other shards found, and what ended there, into this store's brake."""
    for loss, by in found.release:
        if by is not None:
            await prune.accept_loss(store_path, Selector(folder.folder), by=by, clock=clock)
            _log.warning("cluster.mass_loss_accepted", workspace=folder.slug, loss=str(loss), by=by)
    ended = [loss for loss, by in found.release if by is None]
    if not (found.take or ended):
        return
    with open_store(store_path, command="mirror daemon") as store:
        writer = store.writer_of(folder)
        async with writer.lock(0.0, clock):
            brake = folder.brake()
            for loss in ended:
                brake = brake.released(frozenset({loss.what}), by=None, now=clock.now())
                _log.warning("cluster.mass_loss_is_back", workspace=folder.slug, loss=str(loss))
            for loss in found.take:
                brake = brake.trip(loss)
                _log.error("cluster.mass_loss", workspace=folder.slug, loss=str(loss))
            write_brake(writer.path, brake)
