"""A world with backups to prune."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.config import load
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

RULES = "retention: {keep_last: 2, pipeline_logs: 30d, keep_gone: 90d}\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        yield Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token, more=RULES)))
