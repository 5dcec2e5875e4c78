"""What the daemons of both shards do for a move; see `moving`."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mirror.bucket.address import Address
from mirror.cluster.carrying import arrive, come_back, depart, never_had
from mirror.cluster.connector import manager_of
from mirror.cluster.database import Connection, Database
from mirror.cluster.jobs import BACKUP, backup_lock, defer
from mirror.cluster.moving import MOVES, Move
from mirror.config import Config
from mirror.connect.copies import copy_of, open_bucket
from mirror.copy import sending
from mirror.copy.materializing import lay, make_store
from mirror.copy.reading import CopiedFolder, Copy
from mirror.errors import Locked, MirrorError, TryLater, UsageError
from mirror.logs import get_logger
from mirror.model import Clock, time_text
from mirror.store.format.layout import WORKSPACE_FILE
from mirror.store.reading.reader import RepositoryFolder, Store
from mirror.store.writing.moving import waiting_place

_log = get_logger("cluster")
# How long, in seconds, a backup of the repository may take before its folder leaves.
LOCK_SECONDS = 60.0

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
                f"{MOVES} WHERE (source = %s AND state IN ('wanted', 'returning') AND NOT is_dead)"
                " OR (target = %s AND state = 'sent') ORDER BY full_name",
                [self.shard, self.shard],
            )
            mine = [Move(*row) for row in await rows.fetchall()]
        for one in mine:
            if one.state != "sent":
                await self._guarded(one, self._send(one) if one.state == "wanted" else self._take_back(one))
        sent = [one for one in mine if one.state == "sent"]
        for address in sorted({one.copy_to for one in sent}):
            await self._fetch_from(address, [one for one in sent if one.copy_to == address])

    async def _guarded(self, move: Move, work: Awaitable[None]) -> None:
        """Do a step; an error is noted, and ends the move unless it may pass."""
        try:
            await work
        except (MirrorError, OSError) as error:
            text = error.message if isinstance(error, MirrorError) else str(error)
            is_half_done = self._is_half_done(move, error)
            passes = is_half_done or isinstance(error, TryLater | Locked) or _needs_identity(error)
            hint = error.hint if isinstance(error, MirrorError) and error.hint else ""
            if _needs_identity(error):
                command = f"mirror cluster move {move.full_name} --to {move.target} --identity FILE"
                hint = f"run on the host of {move.target}: {command}"
            problem = f"{text}; {hint}" if hint else text
            if problem != move.problem:
                _log.warning("cluster.move_failed", repository=move.full_name, reason=text, passes=passes)
            await self._note(move, problem, is_over=not passes, is_half_done=is_half_done)

    async def _note(self, move: Move, problem: str, *, is_over: bool, is_half_done: bool) -> None:
        """Note what is in the way of a step. A move that is over goes back to a source that lives."""
        following = move.state
        if is_over:
            goes_back = move.state == "sent" and not move.is_dead
            following = "returning" if goes_back else "failed"
            if move.state == "sent":
                shutil.rmtree(waiting_place(self.config.store, move.uuid), ignore_errors=True)
        async with self.database.transaction() as connection:
            is_ours = await _step(connection, move, following, problem=problem)
            if is_ours and move.state == "wanted" and not is_half_done:  # the folder is there still
                await _belong(connection, move.uuid, self.shard)

    async def _send(self, move: Move) -> None:
        """This shard is the source: send the folder, and put it away."""
        async with self.database.transaction() as connection:
            if not await _step(connection, move, "wanted", problem=move.problem):
                return
            await connection.execute(
                "UPDATE repositories SET shard = NULL WHERE uuid = %s AND shard = %s", [move.uuid, self.shard]
            )
        left = await depart(
            self.config.store, move.uuid, to=move.target, send=self._send_all(move.copy_to), clock=self.clock,
            lock_wait=LOCK_SECONDS,
        )  # fmt: skip
        if left is None and never_had(self.config.store, move.uuid):
            await self._hand_over(move)
            return
        async with self.database.transaction() as connection:
            if await _step(connection, move, "sent"):
                await connection.execute(
                    "DELETE FROM holdings WHERE shard = %s AND uuid = %s", [self.shard, move.uuid]
                )

    async def _hand_over(self, move: Move) -> None:
        """This shard is the source, and has not backed it up yet: there is nothing to carry."""
        async with self.database.transaction() as connection:
            if await _step(connection, move, "arrived"):
                await _belong(connection, move.uuid, move.target)
                await self._back_up(connection, move.uuid, move.target)

    async def _take_back(self, move: Move) -> None:
        """This shard is the source of what did not arrive: take its folder out of the quarantine."""
        await come_back(self.config.store, move.uuid, origin=f"shard {move.target}", clock=self.clock)
        async with self.database.transaction() as connection:
            if await _step(connection, move, "failed", problem=move.problem):
                await self._begin_again(connection, move.uuid)
        _log.warning("cluster.came_back", repository=move.full_name, reason=move.problem)

    async def _begin_again(self, connection: Connection, uuid: str) -> None:
        """From now on the repository is this shard's, which has it."""
        await _belong(connection, uuid, self.shard)
        await connection.execute(
            "INSERT INTO holdings (shard, uuid, workspace_uuid, full_name)"
            " SELECT %s, uuid, workspace_uuid, full_name FROM repositories WHERE uuid = %s"
            " ON CONFLICT DO NOTHING",
            [self.shard, uuid],
        )
        await self._back_up(connection, uuid, self.shard)

    async def _back_up(self, connection: Connection, uuid: str, shard: str) -> None:
        """Have a shard back up a repository at once: meanwhile no discovery and no hook found it at home."""
        await defer(
            manager_of(self.database), connection, queue=shard, task=BACKUP, lock=backup_lock(uuid),
            arguments={"uuid": uuid, "git_only": False, "is_news": False, "host": ""},
        )  # fmt: skip

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
            is_ours = await _step(connection, move, "arrived", copied=copied)
            if is_ours:
                await self._begin_again(connection, move.uuid)
        # Else this shard was called dead meanwhile, and puts the folder aside when it notices (`returned`).
        if is_ours and move.is_dead and copied is not None:
            _log.warning("cluster.as_of", repository=move.full_name, copied=time_text(copied))

    def _is_here(self, uuid: str) -> bool:
        """Whether an earlier try brought the folder into the store, and was killed later."""
        with Store.open(self.config.store) as store:
            return store.folder_of_repository(uuid) is not None

    def _is_half_done(self, move: Move, error: MirrorError | OSError) -> bool:
        """Whether a step failed when the folder was through the door already, or may have been: there is no
        way back, and the rest of the step is done again."""
        try:
            is_here = self._is_here(move.uuid)
        except MirrorError:  # a folder that may be the one is damaged, and in its place
            is_here = True
        except OSError:
            return True
        if move.state == "wanted":
            return not is_here
        # Nobody but this shard can take back what did not arrive.
        return is_here or (move.state == "returning" and isinstance(error, OSError))


async def _step(
    connection: Connection,
    move: Move,
    state: str,
    *,
    problem: str | None = None,
    copied: datetime | None = None,
) -> bool:
    """Let a move go on from where its step began; False where somebody changed it meanwhile."""
    rows = await connection.execute(
        "UPDATE moves SET state = %s, problem = %s, copied = coalesce(%s, copied), changed = now()"
        " WHERE (uuid, source, target, state, is_dead) = (%s, %s, %s, %s, %s) RETURNING 1",
        [state, problem, copied, move.uuid, move.source, move.target, move.state, move.is_dead],
    )
    return await rows.fetchone() is not None


async def _belong(connection: Connection, uuid: str, shard: str) -> None:
    """Place a repository that was on its way."""
    await connection.execute(
        "UPDATE repositories SET shard = %s, placed = clock_timestamp() WHERE uuid = %s AND shard IS NULL",
        [shard, uuid],
    )


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
