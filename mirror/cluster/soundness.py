"""Whether a cluster's database can be relied on, for `mirror doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mirror.cluster.database import Connection, Database
from mirror.cluster.overview import overview
from mirror.cluster.schema import check
from mirror.cluster.shards import SKEW_MAX
from mirror.config import Config
from mirror.errors import MirrorError, TryLater
from mirror.model import Clock
from mirror.store.reading.reader import Store

# The oldest PostgreSQL that what we use works with, as the server counts versions.
OLDEST = 140000  # idle_session_timeout


@dataclass(frozen=True)
class Sound:
    """One thing that was looked at; `code` is the exit code where it fails."""

    state: Literal["ok", "warn", "fail"]
    text: str
    remedy: str | None = None
    code: int = 1


async def look(config: Config, environment: Mapping[str, str], clock: Clock) -> list[Sound]:
    """Look at the database and the shards. Errors are among what is returned."""
    assert config.cluster is not None
    database = Database.of(config, environment)
    found: list[Sound] = []
    try:
        async with database.session() as connection:
            found += await _server(connection)
            await check(connection)
            found.append(Sound("ok", "its schema is that of this version"))
            found.append(await _clock(connection, clock))
            found += await _shards(connection, config)
    except MirrorError as error:
        state: Literal["warn", "fail"] = "warn" if isinstance(error, TryLater) else "fail"
        found.append(Sound(state, error.message, error.hint, error.exit_code))
    finally:
        await database.close()
    return found


async def _server(connection: Connection) -> list[Sound]:
    row = await (
        await connection.execute(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
            " pg_is_in_recovery(), current_setting('fsync')::bool, inet_client_addr() IS NULL"
            " OR inet_client_addr() << '127.0.0.0/8' OR inet_client_addr() = '::1',"
            " coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)"
        )
    ).fetchone()
    assert row is not None
    number, name, is_standby, has_fsync, is_local, is_safe = row
    found = [Sound("ok", f"PostgreSQL {name}")]
    if number < OLDEST:
        found = [Sound("fail", f"PostgreSQL {name} is too old", f"use {OLDEST // 10000} or later")]
    if is_standby:
        found.append(Sound("fail", "the server is a standby, which takes no changes", "name the primary"))
    if not has_fsync:
        text = "fsync is off: a power failure may lose the database, and moves that are on their way with it"
        found.append(Sound("warn", text, "remove fsync=off from postgresql.conf"))
    if not (is_local or is_safe):
        text = "the connection is not encrypted, and carries names and states of repositories"
        found.append(Sound("warn", text, "add sslmode=verify-full to its address"))
    return found


async def _clock(connection: Connection, clock: Clock) -> Sound:
    before = clock.now()
    row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    assert row is not None
    off = before + (clock.now() - before) / 2 - row[0]
    if abs(off) <= SKEW_MAX:
        return Sound("ok", "this host's clock agrees with the database's")
    seconds = abs(off).total_seconds()
    return Sound(
        "warn", f"this host's clock is {seconds:.0f} s off the database's", "let both keep time by NTP"
    )


async def _shards(connection: Connection, config: Config) -> list[Sound]:
    assert config.cluster is not None
    mine = config.cluster.shard
    with Store.open(config.store) as store:
        store_id = store.id
    seen = await overview(connection)
    found = []
    for one in seen.shards:
        if one.shard.name == mine and one.shard.store_id != store_id:
            text = f"the shard {mine} is another store, on {one.shard.host}"
            found.append(Sound("fail", text, "give this host a name of its own in cluster.shard", 2))
        elif one.shard.name != mine and one.shard.store_id == store_id:
            text = f"this store is known as the shard {one.shard.name}"
            found.append(Sound("fail", text, f"write `shard: {one.shard.name}`; a shard keeps its name", 2))
    found += [Sound("warn", text, "see mirror cluster status") for text in seen.concerns]
    return found or [Sound("ok", f"{len(seen.shards)} shards, and nothing stands in the way")]
