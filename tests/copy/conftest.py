"""Stores to copy: backed up once for all tests, of which each has its own."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.config import load
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.bucket.servers import moto_server, seaweed
from tests.e2e.helpers import write_config
from tests.place import Place

__all__ = ["moto_server", "seaweed"]


@dataclass(frozen=True)
class Stores:
    """A store twice: `now`, and `later`, when one repository had a push."""

    now: Path
    later: Path

    def put(self, which: Path, target: Path) -> None:
        """Bring the store at `target` to the state of one of them, as a backup would: what did not change
        stays the same file. Caches, and records of the target's own runs, stay."""
        for path in sorted(which.rglob("*")):
            there = target / path.relative_to(which)
            if path.is_dir():
                there.mkdir(exist_ok=True)
            elif not there.exists() or there.read_bytes() != path.read_bytes():
                shutil.copy(path, there.with_name("new"))
                there.with_name("new").rename(there)
        for path in sorted((target / "workspaces").rglob("*"), reverse=True):
            if not (which / path.relative_to(target)).exists():
                path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Backups of the sample workspace."""
    folder = tmp_path_factory.mktemp("stores")
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        place = Place(folder, simulator, load(write_config(folder, simulator, token)))
        assert asyncio.run(place.run()).exit_code == 0
        assert asyncio.run(place.run()).exit_code == 0
        shutil.copytree(place.config.store, folder / "now", symlinks=True)
        website = place.acme.repositories["website"]
        website.commit(
            "main", {"new.txt": b"new\n", "large.bin": random.Random(1).randbytes(1 << 20)}, "New\n"
        )
        assert asyncio.run(place.run()).exit_code == 0
    yield Stores(folder / "now", place.config.store)
