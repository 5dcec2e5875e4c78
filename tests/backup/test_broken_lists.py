"""A server that returns nonsense for a workspace itself, or for its list of repositories."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mirror.model import Outcome, RunEntry
from mirror.simulator.faults import Fault
from tests.collect.test_lost_entries import losing
from tests.place import Place

WORKSPACE = "GET /2.0/workspaces/acme"
LIST = "GET /2.0/repositories/acme"
GOOD = (Outcome.SAVED, Outcome.CONFIRMED)


def repositories(entries: tuple[RunEntry, ...]) -> dict[str, RunEntry]:
    return {one.full_name: one for one in entries if one.kind == "repository"}


@pytest.fixture
def place(place: Place) -> Place:
    """One repository, which is enough for most tests, and faster."""
    [only] = place.config.workspaces
    place.config = replace(place.config, workspaces=(replace(only, include=("website",)),))
    return place


def push(place: Place) -> str:
    """A commit on main of acme/website that no snapshot has yet."""
    return place.acme.repositories["website"].commit("main", {"new": b"new\n"}, "New")


def main_of_website(place: Place) -> str:
    """The value of main in the newest snapshot of acme/website."""
    with place.store() as store:
        [folder] = [one for one in store.repositories() if one.slug == "website"]
        latest = folder.metadata.latest()
        assert latest is not None
        told = folder.metadata.code_refs(latest)
        assert told is not None
        return told[0].refs[b"refs/heads/main"]


async def test_held_code_is_saved_where_the_list_is_nonsense(place: Place) -> None:
    before = repositories((await place.run()).entries)
    new = push(place)
    place.simulator.order(Fault(LIST, status=410, times=100))
    run = await place.run()
    assert run.exit_code != 0
    assert any("repositories" in problem.text for problem in run.problems)
    after = repositories(run.entries)
    assert after.keys() == before.keys()
    assert {one.outcome for one in after.values()} <= set(GOOD)
    assert main_of_website(place) == new


async def test_a_list_that_breaks_off_costs_neither_what_came_nor_what_is_held(place: Place) -> None:
    place.simulator.order(Fault(LIST, "loop", times=100))
    first = await place.run()
    assert first.exit_code == 3
    assert repositories(first.entries).keys() == {"acme/website"}
    new = push(place)
    run = await place.run()
    assert run.exit_code == 3
    assert main_of_website(place) == new


async def test_what_a_broken_list_lacks_is_asked_for_by_name(place: Place) -> None:
    before = repositories((await place.run()).entries)
    new = push(place)
    with losing("/repositories/acme", which=lambda one: one["slug"] == "website"):
        run = await place.run()
    assert run.exit_code == 3, run.problems
    after = repositories(run.entries)
    assert after.keys() == before.keys()
    assert {one.outcome for one in after.values()} <= set(GOOD)
    assert main_of_website(place) == new
    with place.store() as store:
        [home] = store.workspaces()
        latest = home.metadata.latest()
        assert latest is not None
        listed = home.metadata.read(latest, "repositories.json")
        assert isinstance(listed, dict) and set(listed.values()) == before.keys()


async def test_a_workspace_that_cannot_be_read_costs_its_profile_alone(place: Place) -> None:
    place.simulator.order(Fault(WORKSPACE, "html", times=100))
    run = await place.run()
    assert run.exit_code == 3, run.problems
    assert {one.outcome for one in repositories(run.entries).values()} <= set(GOOD)
    [home] = [one for one in run.entries if one.kind == "workspace"]
    assert str(home.parts["profile"].state) == "partial"
