"""Flip a byte in every file of a store that cannot be rebuilt, truncate each, remove each: verify finds and
names all of it. MIRROR_SOAK=1 flips many bytes of each file."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mirror import backup, prune, verify
from mirror.config import Retention, load
from mirror.errors import NoStore
from mirror.model import Selector
from mirror.retention import Policy
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, SLUG
from tests.clock import FakeClock
from tests.counts import told
from tests.crash.actions import again, changes, small
from tests.crash.points import SEED, SOAK
from tests.e2e.helpers import write_config
from tests.git.backend import need_git
from tests.verify.rebuildable import REBUILDABLE

FLIPS = 100 if SOAK else 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every file that this version writes: after backups, a prune and an erasure."""
    need_git()
    folder = tmp_path_factory.mktemp("sweep")
    world = World(folder / "upstream")
    small(world)
    token = world.add_workspace_access_token(SLUG, SCOPES)
    clock = FakeClock()

    async def write(simulator: Simulator) -> None:
        config = load(write_config(folder, simulator, token))
        for change in (changes, again, again, again):
            await backup.run(config, clock=clock, environment=os.environ)
            clock.elapsed += 3600
            change(world)
        await backup.run(config, clock=clock, environment=os.environ)
        rule = Retention(Policy(keep_last=3))
        kept = replace(config, workspaces=tuple(replace(one, retention=rule) for one in config.workspaces))
        await prune.prune(kept, clock=clock, environment=os.environ)
        await prune.erase(
            folder / "store", Selector(SLUG, "website"), prune.ErasureTarget("pull-requests/0/1.json"),
            reason="asked for", by="ann", clock=clock, environment=os.environ,
        )  # fmt: skip

    with Simulator(world) as simulator:
        asyncio.run(write(simulator))
    return folder / "store"


def files(store: Path) -> list[Path]:
    """Every file whose content cannot be rebuilt."""
    found = (path.relative_to(store) for path in sorted(store.rglob("*")) if path.is_file())
    return [path for path in found if not any(part in path.as_posix() for part in REBUILDABLE)]


def damages(store: Path) -> list[tuple[Path, str, int]]:
    """The damages: which file, which kind, and at which byte."""
    rng = random.Random(SEED)
    found: list[tuple[Path, str, int]] = []
    for path in files(store):
        size = (store / path).stat().st_size
        found.append((path, "remove", 0))
        if size:
            found.append((path, "truncate", rng.randrange(size)))
            found += [(path, "flip", at) for at in rng.sample(range(size), min(size, FLIPS))]
    return found


def damage(path: Path, how: str, at: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    if how == "remove":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(data[:at])
    else:
        data[at] ^= 1 << at % 8
        path.write_bytes(data)


async def found(store: Path, path: Path) -> bool:
    """Whether verify finds damage and names the file, or its folder or git repository."""
    try:
        run = await verify.run(store, clock=FakeClock(), environment=os.environ)
    except NoStore:
        return path.name == "store.json"
    # For a file in a git repository, the name of the repository is enough.
    place, inside, _ = path.as_posix().partition(".git/")
    folder = f"{place}.git" if inside else str(path.parent)
    named = [str(one["file"]) for one in run.facts["findings"] if one["severity"] == "damage"]
    # The next run record shows that a run record is missing.
    return run.exit_code == 4 and any(folder in one or path.name.removesuffix(".gz") in one for one in named)


@pytest.mark.git
@pytest.mark.timeout(6 * 3600 if SOAK else 600)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",  # dulwich warns about packs that it could not open
    "ignore::ResourceWarning",
)
async def test_all_damage_is_found(store: Path, tmp_path: Path) -> None:
    assert (await verify.run(store, clock=FakeClock(), environment=os.environ)).exit_code == 0
    missed, all_ = [], damages(store)
    for path, how, at in all_:
        copy = tmp_path / "store"
        shutil.copytree(store, copy)
        damage(copy / path, how, at)
        if not await found(copy, path):
            missed.append(f"{how} {path} at {at}")
        shutil.rmtree(copy)
    flips = sum(1 for _, how, _ in all_ if how == "flip")
    told("sweep", files=len(files(store)), damages=len(all_), flips=flips, missed=len(missed), seed=SEED)
    assert not missed
