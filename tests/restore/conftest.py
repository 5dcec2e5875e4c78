"""One backup of the sample workspace, for every test of plans."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mirror.config import load
from mirror.restore.plan.source import Source
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.reading.reader import Store
from tests.e2e.helpers import write_config
from tests.place import Place


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with one snapshot of everything. Nothing may change it."""
    folder = tmp_path_factory.mktemp("planned")
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = load(write_config(folder, simulator, token))
        asyncio.run(Place(folder, simulator, config).run())
    with Store.open(config.store) as store:
        yield store


@pytest.fixture(scope="session")
def acme(stored: Store) -> Source:
    """The workspace itself."""
    [folder] = stored.workspaces()
    return Source(folder, folder.metadata.at("latest").snapshot)


@pytest.fixture(scope="session")
def sources(stored: Store) -> dict[str, Source]:
    """The repositories, by their slugs."""
    return {
        one.slug: Source(one, one.metadata.at("latest").snapshot, one.slug) for one in stored.repositories()
    }
