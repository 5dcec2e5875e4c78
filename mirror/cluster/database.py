"""Connections to the cluster's PostgreSQL, and what its errors mean.

The secret that holds the connection string is read anew for each connection. No message of ours quotes it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from mirror.auth.secrets import Secret, SecretSource, read_secret
from mirror.config import Config
from mirror.errors import CredentialRefused, MirrorError, TryLater, UsageError

# The schemas that hold what is ours, and what is procrastinate's. Every connection looks there, and nowhere
# else.
OURS, THEIRS = "mirror", "procrastinate"
# In seconds: how long a connection may take to be made, and one transaction to be answered. A server that is
# gone without a word is noticed by the network's keepalives, one that hangs by these.
CONNECT_SECONDS, ANSWER_SECONDS = 10, 30.0
# So many connections of a process, beside those that it keeps for itself (the lock of its shard, notices).
CONNECTIONS = 6
# Idle, between, how often: a dead network is noticed after some 11 seconds, here and by the server.
_KEEPALIVES = {
    "keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
    "tcp_user_timeout": 11_000,
}  # fmt: skip
# What is lent and placed is read behind the lock of a row, where an older snapshot would not see it. What was
# answered must outlive a crash of the server.
_SETTINGS = f"""
SET default_transaction_isolation = 'read committed';
SET synchronous_commit = on;
SET search_path = {OURS}, {THEIRS};
SET timezone = 'UTC';
SET statement_timeout = '25s';
SET lock_timeout = '20s';
SET idle_in_transaction_session_timeout = '60s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = 11000;
"""
_REFUSED = re.compile(
    r"(password|peer|ident|certificate|gssapi|ldap|pam|scram|md5).{0,20} authentication failed"
    r"|authentication failed|no pg_hba\.conf entry|role \S+ does not exist|no password supplied"
    r"|not permitted to log in",
    re.IGNORECASE,
)
_NO_DATABASE = re.compile(r"database \S+ does not exist")
_INIT = "run `mirror cluster init`"

Connection = psycopg.AsyncConnection[Any]


class DatabaseDown(TryLater):
    """The cluster's database cannot be reached, or does not answer."""


class Database:
    """The cluster's database. `label` says who connects, in the server's own lists."""

    def __init__(self, source: SecretSource, environment: Mapping[str, str], *, label: str) -> None:
        self._source, self._environment = source, environment
        self._label = label
        self._idle: list[Connection] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._is_closed = False

    @classmethod
    def of(cls, config: Config, environment: Mapping[str, str]) -> Database:
        """The database that a configuration names. Raises UsageError where it names none."""
        if config.cluster is None:
            raise UsageError(
                f"{config.source or 'the configuration'} has no cluster",
                hint="add for example: cluster: {database: {file: /etc/mirror/database}, shard: backup-1}",
            )
        return cls(config.cluster.database, environment, label=f"mirror {config.cluster.shard}")

    async def connect(self) -> Connection:
        """A connection of the caller's own, which commits each statement by itself. Raises DatabaseDown,
        CredentialRefused where the server refuses the sign-in, UsageError."""
        dsn = await read_secret(self._source, environment=self._environment)
        try:
            parameters: dict[str, Any] = {**conninfo_to_dict(dsn.reveal())}
        except psycopg.Error:
            raise UsageError(
                f"the secret from {self._source} is no connection string of PostgreSQL",
                hint="write it as postgresql://USER:PASSWORD@HOST:5432/DATABASE",
            ) from None
        if parameters.get("password"):
            Secret(str(parameters["password"]))  # no log shows it
        given = {"connect_timeout": CONNECT_SECONDS, **_KEEPALIVES, **parameters}
        given["application_name"] = self._label
        with mapped():
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                made: Connection = await psycopg.AsyncConnection.connect(**given, autocommit=True)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await made.execute(_SETTINGS)
            except BaseException:
                await made.close()
                raise
        return made

    @asynccontextmanager
    async def session(self, *, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Connection]:
        """A connection for a moment, at most so many seconds. Raises what `connect` raises."""
        async with self._slots:
            connection = await self._take()
            try:
                with mapped():
                    async with asyncio.timeout(seconds):
                        yield connection
            except BaseException:
                if not _is_idle(connection):
                    await connection.close()
                raise
            finally:
                if not connection.closed and not self._is_closed:
                    self._idle.append(connection)
                else:
                    await connection.close()

    @asynccontextmanager
    async def transaction(self, *, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Connection]:
        """As `session`, in one transaction."""
        async with self.session(seconds=seconds) as connection, connection.transaction():
            yield connection

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            is_good = False
            try:
                is_good = _is_idle(connection) and await _answers(connection)
            finally:
                if not is_good:
                    await connection.close()
            if is_good:
                return connection
        return await self.connect()

    async def close(self) -> None:
        """Close what is open; what is in use is closed when it is given back."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().close()


async def connect(config: Config, environment: Mapping[str, str]) -> Connection:
    """A connection to the database that a configuration names; see `Database.connect`."""
    return await Database.of(config, environment).connect()


def _is_idle(connection: Connection) -> bool:
    return not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def _answers(connection: Connection) -> bool:
    """Whether a connection that was idle still works: a server that was restarted has closed it."""
    with suppress(psycopg.Error, TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.execute("SELECT 1")
        return True
    return False


@contextmanager
def mapped() -> Iterator[None]:
    """Raise what errors of PostgreSQL mean to us."""
    try:
        yield
    except TimeoutError as error:
        raise DatabaseDown("the cluster's database does not answer", hint=_reach()) from error
    except psycopg.Error as error:
        raise _meaning(error) from error


def _reach() -> str:
    return "check that PostgreSQL runs, and that this host reaches it"


def _meaning(error: psycopg.Error) -> MirrorError:
    text = _first_line(error)
    if isinstance(error, errors.UndefinedTable | errors.UndefinedFunction | errors.InvalidSchemaName):
        return UsageError("the cluster's database lacks what it needs: " + text, hint=_INIT)
    if isinstance(error, errors.InsufficientPrivilege):
        hint = "let this user own the database, or the schemas mirror and procrastinate in it"
        return UsageError(f"the cluster's database: {text}", hint=hint)
    if _NO_DATABASE.search(text):
        return UsageError(f"the cluster's database: {text}", hint="create it, then " + _INIT)
    if isinstance(error, errors.InvalidAuthorizationSpecification) or _REFUSED.search(text):
        hint = "check user and password in the secret that cluster.database names"
        return CredentialRefused(f"the cluster's database refused the sign-in: {text}", hint=hint)
    if isinstance(error, psycopg.OperationalError):
        return DatabaseDown(f"the cluster's database cannot be used: {text}", hint=_reach())
    return MirrorError(f"the cluster's database: {text}")


def _first_line(error: psycopg.Error) -> str:
    text = error.diag.message_primary or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
