"""One PostgreSQL for a session of tests, and a database for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from mirror.cluster.database import Database
from mirror.cluster.schema import migrate
from tests.cluster.clusters import database_at
from tests.cluster.postgres import Postgres, need_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server. A test that stopped it starts it again."""
    server = Postgres(need_postgres())
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database of a test's own."""
    name = postgres.make_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def schema(postgres: Postgres) -> str:
    """The name of a database with the cluster's schema in it, to be copied."""
    name = postgres.make_database()

    async def make() -> None:
        made = database_at(postgres.url(name))
        await migrate(made)
        await made.close()

    asyncio.run(make())
    return name


@pytest.fixture
def cluster_url(postgres: Postgres, schema: str) -> Iterator[str]:
    """The URL of a cluster's database of a test's own."""
    name = postgres.make_database(schema)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
async def cluster(cluster_url: str) -> AsyncIterator[Database]:
    """A cluster's database of a test's own."""
    opened = database_at(cluster_url)
    yield opened
    await opened.close()
