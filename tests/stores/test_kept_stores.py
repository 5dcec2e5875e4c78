"""Stores written by earlier versions: this version verifies them, restores from them, and backs up on top of
them."""

from __future__ import annotations

import ast
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from mirror import backup, restore, verify
from mirror.config import load
from mirror.git.mirrors.fetch import read_refs
from mirror.model import Selector
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.reading.reader import Store
from tests.clock import FakeClock
from tests.e2e.helpers import write_config
from tests.git.backend import git, need_git
from tests.stores import plain_reader

READER = Path(plain_reader.__file__)
HERE = Path(__file__).parent
KEPT = sorted(path.name.removesuffix(".tar.gz") for path in HERE.glob("*.tar.gz"))
BEFORE_THE_ACCIDENT = "20261123T020000Z"


@pytest.fixture
def unpacked(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    with tarfile.open(HERE / f"{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "store"


def test_there_is_a_kept_store() -> None:
    assert KEPT


@pytest.mark.parametrize(("unpacked", "version"), [(one, one) for one in KEPT], indirect=["unpacked"])
async def test_a_kept_store_is_whole_restorable_and_goes_on(
    unpacked: Path, version: str, tmp_path: Path
) -> None:
    assert (await verify.run(unpacked, clock=FakeClock(), environment=os.environ)).exit_code == 0
    before = json.loads((HERE / f"{version}.json").read_text())
    for name, refs in before.items():
        target = tmp_path / "back" / name
        report = await restore.run(
            unpacked,
            Selector("acme", name),
            target=str(target),
            at=BEFORE_THE_ACCIDENT,
            environment=os.environ,
        )
        assert report.exit_code == 0, report.to_json()
        restored = {ref.decode(): value for ref, value in read_refs(target / "code.git").refs.items()}
        assert restored == refs
    world = World(tmp_path / "upstream")
    populate(world)
    # The kept store has snippets, read with this scope; without it they count as missing.
    token = world.add_workspace_access_token("acme", SCOPES | {"snippet"})
    clock = FakeClock()
    clock.elapsed = 8 * 86400  # a full sweep is due
    with Store.open(unpacked) as store:
        held = {one.place: len(one.metadata.tags()) for one in store.repositories()}
    with Simulator(world) as simulator:
        config = load(write_config(tmp_path, simulator, token))
        run = await backup.run(config, clock=clock, environment=os.environ)
    # Today's sample may have other repositories: those of the kept store are absent, and kept.
    assert {str(entry.outcome) for entry in run.entries} <= {"saved", "confirmed", "absent"}, run.entries
    with Store.open(unpacked) as store:
        now = {one.place: len(one.metadata.tags()) for one in store.repositories()}
    assert all(now[place] >= count for place, count in held.items())
    assert (await verify.run(unpacked, clock=clock, environment=os.environ)).exit_code == 0


def test_the_plain_reader_is_plain() -> None:
    text = READER.read_text()
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert sum(1 for line in text.splitlines() if line.strip()) < 150
    assert imported <= sys.stdlib_module_names


@pytest.mark.git
@pytest.mark.parametrize(("unpacked", "version"), [(one, one) for one in KEPT], indirect=["unpacked"])
def test_a_reader_written_from_the_docs_brings_everything_back(
    unpacked: Path, version: str, tmp_path: Path
) -> None:
    need_git()
    found = {one.path.relative_to(unpacked).as_posix(): one for one in plain_reader.folders(unpacked)}
    with Store.open(unpacked) as store:
        ours = {one.place: one for one in [*store.workspaces(), *store.repositories()]}
        assert len(plain_reader.runs(unpacked)) == len(store.run_ids())
        assert found.keys() == ours.keys()
        for place, folder in ours.items():
            expected = {one.id: one.tree for one in folder.metadata.snapshots()}
            assert {one.facts["id"]: one.tree for one in found[place].snapshots()} == expected
    before = json.loads((HERE / f"{version}.json").read_text())
    compared = 0
    for one in found.values():
        for snapshot in one.snapshots():
            target = tmp_path / "plain" / one.path.name / snapshot.facts["id"]
            one.bring_back(snapshot, target)
            name = one.names()[0].rpartition("/")[2]
            if snapshot.facts["id"] == BEFORE_THE_ACCIDENT and name in before:
                restored = {ref.decode(): value for ref, value in read_refs(target / "code.git").refs.items()}
                assert restored == before[name]
                assert "missing" not in git("fsck", "--full", cwd=target / "code.git")
                compared += 1
    assert compared == len(before)
