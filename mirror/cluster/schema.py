"""The schema of the cluster's database: ours by numbered SQL files, procrastinate's by its own.

Both are applied one after the other under a lock of the database, each file in a transaction of its own, and
noted in `mirror.migrations`. A database that knows more than this version is refused by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from procrastinate.schema import SchemaManager
from psycopg import errors
from psycopg.sql import SQL, Identifier

from mirror.cluster.database import OURS, THEIRS, Connection, Database, mapped
from mirror.errors import UsageError

# The key of the advisory lock under which one process migrates.
_LOCK = 0x6D6972726F72
_FILE = re.compile(r"(\d{4})_\w+\.sql")
_NOTES = """
CREATE TABLE IF NOT EXISTS mirror.migrations (
    name text PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now()
)
"""
# How long, in seconds, one file may take: it may have to wait for those who use the tables.
_FILE_SECONDS = "600s"


@dataclass(frozen=True)
class Migrated:
    """What `migrate` did: the cluster's id, and the files that were applied, which are none where the
    database was as it should be."""

    cluster: str
    applied: tuple[str, ...]


def our_migrations() -> list[tuple[str, str]]:
    """Our migrations in their order: name and SQL."""
    found = [
        one for one in files("mirror.cluster").joinpath("migrations").iterdir() if _FILE.fullmatch(one.name)
    ]
    return [(one.name, one.read_text("utf-8")) for one in sorted(found, key=lambda one: one.name)]


def _their_migrations() -> list[tuple[str, str]]:
    """procrastinate's migrations in their order."""
    found = sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    return [(f"procrastinate/{one.name}", one.read_text("utf-8")) for one in found]


async def migrate(database: Database) -> Migrated:
    """Make the schema, or bring it up to date. Two at once do it one after the other. Raises UsageError where
    the database is of a newer version, or may not be changed, and what `Database.connect` raises."""
    connection = await database.connect()
    applied: list[str] = []
    try:
        with mapped():
            await connection.execute("SET lock_timeout = 0")
            await connection.execute(f"SET statement_timeout = '{_FILE_SECONDS}'")
            await connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            await _migrate(connection, applied)
            row = await (await connection.execute("SELECT id::text FROM mirror.cluster")).fetchone()
    finally:
        await connection.close()  # which releases the lock
    assert row is not None
    return Migrated(row[0], tuple(applied))


async def _migrate(connection: Connection, applied: list[str]) -> None:
    for name in (OURS, THEIRS):
        await connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(name)))
    await connection.execute(_NOTES)
    known = await _known(connection)
    _refuse_newer(known)
    theirs = _their_migrations()
    if not any(name.startswith("procrastinate/") for name in known):
        await _apply(connection, THEIRS, SchemaManager.get_schema(), [name for name, _ in theirs])
        applied.append("procrastinate")
    else:
        for name, text in theirs:
            if name not in known:
                await _apply(connection, THEIRS, text, [name])
                applied.append(name)
    for name, text in our_migrations():
        if name not in known:
            await _apply(connection, OURS, text, [name])
            applied.append(name)


async def _apply(connection: Connection, schema: str, text: str, names: list[str]) -> None:
    """Apply one file, and note that the migrations of these names are done with it."""
    async with connection.transaction():
        await connection.execute(SQL("SET LOCAL search_path = {}").format(Identifier(schema)))
        await connection.execute(text.encode())
        for name in names:
            await connection.execute("INSERT INTO mirror.migrations (name) VALUES (%s)", [name])


async def _known(connection: Connection) -> set[str]:
    """The migrations that the database has; none where it has not even the table for them."""
    try:
        rows = await (await connection.execute("SELECT name FROM mirror.migrations")).fetchall()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return set()
    return {row[0] for row in rows}


def _refuse_newer(known: set[str]) -> None:
    newer = known - {name for name, _ in (*our_migrations(), *_their_migrations())}
    if newer:
        raise UsageError(
            f"the cluster's database is of a newer version: it has {', '.join(sorted(newer))}",
            hint="install the version of mirror that the other hosts have",
        )


async def check(connection: Connection) -> None:
    """Raise UsageError where the schema is not that of this version."""
    with mapped():
        known = await _known(connection)
    _refuse_newer(known)
    lacking = [name for name, _ in (*our_migrations(), *_their_migrations()) if name not in known]
    if lacking:
        what = (
            "has no schema of mirror yet" if not known else f"is of an older version: it lacks {lacking[0]}"
        )
        raise UsageError(f"the cluster's database {what}", hint="run `mirror cluster init`")
