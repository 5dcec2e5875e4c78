"""Verification is independent: it loads no code that writes, it resumes where it stopped, and its journal is
only a hint."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from mirror import verify
from mirror.model import Finding, Verified
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.writing.verify_journal import RESUMABLE_FOR, VerifyJournal
from tests.clock import FakeClock
from tests.place import Place


def test_it_loads_no_code_that_writes_or_speaks() -> None:
    forbidden = {"httpx", "mirror.bitbucket"}
    forbidden |= {"mirror.store.writing", "mirror.reclaim"}
    code = "import sys, mirror.verify; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not forbidden & set(done.stdout.split())


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    from mirror.config import load
    from tests.e2e.helpers import write_config

    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        await place.run()
    return tmp_path / "store"


async def test_it_goes_on_where_it_was_stopped(store: Path) -> None:
    clock = FakeClock()
    whole = await verify.run(store, clock=clock, environment=os.environ)
    journal = VerifyJournal(store, "objects 1 ", resume=False, now=clock.now())
    # The findings of the stopped run count. The next run does not read its folder again and reports these
    # findings.
    place = next(path.parent for path in store.rglob("repository.json")).relative_to(store).as_posix()
    journal.note(Verified(place, clock.now(), (Finding("told/before", "was found then"),), {"snapshots": 40}))
    resumed = VerifyJournal(store, "objects 1 ", resume=True, now=clock.now() + timedelta(hours=1))
    assert list(resumed.done()) == [place]
    run = await verify.run(store, journal=resumed, clock=clock, environment=os.environ)
    assert run.exit_code == 4
    assert [one["file"] for one in run.facts["findings"]] == ["told/before"]
    assert run.facts["checked"]["snapshots"] == whole.facts["checked"]["snapshots"] - 1 + 40


@pytest.mark.parametrize(
    ("key", "later", "cut"),
    [
        ("refs 1 ", 0.0, False),
        ("objects 1 ", RESUMABLE_FOR.total_seconds() + 1, False),
        ("objects 1 ", 0.0, True),
    ],
)
async def test_what_cannot_be_gone_on_with_is_begun_anew(
    store: Path, key: str, later: float, cut: bool
) -> None:
    clock = FakeClock()
    VerifyJournal(store, "objects 1 ", resume=False, now=clock.now()).note(
        Verified("some/where", clock.now(), (), {})
    )
    path = store / "cache" / "verifying.jsonl"
    if cut:
        path.write_bytes(path.read_bytes()[:-20])
    found = VerifyJournal(store, key, resume=True, now=clock.now() + timedelta(seconds=later))
    assert not found.done()
