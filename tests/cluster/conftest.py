"""One PostgreSQL for a session of tests, and a database for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
