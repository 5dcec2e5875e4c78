"""procrastinate's way to our database, and the few facts of it that ours must share.

Its own connector keeps a pool of its own, and ends a worker at the first lost connection. This one borrows
connections from `Database`, whose errors say what they mean.
"""

from __future__ import annotations

from typing import Any

from procrastinate import exceptions
from procrastinate.connector import BaseAsyncConnector
from procrastinate.manager import JobManager
from psycopg import AsyncCursor, errors
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from mirror.cluster.database import Connection, Database
from mirror.errors import MirrorError


class JobGone(MirrorError):
    """A job is not in the state any more in which it was: others put it back, ended or removed it."""


class Connector(BaseAsyncConnector):
    """Runs procrastinate's queries over the connections of a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        """Run a query."""
        async with self._database.session() as connection:
            await _execute(connection, query, arguments)

    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        """Run a query; returns its row."""
        async with self._database.session() as connection:
            return await self.execute_query_one_async_with_connection(connection, query, **arguments)

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """Run a query; returns its rows."""
        async with self._database.session() as connection:
            return await self.execute_query_all_async_with_connection(connection, query, **arguments)

    async def execute_query_one_async_with_connection(
        self, connection: Connection, query: str, **arguments: Any
    ) -> dict[str, Any]:
        """Run a query within the caller's transaction; returns its row."""
        found = await (await _execute(connection, query, arguments)).fetchone()
        if found is None:
            raise exceptions.NoResult
        return dict(found)

    async def execute_query_all_async_with_connection(
        self, connection: Connection, query: str, **arguments: Any
    ) -> list[dict[str, Any]]:
        """Run a query within the caller's transaction; returns its rows."""
        return list(await (await _execute(connection, query, arguments)).fetchall())


def manager_of(database: Database) -> JobManager:
    """procrastinate's jobs in this database."""
    return JobManager(Connector(database))


async def _execute(
    connection: Connection, query: str, arguments: dict[str, Any]
) -> AsyncCursor[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    try:
        # In a transaction of the caller's, what is refused takes back nothing else.
        async with connection.transaction():
            await cursor.execute(query.encode(), {name: _adapted(one) for name, one in arguments.items()})
    except errors.UniqueViolation as error:
        raise exceptions.UniqueViolation(
            constraint_name=error.diag.constraint_name, queueing_lock=None
        ) from error
    except errors.RaiseException as error:  # of procrastinate's own functions
        raise JobGone(error.diag.message_primary or "a job is gone") from error
    return cursor


def _adapted(value: Any) -> Any:
    if isinstance(value, dict):
        return Jsonb(value)
    if isinstance(value, tuple):
        return tuple(_adapted(one) for one in value)
    return [_adapted(one) for one in value] if isinstance(value, list) else value
