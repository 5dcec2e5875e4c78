"""One store that was lived with, for every test that only reads it."""

from __future__ import annotations

import asyncio

import pytest

from tests.web.world import Lived, live


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    return asyncio.run(live(tmp_path_factory.mktemp("lived")))
