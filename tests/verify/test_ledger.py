"""verify compares run records, their lists and the ledgers with each other and with the tags."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror import verify
from mirror.config import load
from mirror.model import dumps, loads
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.format.seal import sealed
from mirror.store.reading import run_records
from mirror.store.writing.writer import open_store
from tests.clock import FakeClock
from tests.crash.actions import again, changes, small
from tests.e2e.helpers import write_config
from tests.place import Place


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after four runs, and the ledger of one repository as it was after two."""
    folder = tmp_path_factory.mktemp("ledger")
    world = World(folder / "upstream")
    small(world)
    token = world.add_workspace_access_token("acme", SCOPES)

    async def write(place: Place) -> None:
        await place.run()
        changes(world)
        await place.run()
        shutil.copy(_ledger(folder / "store"), folder / "older.json")
        again(world)
        await place.run()
        await place.run()

    with Simulator(world) as simulator:
        asyncio.run(write(Place(folder, simulator, load(write_config(folder, simulator, token)))))
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "store", tmp_path / "store")
    shutil.copy(made / "older.json", tmp_path / "older.json")
    return tmp_path / "store"


def _ledger(store: Path) -> Path:
    [found] = store.glob("workspaces/*/repositories/website~*/snapshots.json")
    return found


def _newest(store: Path) -> Path:
    numbered = {loads(path.read_bytes())["number"]: path for path in (store / "runs").glob("*.json")}
    return numbered[max(numbered)]


async def findings(store: Path) -> list[str]:
    run = await verify.run(store, level="refs", clock=FakeClock(), environment=os.environ)
    assert run.exit_code == (4 if run.facts["findings"] else 0)
    return [f"{one['file']}: {one['problem']}" for one in run.facts["findings"]]


async def test_a_sound_store_has_no_findings(store: Path) -> None:
    assert await findings(store) == []


def _remove_tag(store: Path) -> None:
    packed = _ledger(store).parent / "metadata.git" / "packed-refs"
    lines = packed.read_text().splitlines(True)
    first = next(line for line in lines if "refs/tags/" in line)
    packed.write_text("".join(line for line in lines if line != first and not line.startswith("#")))


def _older(store: Path) -> None:
    shutil.copy(store.parent / "older.json", _ledger(store))


def _without_one(store: Path) -> None:
    data = loads(_ledger(store).read_bytes())
    del data["snapshots"][0]
    _ledger(store).write_bytes(sealed(data))


def _changed_record(store: Path) -> None:
    path = sorted((store / "runs").glob("*.json"))[1]
    data = loads(path.read_bytes())
    path.write_bytes(sealed(data | {"exit_code": 7}))


def _removed_record(store: Path) -> None:
    sorted((store / "runs").glob("*.json"))[1].unlink()


def _removed_last(store: Path) -> None:
    _newest(store).unlink()


def _changed_list(store: Path) -> None:
    named = loads(_newest(store).read_bytes())["looked_at"]
    path = store / "runs" / "lists" / f"{named}.json"
    path.write_bytes(dumps(loads(path.read_bytes()) | {"more": 1}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_remove_tag, "metadata.git: a snapshot that the ledger lists as kept is missing"),
        (_older, "snapshots.json: it is not the one that run records name"),
        (_without_one, "snapshots.json: it is not the one that run records name"),
        (lambda store: _ledger(store).unlink(), "snapshots.json: it is missing"),
        (lambda store: _ledger(store).write_bytes(b"{}"), "snapshots.json: it cannot be read"),
        (_changed_record, "it was changed since it was written"),
        (_removed_record, "it is missing"),
        (_removed_last, "it is missing"),
        (_changed_list, "its content is not what its name says"),
    ],
)
async def test_what_is_lost_or_changed_is_found(
    store: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(store)
    found = await findings(store)
    assert any(told in one for one in found), found


async def test_a_run_that_was_killed_before_its_record_is_no_damage(store: Path) -> None:
    """The last run that changed something left its snapshot and its ledger, but no record."""
    paths = {loads(path.read_bytes())["number"]: path for path in (store / "runs").glob("*.json")}
    for number in sorted(paths)[2:]:
        paths[number].unlink()
    (store / "cache" / "last-run.json").unlink()
    assert await findings(store) == []


async def test_no_more_than_two_checkpoints_are_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    with open_store(store, command="test") as writer:
        for _ in range(30):
            clock.elapsed += 3600
            done = await verify.run(store, level="refs", clock=clock, environment=os.environ)
            writer.write_run(done, checkpoint_every=5)
    read: set[str] = set()
    real = run_records.read_run

    def counted(root: Path, identifier: str) -> run_records.RunRecord:
        read.add(identifier)
        return real(root, identifier)

    monkeypatch.setattr(run_records, "read_run", counted)
    assert await findings(store) == []
    assert len(read) <= 11
