"""The request budget that all hosts share: the port `Leases` on PostgreSQL.

One row for each identity and group is locked while requests are lent, so that what is lent within any hour
never exceeds the limit. A lease must be used within a minute or is void. It counts as if it were used at
the end of that minute, so that a host that dies, or is stopped for long, can spend no more than was
counted."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from mirror.bitbucket.client.local_leases import (
    HOUR,
    LIMIT_DEFAULT,
    LIMIT_LEAST,
    WAIT_MAX,
    allowed_of,
    assumed_limit,
)
from mirror.cluster.database import Connection, Database, DatabaseDown
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, UseJournal
from mirror.model.leases import Hour, Lease

# How long, in seconds, a lease may be used, and how much later it counts: a request may be under way.
LEASE_SECONDS, MARGIN_SECONDS = 60.0, 10.0
# An outage of the database that is over after so many seconds fails no request; later each is tried once.
PATIENCE_SECONDS, RETRY_SECONDS = 60.0, 1.0
# So long, in seconds, the end waits for what is being told.
FINISH_SECONDS = 10.0
# What is known of an hour is believed for so many seconds.
KNOWN_SECONDS = 10.0

_log = get_logger("cluster")


@dataclass
class _Known:
    """What the database last said of an identity and group: requests counted, limit, and whether a server
    told it; when (monotonic) it said so, and from when on asking makes sense again."""

    limit: int
    is_told: bool = False
    used: int = 0
    at: float = float("-inf")
    ask_at: float = float("-inf")
    blocked_until: float = float("-inf")


def hashed(salt: bytes, identity: str) -> str:
    """What the database calls an identity."""
    return hashlib.sha256(salt + identity.encode()).hexdigest()


class ClusterLeases:
    """Lends requests of the hour to this host (the port `Leases`)."""

    def __init__(
        self, database: Database, shard: str, clock: Clock, *, reserve: int = 0, limit: int = LIMIT_DEFAULT
    ) -> None:
        self._database, self._shard, self._clock = database, shard, clock
        self._reserve, self._limit = reserve, limit
        self._salt: bytes | None = None
        self._known: dict[tuple[str, str], _Known] = {}
        # Since when (monotonic) the database has not answered.
        self._down_since: float | None = None
        self._telling: set[asyncio.Task[None]] = set()
        # By key, the last limit and number of remaining requests that a response told, until that is told on.
        self._heard: dict[tuple[str, str], tuple[int, int | None]] = {}

    def allow(self, *, reserve: int, limit: int) -> None:
        """See `Leases.allow`."""
        self._reserve, self._limit = max(0, reserve), limit
        for (_, group), known in self._known.items():
            if not known.is_told:
                known.limit = assumed_limit(group, limit)

    def share(self, journal: UseJournal) -> None:
        """See `Leases.share`: all processes of all hosts borrow here."""

    def settle(self) -> None:
        """See `Leases.settle`: everybody knows everything."""

    def _of(self, identity: str, group: str) -> _Known:
        found = self._known.get((identity, group))
        if found is None:
            found = self._known[identity, group] = _Known(assumed_limit(group, self._limit))
        return found

    # -- borrowing

    async def lease(self, identity: str, group: str, want: int, *, spares: bool) -> Lease:
        """See `Leases.lease`."""
        while True:
            began = self._clock.monotonic()
            try:
                lease = await self._lease(identity, group, want, spares, began)
            except DatabaseDown:
                self._down_since = began if self._down_since is None else self._down_since
                if began >= self._down_since + PATIENCE_SECONDS:
                    raise
            else:
                self._down_since = None
                return lease
            await self._clock.sleep(RETRY_SECONDS)

    async def _lease(self, identity: str, group: str, want: int, spares: bool, began: float) -> Lease:
        known = self._of(identity, group)
        async with self._database.transaction() as connection:
            key = await self._row(connection, identity, group)
            limit, is_told, blocked = await self._read(connection, key, group)
            # What this host was told may not be written yet.
            blocked = max(blocked, known.blocked_until - began)
            used = await self._used(connection, key)
            allowed = allowed_of(limit, reserve=self._reserve, spares=spares)
            granted, lease = max(0, min(want, allowed - used)) if blocked <= 0 else 0, ""
            again = blocked
            if granted:
                rows = await connection.execute(
                    "INSERT INTO lent (identity, resources, shard, count, at)"
                    " VALUES (%s, %s, %s, %s, now() + make_interval(secs => %s)) RETURNING id",
                    [*key, self._shard, granted, LEASE_SECONDS + MARGIN_SECONDS],
                )
                lease = str((await _one(rows))[0])
            elif blocked <= 0:
                again = await self._again(connection, key, used - allowed + 1)
        known.limit, known.is_told, known.used, known.at = limit, is_told, used + granted, began
        known.blocked_until = began + blocked
        known.ask_at = began + again
        return Lease(granted, began + LEASE_SECONDS if granted else began, again, lease)

    async def _row(self, connection: Connection, identity: str, group: str) -> tuple[str, str]:
        """Lock the row of an identity and group, whose key is returned."""
        if self._salt is None:
            rows = await connection.execute("SELECT salt FROM cluster")
            self._salt = bytes((await _one(rows))[0])
        key = hashed(self._salt, identity), group
        await connection.execute(
            "INSERT INTO budgets (identity, resources) VALUES (%s, %s) ON CONFLICT DO NOTHING", key
        )
        await connection.execute("SELECT FROM budgets WHERE identity = %s AND resources = %s FOR UPDATE", key)
        return key

    async def _read(
        self, connection: Connection, key: tuple[str, str], group: str
    ) -> tuple[int, bool, float]:
        """The limit, whether a server told it, and for how many more seconds nothing may be sent."""
        rows = await connection.execute(
            "SELECT requests_limit, inferred_until IS NULL OR inferred_until > clock_timestamp(),"
            " least(%s, greatest(0, extract(epoch FROM blocked_until - clock_timestamp())))::float8"
            " FROM budgets WHERE identity = %s AND resources = %s",
            [WAIT_MAX, *key],
        )
        limit, is_valid, blocked = await _one(rows)
        if blocked is not None and blocked >= WAIT_MAX:  # the database's clock was set back
            await connection.execute(
                "UPDATE budgets SET blocked_until ="
                " least(blocked_until, clock_timestamp() + make_interval(secs => %s))"
                " WHERE identity = %s AND resources = %s",
                [WAIT_MAX, *key],
            )
        is_told = limit is not None and is_valid
        return (limit if is_told else assumed_limit(group, self._limit)), is_told, float(blocked or 0.0)

    async def _used(self, connection: Connection, key: tuple[str, str]) -> int:
        """The requests of the last hour. Older ones are forgotten."""
        await connection.execute(
            "DELETE FROM lent WHERE identity = %s AND resources = %s"
            " AND at <= clock_timestamp() - make_interval(secs => %s)",
            [*key, HOUR],
        )
        rows = await connection.execute(
            "SELECT coalesce(sum(count), 0)::int FROM lent WHERE identity = %s AND resources = %s", key
        )
        return int((await _one(rows))[0])

    async def _again(self, connection: Connection, key: tuple[str, str], needed: int) -> float:
        """In how many seconds so many of the requests that count now will count no more."""
        rows = await connection.execute(
            "SELECT extract(epoch FROM min(at) - clock_timestamp())::float8 FROM (SELECT at,"
            " sum(count) OVER (ORDER BY at, id) AS gone FROM lent WHERE identity = %s AND resources = %s)"
            " AS counted WHERE gone >= %s",
            [*key, needed],
        )
        (seconds,) = await _one(rows)
        left: float = (seconds or 0.0) + HOUR
        if left > HOUR + LEASE_SECONDS + MARGIN_SECONDS:
            await self._come_back(connection, key)
        return min(max(0.0, left), HOUR + LEASE_SECONDS + MARGIN_SECONDS)

    async def _come_back(self, connection: Connection, key: tuple[str, str]) -> None:
        """The database's clock was set back: what lies ahead of it counts as if it were lent now."""
        await connection.execute(
            "UPDATE lent SET at = least(at, clock_timestamp() + make_interval(secs => %s))"
            " WHERE identity = %s AND resources = %s",
            [LEASE_SECONDS + MARGIN_SECONDS, *key],
        )

    async def give_back(self, identity: str, group: str, lease: Lease, unused: int) -> None:
        """See `Leases.give_back`."""
        if not lease.id:
            return
        try:
            async with self._database.transaction() as connection:
                await self._row(connection, identity, group)
                await connection.execute(
                    "DELETE FROM lent WHERE id = %s AND count <= %s", [int(lease.id), unused]
                )
                # What was taken of it may still wait for a connection, and be sent until the lease ends.
                await connection.execute(
                    "UPDATE lent SET count = count - %s WHERE id = %s", [unused, int(lease.id)]
                )
        except (MirrorError, OSError) as error:  # it counts until it is old
            _log.info("cluster.lease_kept", reason=str(error))
            return
        known = self._of(identity, group)
        known.used = max(0, known.used - unused)

    # -- what is known here

    def hour(self, identity: str, group: str, *, spares: bool) -> Hour:
        """See `Leases.hour`. What was not heard of for a while is worth asking."""
        known, now = self._of(identity, group), self._clock.monotonic()
        allowed = allowed_of(known.limit, reserve=self._reserve, spares=spares)
        free, again = allowed - known.used, max(0.0, known.ask_at - now)
        if free <= 0 and again <= 0:
            if now >= known.at + KNOWN_SECONDS:
                free = allowed
            else:
                again = known.at + KNOWN_SECONDS - now
        return Hour(known.used, known.limit, free, again, max(0.0, known.blocked_until - now))

    def hours(self) -> Sequence[tuple[str, str, int, int]]:
        """See `Leases.hours`: as the database last said."""
        return [(*key, one.used, one.limit) for key, one in list(self._known.items())]

    # -- what responses tell

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """See `Leases.learn`."""
        if limit is None or limit <= 0:
            return
        known = self._of(identity, group)
        is_news = not known.is_told or limit != known.limit
        known.limit, known.is_told = limit, True
        if remaining is not None and not 0 <= remaining <= limit:
            remaining = None
        if not is_news and (remaining is None or limit - remaining <= known.used):
            return
        key = identity, group
        is_told_soon = key in self._heard
        self._heard[key] = limit, remaining
        if not is_told_soon:
            self._tell(self._learn(identity, group))

    async def _learn(self, identity: str, group: str) -> None:
        heard: tuple[int, int | None] | None = None
        try:
            async with self._database.transaction() as connection:
                key = await self._row(connection, identity, group)
                limit, remaining = heard = self._heard.pop((identity, group))
                await connection.execute(
                    "UPDATE budgets SET requests_limit = %s, inferred_until = NULL"
                    " WHERE identity = %s AND resources = %s",
                    [limit, *key],
                )
                used = await self._used(connection, key)
                # Others may use the same identity: count the requests that nobody here was lent.
                unseen = 0 if remaining is None else limit - remaining - used
                if unseen > 0:
                    await connection.execute(
                        "INSERT INTO lent (identity, resources, count) VALUES (%s, %s, %s)", [*key, unseen]
                    )
                self._of(identity, group).used = used + max(0, unseen)
        finally:
            if heard is None:  # what is heard next is told: nobody is on the way any more
                self._heard.pop((identity, group), None)

    def block(self, identity: str, group: str, seconds: float) -> None:
        """See `Leases.block`: at most for the window."""
        known, seconds = self._of(identity, group), min(max(seconds, 0.0), WAIT_MAX)
        known.blocked_until = max(known.blocked_until, self._clock.monotonic() + seconds)
        self._tell(self._block(identity, group, seconds))

    async def _block(self, identity: str, group: str, seconds: float) -> None:
        """Tell it, as soon as the database can be reached: others must not send meanwhile."""
        until = self._clock.monotonic() + seconds
        while True:
            try:
                await self._write_block(identity, group, max(0.0, until - self._clock.monotonic()))
            except DatabaseDown:
                if self._clock.monotonic() >= until:
                    raise
            else:
                return
            await self._clock.sleep(RETRY_SECONDS)

    async def _write_block(self, identity: str, group: str, seconds: float) -> None:
        async with self._database.transaction() as connection:
            key = await self._row(connection, identity, group)
            await connection.execute(
                "UPDATE budgets SET blocked_until ="
                " greatest(blocked_until, clock_timestamp() + make_interval(secs => %s))"
                " WHERE identity = %s AND resources = %s",
                [seconds, *key],
            )
            limit, is_told, _ = await self._read(connection, key, group)
            used = await self._used(connection, key)
            # No header ever told the limit: it is inferred from the requests so far, for an hour.
            if not is_told and LIMIT_LEAST <= used < limit:
                await connection.execute(
                    "UPDATE budgets SET requests_limit = %s,"
                    " inferred_until = clock_timestamp() + make_interval(secs => %s)"
                    " WHERE identity = %s AND resources = %s",
                    [used, HOUR, *key],
                )

    def _tell(self, telling: Coroutine[Any, Any, None]) -> None:
        """Tell the database what a response told, beside the work that goes on."""
        task = asyncio.ensure_future(_logged(telling))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def finish(self) -> None:
        """Wait until everything was told, but not for a database that is away."""
        while self._telling:
            _, left = await asyncio.wait(self._telling, timeout=FINISH_SECONDS)
            for one in left:
                one.cancel()


async def _logged(telling: Coroutine[Any, Any, None]) -> None:
    try:
        await telling
    except (MirrorError, OSError) as error:  # the next response tells it again
        _log.info("cluster.not_told", reason=str(error))


async def _one(rows: Any) -> tuple[Any, ...]:
    row = await rows.fetchone()
    assert row is not None
    return tuple(row)
