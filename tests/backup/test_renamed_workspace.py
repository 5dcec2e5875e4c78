"""A run finds a renamed workspace by its uuid, backs it up, and reports its new name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirror import doctor
from mirror.auth.credentials import RepositoryAccessToken
from mirror.bitbucket.client.budget import Budget
from mirror.config import load
from mirror.model import Run
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from tests.e2e.helpers import mirror, write_config
from tests.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    world.add_workspace("acme").add_repository("shop").commit("main", {"a": b"1"}, "Begin\n")
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        yield Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))


def outcomes(run: Run) -> dict[str, str]:
    return {entry.full_name: str(entry.outcome) for entry in run.entries}


async def test_it_is_backed_up_on_and_its_new_name_is_said(place: Place) -> None:
    assert (await place.run()).exit_code == 0
    place.world.rename_workspace("acme", "zenith")
    place.acme.repositories["shop"].commit("main", {"a": b"2"}, "More\n")
    for expected in ("saved", "confirmed"):
        run = await place.run()
        assert (run.exit_code, run.facts["renamed"]) == (0, {"zenith": "acme"}), run.problems
        assert outcomes(run)["zenith/shop"] == expected
    # A selector may use either name.
    for selector in ("acme", "zenith", "acme/shop", "zenith/shop"):
        assert outcomes(await place.run(selector))["zenith/shop"] == "confirmed", selector
    with place.store() as store:
        assert [one.slug for one in store.workspaces()] == ["zenith"]
        assert [one.full_name for one in store.repositories()] == ["zenith/shop"]
    said = mirror("backup", "-c", str(place.folder / "config.yaml"))
    assert said.returncode == 0, said.stderr
    assert "The workspace acme is called zenith now" in said.stdout
    report = await doctor.run(
        place.config, clock=place.clock, environment={}, budget=Budget(place.clock, patience=10)
    )
    [check] = [one for one in report.checks if one.name == "acme: name"]
    assert (check.state, "zenith" in check.text) == ("warn", True)


async def test_a_token_that_cannot_read_the_workspace_finds_it_too(place: Place) -> None:
    entry = place.config.workspaces[0]
    source = entry.credentials[0].token  # type: ignore[union-attr]
    Path(str(source.value)).write_text(place.world.add_repository_access_token("acme", "shop", SCOPES))
    narrow = replace(entry, credentials=(RepositoryAccessToken(source),), include=("shop",))
    place.config = replace(place.config, workspaces=(narrow,))
    assert (await place.run()).exit_code == 0
    place.world.rename_workspace("acme", "zenith")
    run = await place.run()
    assert (run.exit_code, run.facts["renamed"]) == (0, {"zenith": "acme"}), run.problems
    assert outcomes(run)["zenith/shop"] in ("saved", "confirmed")


async def test_a_name_that_is_another_ones_now_is_told(place: Place) -> None:
    assert (await place.run()).exit_code == 0
    place.world.rename_workspace("acme", "zenith")
    other = place.world.add_workspace("acme")
    other.uuid = "{0b9ecb1d-5d06-4a3c-b8d6-6b2a0d7b4e11}"
    other.add_repository("other").commit("main", {"a": b"1"}, "Begin\n")
    entry = place.config.workspaces[0]
    source = entry.credentials[0].token  # type: ignore[union-attr]
    Path(str(source.value)).write_text(place.world.add_workspace_access_token("acme", SCOPES))
    run = await place.run()
    assert (run.exit_code, outcomes(run)["acme/shop"]) == (3, "unreached")
    assert outcomes(run)["acme/other"] == "saved"


async def test_a_name_that_nobody_ever_had_is_refused(place: Place) -> None:
    entry = replace(place.config.workspaces[0], workspace="nobody")
    place.config = replace(place.config, workspaces=(entry,))
    assert (await place.run()).exit_code == 2
