"""A byte flipped, a file truncated or removed: verify finds it and names it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mirror import backup, verify
from mirror.config import load
from mirror.errors import NoStore
from mirror.model import Run
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, accident, populate
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock
from tests.e2e.helpers import write_config
from tests.verify.rebuildable import REBUILDABLE

# dulwich warns about a pack that it could not open, because nobody closed it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undamaged store after two backups with an accident between them."""
    import asyncio

    folder = tmp_path_factory.mktemp("finished")
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    clock = FakeClock()
    with Simulator(world) as simulator:
        config = load(write_config(folder, simulator, token))
        asyncio.run(backup.run(config, clock=clock, environment=os.environ))
        clock.elapsed += 3600
        accident(world)
        asyncio.run(backup.run(config, clock=clock, environment=os.environ))
    return folder / "store"


async def check(store: Path, level: verify.Level = "objects") -> Run:
    return await verify.run(store, level=level, clock=FakeClock(), environment=os.environ)


def candidates(store: Path) -> list[Path]:
    """The largest file of each kind that a store has."""
    kinds: dict[str, Path] = {}
    for path in sorted(store.rglob("*")):
        name = path.relative_to(store).as_posix()
        if not path.is_file() or any(part in name for part in REBUILDABLE) or not path.stat().st_size:
            continue
        if "website" not in name and "runs/" not in name and name.count("/") > 2:
            continue
        above = f"{path.parent.parent.name[:4]}/{path.parent.name[:4]}"
        kind = f"{name.split('/')[0]}/{above}{path.suffix or path.name}"
        if kind not in kinds or path.stat().st_size > kinds[kind].stat().st_size:
            kinds[kind] = path
    return sorted(kinds.values())


async def test_a_good_store_has_no_findings(finished: Path) -> None:
    levels: tuple[verify.Level, ...] = ("refs", "objects")
    for level in levels:
        run = await check(finished, level)
        assert run.facts["findings"] == []
        assert run.exit_code == 0
    assert run.facts["checked"]["snapshots"] >= 6


@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
async def test_damage_in_any_kind_of_file_is_found_and_named(
    finished: Path, tmp_path: Path, how: str
) -> None:
    missed = []
    for original in candidates(finished):
        store = tmp_path / "store"
        shutil.copytree(finished, store, symlinks=True)
        name = original.relative_to(finished)
        damage(store / name, how)
        try:
            run = await check(store)
        except NoStore:
            assert name.name == "store.json"
        else:
            findings = run.facts["findings"]
            folder = name.as_posix().split("/repositories/")[-1].split("/")[0]
            if run.exit_code != 4 or not any(
                folder in one["file"] or "runs" in one["file"] for one in findings
            ):
                missed.append(f"{how} {name}: {findings[:2]}")
        shutil.rmtree(store)
    assert missed == []


def damage(path: Path, how: str) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    if how == "remove":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(bytes(data[: len(data) // 2]))
    else:
        data[len(data) // 2] ^= 0x04
        path.write_bytes(bytes(data))


async def test_a_snapshot_that_run_records_tell_of_is_missed(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store)
    [packed] = store.glob("workspaces/*/repositories/website~*/metadata.git/packed-refs")
    lines = [line for line in packed.read_text().splitlines() if not line.startswith("^")]
    tags = [line for line in lines if "refs/tags/" in line]
    packed.write_text("\n".join(line for line in lines if line != tags[0]) + "\n")
    run = await check(store, "refs")
    assert run.exit_code == 4
    [missing] = [one for one in run.facts["findings"] if "missing" in one["problem"]]
    assert missing["snapshots"] == [tags[0].rpartition("/")[2]]


async def test_a_hash_that_no_ref_holds_any_more_is_found(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store)
    [packed] = store.glob("workspaces/*/repositories/website~*/code.git/packed-refs")
    kept = [line for line in packed.read_text().splitlines() if "refs/mirror/keep/" not in line]
    packed.write_text("\n".join(kept) + "\n")
    run = await check(store, "refs")
    assert run.exit_code == 4
    assert any(
        "no longer the value of any ref" in one["problem"] and one["snapshots"]
        for one in run.facts["findings"]
    )


async def test_a_read_only_store_can_be_verified(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    assert (await check(store)).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


async def test_the_verify_record_joins_the_chain(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store)
    run = await check(store)
    with create_or_open(store, now=FakeClock().now()) as writer:
        writer.write_run(run)
    again = await check(store)
    assert again.exit_code == 0
    assert again.facts["checked"]["run_records"] == run.facts["checked"]["run_records"] + 1
