"""Writes the kept store of this version: `python -m tests.stores.make VERSION`, once, at a release.

A kept store is never made again: it is what somebody's disk looks like.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from mirror import backup
from mirror.config import load
from mirror.simulator import Simulator, World
from mirror.simulator.sample import SCOPES, accident, populate
from tests.clock import FakeClock
from tests.e2e.helpers import write_config

HERE = Path(__file__).parent


async def make(version: str) -> None:
    """Two backups with an accident between, and what upstream had before it."""
    folder = Path(tempfile.mkdtemp())
    clock = FakeClock()
    world = World(folder / "upstream", clock=clock.now)
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    before = {
        name: {ref.decode(): value for ref, value in repository.refs().items()}
        for name, repository in world.workspaces["acme"].repositories.items()
    }
    with Simulator(world) as simulator:
        config = load(write_config(folder, simulator, token))
        await backup.run(config, clock=clock, environment=os.environ)
        clock.elapsed += 3600
        accident(world)
        await backup.run(config, clock=clock, environment=os.environ)
    (HERE / f"{version}.json").write_text(json.dumps(before, indent=2, sort_keys=True) + "\n")
    with tarfile.open(HERE / f"{version}.tar.gz", "w:gz") as archive:
        archive.add(folder / "store", "store")


if __name__ == "__main__":
    asyncio.run(make(sys.argv[1]))
