"""Maintenance within runs: the run reports it, nobody waits for it, and its failure fails no run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror import browse, doctor
from mirror.bitbucket.client.budget import Budget
from mirror.config import load
from mirror.git.mirrors.maintenance import GRACE, MaintenanceLimits
from mirror.git.workers.pool import WorkerPool
from mirror.model import JsonObject, Run
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.reading.reader import Store
from tests.e2e.helpers import write_config
from tests.git.fetched import packs
from tests.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    world.add_user("Ann Archer", "ann@acme.example")
    world.add_workspace("acme", "Acme").add_repository("website").commit("main", {"a.txt": b"0\n"}, "Begin\n")
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        place.maintenance_limits = MaintenanceLimits(packs=1)
        yield place


async def fetched(place: Place, text: str) -> Run:
    """A run after one more push."""
    place.acme.repositories["website"].commit("main", {"a.txt": text.encode()}, f"{text}\n")
    return await place.run()


def told(run: Run) -> JsonObject | None:
    [entry] = [one for one in run.entries if one.kind == "repository"]
    found: JsonObject | None = entry.facts.get("upkeep")
    return found


def code(place: Place) -> Path:
    with Store.open(place.config.store) as store:
        [repository] = store.repositories()
        return repository.code


@pytest.mark.git
async def test_packs_are_joined_and_go_a_day_later(place: Place) -> None:
    assert told(await place.run()) is None
    run = await fetched(place, "1")
    assert run.exit_code == 0
    assert told(run) == {"code": {"joined": 2, "removed": 0, "graph": False}}
    assert len(packs(code(place))) == 3
    assert told(await place.run()) is None
    place.clock.elapsed += GRACE
    run = await place.run()
    assert [str(one.outcome) for one in run.entries] == ["confirmed", "confirmed"]
    assert told(run) == {"code": {"joined": 0, "removed": 2, "graph": False}}
    assert len(packs(code(place))) == 1


@pytest.mark.git
async def test_what_fails_is_told_and_fails_no_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.run()
    [pack] = packs(code(place))
    data = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    run = await fetched(place, "2")
    assert run.exit_code == 0
    assert "is damaged" in (told(run) or {})["code"]["problem"]
    [row] = browse.status(place.config.store).repositories
    [problem] = row.problems
    assert problem.startswith(f"upkeep of code: {pack.name} is damaged")
    pack.write_bytes(data)
    monkeypatch.setattr("mirror.backup.git.maintenance.SECONDS_MAX", 0)
    at_once = WorkerPool.run

    async def later(*words: Any, **options: Any) -> Any:
        await asyncio.sleep(0)  # a job that never waits cannot be stopped
        return await at_once(*words, **options)

    monkeypatch.setattr(WorkerPool, "run", later)
    run = await place.run()
    assert run.exit_code == 0
    assert told(run) == {"code": {"problem": "it took longer than 0 s and was stopped"}}
    monkeypatch.undo()
    assert (told(await place.run()) or {})["code"]["joined"] == 2


@pytest.mark.git
async def test_doctor_says_which_way_it_goes(place: Place, tmp_path: Path) -> None:
    async def said(path: str) -> doctor.Check:
        report = await doctor.run(
            place.config, clock=place.clock, environment={**os.environ, "PATH": path},
            budget=Budget(place.clock),
        )  # fmt: skip
        [check] = [one for one in report.checks if one.name == "upkeep"]
        assert "merges small packs itself" in check.text
        return check

    assert "git version" in (await said(os.environ["PATH"])).text
    assert "C git is not installed" in (await said("/nowhere")).text
    broken = tmp_path / "git"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    assert (await said(str(tmp_path))).state == "warn"
