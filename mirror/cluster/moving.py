"""Repositories move from one shard to another, through the copy of the shard that has them.

The table `moves` says how far each is; every step may be killed, and whoever did it does it again:

    wanted    the source sends the folder to its copy, records that it leaves, and puts it into its quarantine
    sent      nobody writes it; the target fetches it from the copy, verifies it, and takes it into its store
    arrived   the placement names the target
    failed    the problem says why, and the placement names the source as before, where it lives

A host that a person calls dead sends nothing: what its copy has is all there is.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mirror.bucket.address import Address
from mirror.cluster.carrying import arrive, depart
from mirror.cluster.database import Connection, Database
from mirror.cluster.placement import place
from mirror.cluster.shards import SILENCE_SECONDS, Shard, shards
from mirror.config import Config
from mirror.connect.copies import copy_of, open_bucket
from mirror.copy import sending
from mirror.copy.materializing import lay, make_store
from mirror.copy.reading import CopiedFolder, Copy
from mirror.errors import Locked, MirrorError, TryLater, UsageError
from mirror.logs import get_logger
from mirror.model import Clock, JsonObject, Selector, time_text
from mirror.store.format.layout import WORKSPACE_FILE
from mirror.store.reading.reader import RepositoryFolder, Store, current_workspace
from mirror.store.writing.moving import waiting_place

_log = get_logger("cluster")
# How long, in seconds, a backup of the repository may take before its folder leaves.
LOCK_SECONDS = 60.0


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
    and those that cannot, because the shard has no copy; with `afresh` others mirror these anew.

    Within the caller's transaction. Raises UsageError where the shard reported lately.
    """
    if source.retired is None and source.age <= SILENCE_SECONDS:
        raise UsageError(
            f"the shard {source.name} reported {source.age:.0f} s ago, so its host is not dead",
            hint="stop its daemon first; to move from a host that lives, name what and --to",
        )
    await connection.execute(
        "UPDATE shards SET retired = coalesce(retired, now()) WHERE name = %s", [source.name]
    )
    chosen = await placed(connection, shard=source.name)
    targets = await _targets(connection, [one.uuid for one in chosen], target)
    await connection.execute("DELETE FROM holdings WHERE shard = %s", [source.name])
    if source.copy_to is None and not afresh:
        return [], chosen
    for one in chosen:
        if source.copy_to is None:
            await connection.execute(
                "UPDATE repositories SET shard = %s WHERE uuid = %s", [targets[one.uuid], one.uuid]
            )
            continue
        await _insert(connection, one, targets[one.uuid], "sent", source.copy_to, is_dead=True)
        await connection.execute("UPDATE repositories SET shard = NULL WHERE uuid = %s", [one.uuid])
    return ([], chosen) if source.copy_to is None else (chosen, [])


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
    rows = await connection.execute(f"{_MOVES} WHERE uuid = ANY (%s) ORDER BY full_name", [list(uuids)])
    return [Move(*row) for row in await rows.fetchall()]


async def moves_of(connection: Connection, selector: Selector) -> list[Move]:
    """The moves of repositories that `selector` matches and that have not ended."""
    rows = await connection.execute(f"{_MOVES} WHERE state IN ('wanted', 'sent') ORDER BY full_name")
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
        "SELECT source, target FROM moves WHERE uuid = %s AND state IN ('wanted', 'sent')", [uuid]
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


_MOVES = "SELECT uuid, full_name, source, target, state, copy_to, is_dead, copied, problem FROM moves"
Send = Callable[[RepositoryFolder], Awaitable[None]]


@dataclass(frozen=True)
class Mover:
    """Does what the shard `shard` has to do for moves. `identities` open encrypted copies."""

    database: Database
    config: Config
    shard: str
    clock: Clock
    environment: Mapping[str, str]
    identities: Sequence[object] = ()

    async def tend(self) -> None:
        """Do every step that is this shard's. What fails says so in its move. Raises what the database
        raises."""
        async with self.database.session() as connection:
            rows = await connection.execute(
                f"{_MOVES} WHERE (source = %s AND state = 'wanted' AND NOT is_dead)"
                " OR (target = %s AND state = 'sent') ORDER BY full_name",
                [self.shard, self.shard],
            )
            mine = [Move(*row) for row in await rows.fetchall()]
        for one in (one for one in mine if one.state == "wanted"):
            await self._guarded(one, self._send(one))
        sent = [one for one in mine if one.state == "sent"]
        for address in sorted({one.copy_to for one in sent}):
            await self._fetch_from(address, [one for one in sent if one.copy_to == address])

    async def _guarded(self, move: Move, work: Awaitable[None]) -> None:
        """Do a step; an error is noted, and ends the move unless it may pass."""
        try:
            await work
        except (MirrorError, OSError) as error:
            text = error.message if isinstance(error, MirrorError) else str(error)
            passes = isinstance(error, TryLater | Locked) or _needs_identity(error)
            hint = error.hint if isinstance(error, MirrorError) and error.hint else ""
            if _needs_identity(error):
                command = f"mirror cluster move {move.full_name} --to {move.target} --identity FILE"
                hint = f"run on the host of {move.target}: {command}"
            _log.warning("cluster.move_failed", repository=move.full_name, reason=text, passes=passes)
            await self._note(move, f"{text}; {hint}" if hint else text, is_over=not passes)

    async def _note(self, move: Move, problem: str, *, is_over: bool) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE moves SET problem = %s, changed = now(),"
                " state = CASE WHEN %s THEN 'failed' ELSE state END WHERE uuid = %s",
                [problem, is_over, move.uuid],
            )
            if move.state == "wanted":  # the folder is there still
                await connection.execute(
                    "UPDATE repositories SET shard = %s WHERE uuid = %s AND shard IS NULL",
                    [move.source, move.uuid],
                )

    async def _send(self, move: Move) -> None:
        """This shard is the source: send the folder, and put it away."""
        async with self.database.session() as connection:
            await connection.execute("UPDATE repositories SET shard = NULL WHERE uuid = %s", [move.uuid])
        await depart(
            self.config.store, move.uuid, to=move.target, send=self._send_all(move.copy_to), clock=self.clock,
            lock_wait=LOCK_SECONDS,
        )  # fmt: skip
        async with self.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM holdings WHERE shard = %s AND uuid = %s", [self.shard, move.uuid]
            )
            await connection.execute(
                "UPDATE moves SET state = 'sent', problem = NULL, changed = now() WHERE uuid = %s",
                [move.uuid],
            )

    def _send_all(self, address: str) -> Send:
        """Bring the copy up to date; a folder that did not change costs no request."""

        async def send(folder: RepositoryFolder) -> None:
            entry = next((one for one in self.config.copies if one.to == address), None)
            if entry is None:
                raise UsageError(
                    f"{address} is no copy of this store any more", hint="see copies: in its config"
                )
            run = await sending.run(self.config, entry, clock=self.clock, environment=self.environment)
            failed = [one for one in run.entries if one.uuid.lower() == folder.uuid.lower()]
            problems = [*run.problems, *(problem for one in failed for problem in one.problems)]
            if problems:
                raise TryLater(f"the copy could not be brought up to date: {problems[0].text}")

        return send

    async def _fetch_from(self, address: str, moves_: Sequence[Move]) -> None:
        """This shard is the target: fetch folders from the copy of another one."""
        try:
            async with self._copy(address) as copy:
                for one in moves_:
                    await self._guarded(one, self._fetch(copy, one))
        except (MirrorError, OSError) as error:
            for one in moves_:
                await self._guarded(one, _raise(error))

    @asynccontextmanager
    async def _copy(self, address: str) -> AsyncIterator[Copy]:
        parsed = Address.parse(address)
        entry = copy_of(self.config, parsed, self.environment)
        if entry.endpoint is None and self.config.copies:  # another prefix beside that of this shard's copy
            entry = replace(self.config.copies[0], to=address)
        async with open_bucket(entry, self.config, self.environment, self.clock) as bucket:
            yield await Copy.open(bucket, self.identities)

    async def _fetch(self, copy: Copy, move: Move) -> None:
        waiting = waiting_place(self.config.store, move.uuid)
        if not self._is_here(move.uuid):
            found = _folder_of(copy, move)
            if waiting.exists():
                shutil.rmtree(waiting)
            await _lay(copy, found, waiting)
            copied: datetime | None = found.time
        else:
            copied = move.copied
        if waiting.exists():
            await arrive(
                self.config.store, waiting, _exact(move.uuid, waiting), origin=f"shard {move.source}",
                clock=self.clock, environment=self.environment,
            )  # fmt: skip
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE repositories SET shard = %s WHERE uuid = %s", [self.shard, move.uuid]
            )
            await connection.execute(
                "INSERT INTO holdings (shard, uuid, workspace_uuid, full_name)"
                " SELECT %s, uuid, workspace_uuid, full_name FROM repositories WHERE uuid = %s"
                " ON CONFLICT DO NOTHING",
                [self.shard, move.uuid],
            )
            await connection.execute(
                "UPDATE moves SET state = 'arrived', copied = %s, problem = NULL, changed = now()"
                " WHERE uuid = %s",
                [copied, move.uuid],
            )
        if move.is_dead and copied is not None:
            _log.warning("cluster.as_of", repository=move.full_name, copied=time_text(copied))

    def _is_here(self, uuid: str) -> bool:
        """Whether an earlier try brought the folder into the store, and was killed later."""
        with Store.open(self.config.store) as store:
            return store.folder_of_repository(uuid) is not None


async def _raise(error: MirrorError | OSError) -> None:
    raise error


def _needs_identity(error: Exception) -> bool:
    return isinstance(error, UsageError) and "--identity" in (error.hint or "")


def _folder_of(copy: Copy, move: Move) -> CopiedFolder:
    found = [
        one for one in copy.folders.values() if one.uuid.lower() == move.uuid and one.place.count("/") == 3
    ]
    if not found or found[0].fault is not None:
        why = found[0].fault if found else "it was never sent"
        raise MirrorError(
            f"the copy of {move.source} has nothing of {move.full_name}: {why}",
            hint="bring its folder (mirror cluster adopt), or, where its host is dead, give it up:"
            f" mirror cluster move --from {move.source} --afresh",
        )
    return found[0]


async def _lay(copy: Copy, folder: CopiedFolder, waiting: Path) -> None:
    """Make a small store of a folder of the copy, with the run records and the names of the workspaces."""
    waiting.mkdir(mode=0o700)
    await make_store(copy, waiting, is_durable=True)
    for one in copy.folders.values():
        if one.place.count("/") == 1 and one.fault is None:
            await lay(copy, one, waiting, only=lambda path: path == WORKSPACE_FILE, is_durable=True)
    await lay(copy, folder, waiting, is_durable=True)


def _exact(uuid: str, waiting: Path) -> str:
    """A uuid as the store that brings it writes it: the database has it in lower case."""
    with Store.open(waiting) as store:
        found = store.folder_of_repository(uuid)
        return found.uuid if found is not None else uuid
