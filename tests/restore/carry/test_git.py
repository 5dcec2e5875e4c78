"""LFS objects and refs reach the target as far as it takes them: in pieces where pushes are limited."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from mirror.config import load
from mirror.restore.carry.report import Outcome, Report
from mirror.simulator import Simulator, World
from mirror.simulator.git.lfs import add_object, object_file
from mirror.simulator.world.sample import SCOPES
from tests.e2e.helpers import write_config
from tests.place import Place
from tests.restore.carry.target import upstream

SIZE = 40_000
OBJECT = b"an object of its own\n"


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a repository that has an LFS object, and branches with much in them."""
    folder = tmp_path_factory.mktemp("assets")
    world = World(folder / "upstream")
    repository = world.add_workspace("acme").add_repository("assets", project="WEB")
    repository.commit("main", {"logo.bin": add_object(repository, OBJECT)}, "Begin\n")
    for number in range(4):
        repository.commit(f"part-{number}", {"data": random.Random(number).randbytes(SIZE)}, "More\n")
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = load(write_config(folder, simulator, token))
        asyncio.run(Place(folder, simulator, config).run())
    return config.store


async def test_pushes_keep_within_the_limit(assets: Path, tmp_path: Path) -> None:
    with upstream(tmp_path) as target:
        target.simulator.world.sizes["push"] = 2 * SIZE
        report = await target.restore(assets)
        assert isinstance(report, Report) and report.exit_code == 0, report.lines()
        restored = target.workspace.repositories["assets"]
        assert {name for name in restored.refs() if name.startswith(b"refs/heads/part-")} == {
            f"refs/heads/part-{number}".encode() for number in range(4)
        }
        [oid] = [one.name for one in object_file(restored, "0" * 64).parents[2].rglob("*") if one.is_file()]
        assert object_file(restored, oid).read_bytes() == OBJECT
        sent = [one.path for one in target.simulator.requests]
        [batch, *_] = [number for number, path in enumerate(sent) if path.endswith("/objects/batch")]
        [push, *_] = [number for number, path in enumerate(sent) if path.endswith("/git-receive-pack")]
        assert batch < push, "a pointer came before its object"


async def test_a_file_that_is_too_large_is_told(assets: Path, tmp_path: Path) -> None:
    with upstream(tmp_path) as target:
        target.simulator.world.sizes["file"] = SIZE // 2
        report = await target.restore(assets)
        assert isinstance(report, Report) and report.exit_code == 3
        [refused] = [one for one in report.entries if one.outcome is Outcome.REFUSED]
        assert "refs/heads/part-3" in refused.message and refused.key == "assets/branches"
        # The other branches came, and what follows them.
        restored = target.workspace.repositories["assets"]
        assert b"refs/heads/main" in restored.refs() and restored.main_branch() == "main"
