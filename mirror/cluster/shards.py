"""The shards of a cluster: who takes part, and one daemon for each.

A daemon holds a lock of its shard for as long as its session with the database lives. The server ends a
session that is silent for too long, so that neither a host that is gone nor one that was stopped keeps its
shard locked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from mirror.cluster.database import ANSWER_SECONDS, Connection, Database, DatabaseDown, mapped
from mirror.errors import Locked, UsageError
from mirror.logs import get_logger
from mirror.model import Clock

# After so many seconds of silence a daemon's session is ended, and its jobs count as abandoned.
SILENCE_SECONDS = 40.0
# A lock that somebody dead still holds is free after that silence: so long a start waits for it.
LOCK_SECONDS = SILENCE_SECONDS + 10.0
# A clock that is off by more is reported.
SKEW_MAX = timedelta(seconds=5)

_log = get_logger("cluster")


@dataclass(frozen=True)
class Me:
    """The shard of this process. `copies` are the addresses of its copies; `interval` is the longest one of
    its scheduled backups, in seconds; None: it has no schedule."""

    name: str
    weight: int
    store_id: str
    host: str
    program: str
    copies: tuple[str, ...] = ()
    interval: float | None = None


@dataclass(frozen=True)
class Shard:
    """A shard as the database knows it. `age` is how many seconds ago it reported; `skew`, by how many its
    clock is ahead of the database's. `returned`, `aside` and `alone`: when it came back after it was called
    dead, with how many folders that others have too, and how many that they have not."""

    name: str
    weight: int
    store_id: str
    host: str
    program: str
    copy_to: str | None
    copies: list[str]
    interval_seconds: float | None
    skew: float | None
    seen: datetime
    age: float
    retired: datetime | None
    worker: int | None
    returned: datetime | None = None
    aside: int = 0
    alone: int = 0


class CalledDead(UsageError):
    """A person called this shard dead: it takes no part any more."""


async def shards(connection: Connection) -> Sequence[Shard]:
    """Every shard, by name."""
    async with connection.cursor(row_factory=class_row(Shard)) as cursor:
        await cursor.execute(
            "SELECT name, weight, store_id, host, program, copy_to, copies, interval_seconds, skew, seen,"
            " extract(epoch FROM now() - seen)::float8 AS age, retired, worker, returned, aside, alone"
            " FROM shards ORDER BY name"
        )
        return await cursor.fetchall()


async def register(connection: Connection, me: Me) -> None:
    """Register a shard, or what is new of it. Raises UsageError where the name belongs to another store, the
    store to another name, or a person called it dead."""
    async with connection.transaction():
        await connection.execute("LOCK TABLE shards IN SHARE ROW EXCLUSIVE MODE")
        rows = await connection.execute(
            "SELECT name, store_id, host, retired FROM shards WHERE name = %s OR store_id = %s",
            [me.name, me.store_id],
        )
        for name, store_id, host, retired in await rows.fetchall():
            _refuse(me, name, store_id, host, retired)
        await connection.execute(
            "INSERT INTO shards (name, weight, store_id, host, program, copy_to, copies, interval_seconds)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO UPDATE SET"
            " weight = EXCLUDED.weight, host = EXCLUDED.host, program = EXCLUDED.program,"
            " copy_to = EXCLUDED.copy_to, copies = EXCLUDED.copies,"
            " interval_seconds = EXCLUDED.interval_seconds",
            [
                me.name, me.weight, me.store_id, me.host, me.program, next(iter(me.copies), None),
                list(me.copies), me.interval,
            ],
        )  # fmt: skip


def _refuse(me: Me, name: str, store_id: str, host: str, retired: datetime | None) -> None:
    if store_id != me.store_id:
        raise UsageError(
            f"the shard {name} is another store, {store_id} on {host}; this one is {me.store_id}",
            hint="give this host a name of its own in cluster.shard",
        )
    if name != me.name:
        raise UsageError(
            f"this store is known to the cluster as the shard {name}, not {me.name}",
            hint=f"write `shard: {name}` in the section cluster; a shard keeps its name",
        )
    if retired is not None:
        raise CalledDead(
            f"the shard {name} was called dead, and its repositories were moved",
            hint="make a new store, and give it a new name in cluster.shard; mirror cluster status tells what"
            " became of the folders here",
        )


class Membership:
    """The place of this process as the daemon of its shard: the lock, and the reports that it lives."""

    def __init__(self, database: Database, me: Me, clock: Clock) -> None:
        self.me = me
        self._database, self._clock = database, clock
        self._connection: Connection | None = None
        self._has_said_skew = False

    @property
    def is_held(self) -> bool:
        """Whether this process was the daemon of its shard when it last reported."""
        return self._connection is not None and not self._connection.closed

    async def join(self, *, wait: float | None = None) -> None:
        """Register, and take the lock of the shard, which somebody dead may hold for `wait` seconds; None:
        LOCK_SECONDS. Raises Locked where another daemon lives under the name, and what `register` and
        `Database.connect` raise."""
        await self.leave()
        wait = LOCK_SECONDS if wait is None else wait
        until = self._clock.monotonic() + wait
        connection = await self._database.connect()
        try:
            with mapped():
                await connection.execute(f"SET idle_session_timeout = '{int(SILENCE_SECONDS)}s'")
                await register(connection, self.me)
                while not await self._has_lock(connection):
                    if self._clock.monotonic() >= until:
                        raise await self._locked(connection)
                    await self._clock.sleep(min(1.0, wait))
                await connection.execute(
                    "UPDATE shards SET started = now(), seen = now() WHERE name = %s", [self.me.name]
                )
        except BaseException:
            await connection.close()
            raise
        self._connection = connection

    async def _has_lock(self, connection: Connection) -> bool:
        rows = await connection.execute(
            "SELECT pg_try_advisory_lock(hashtextextended('mirror shard ' || %s, 0))", [self.me.name]
        )
        row = await rows.fetchone()
        return row is not None and row[0] is True

    async def _locked(self, connection: Connection) -> Locked:
        rows = await connection.execute("SELECT host FROM shards WHERE name = %s", [self.me.name])
        row = await rows.fetchone()
        host = row[0] if row is not None else "?"
        return Locked(
            f"another daemon is the shard {self.me.name} of the cluster, on {host} when it registered",
            hint="stop one of them: a shard has one daemon",
        )

    async def beat(self, worker: int | None) -> Connection:
        """Report that this daemon lives; `worker` is its row at procrastinate. Returns the connection, for
        what else is to be reported. Raises DatabaseDown where the lock is lost; then `join` again."""
        connection = self._connection
        if connection is None or connection.closed:
            raise DatabaseDown("the session with the cluster's database ended")
        try:
            with mapped():
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._report(connection, worker)
        except BaseException:
            await self.leave()
            raise
        return connection

    async def _report(self, connection: Connection, worker: int | None) -> None:
        before = self._clock.now()
        rows = await connection.execute("SELECT clock_timestamp()")
        row = await rows.fetchone()
        assert row is not None
        after = self._clock.now()
        skew = before + (after - before) / 2 - row[0]
        self._say(skew, after - before)
        await connection.execute(
            "UPDATE shards SET seen = now(), skew = %s, worker = %s, weight = %s, copy_to = %s, copies = %s,"
            " interval_seconds = %s WHERE name = %s",
            [
                skew.total_seconds(),
                worker,
                self.me.weight,
                next(iter(self.me.copies), None),
                list(self.me.copies),
                self.me.interval,
                self.me.name,
            ],
        )

    def _say(self, skew: timedelta, took: timedelta) -> None:
        """Say once that this host's clock is not the database's; the database's is the one that counts."""
        is_off = abs(skew) > SKEW_MAX + took
        if is_off and not self._has_said_skew:
            hint = "let both keep time by NTP; the cluster goes by the database's clock"
            _log.warning("cluster.clock_skew", seconds=round(skew.total_seconds(), 1), hint=hint)
        self._has_said_skew = is_off

    async def leave(self) -> None:
        """Give the lock back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
