"""Stores for every test that only reads them, and a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.web.large_world import make_world
from tests.web.served import Served, serve
from tests.web.standing import CLUSTERED, LiveForTests, cluster_for_tests
from tests.web.world import Lived, live

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """A store that was lived with."""
    return asyncio.run(live(tmp_path_factory.mktemp("lived")))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 repositories, some of which are not well."""
    return make_world(tmp_path_factory.mktemp("world") / "store")


@pytest.fixture(scope="session")
def served(world: Path) -> Iterator[Served]:
    """The page over those 500 repositories, beside a service that is a host of a cluster."""
    with serve(world, config=CLUSTERED, live=LiveForTests(), cluster=cluster_for_tests) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. As long as it lives, its event loop counts as running in this thread, so its
    module can have no other: no async tests, no `asyncio.run`."""
    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        yield found
        found.close()
