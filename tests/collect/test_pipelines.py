"""Mirror finds new pipelines in whatever order the server lists them, even if the server changes the
order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.bitbucket import endpoints
from mirror.config import load
from mirror.model import Selector
from mirror.simulator import Fault, Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

NAME = "acme/website"
WHERE = "GET /2.0/repositories/acme/website/pipelines/"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Six pipelines in pages of two, the oldest first."""
    monkeypatch.setattr(endpoints, "PIPELINES", replace(endpoints.PIPELINES, page_size=2))
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        build(place, 6 - len(place.acme.repositories["website"].pipelines))
        heed_sort(place, False)
        yield place


def heed_sort(place: Place, heeded: bool) -> None:
    app = place.simulator.app
    app.switches = replace(app.switches, pipelines_sort=heeded, pipelines_have_next=True)


def build(place: Place, count: int) -> None:
    for _ in range(count):
        place.acme.repositories["website"].add_pipeline(steps=[("build", b"Done.\n")])


def held(place: Place) -> set[int]:
    with place.store() as store:
        folder = store.repository(Selector.parse(NAME))
        latest = folder.metadata.latest()
        assert latest is not None
        paths = folder.metadata.paths(latest, "pipelines")
    return {int(path.rpartition("/")[2].removesuffix(".json")) for path in paths}


def upstream(place: Place) -> set[int]:
    return set(place.acme.repositories["website"].pipelines)


def pages_asked(place: Place) -> int:
    return sum(f"GET {one.path}" == WHERE for one in place.simulator.requests)


async def test_of_a_list_that_ascends_only_the_end_is_read_again(place: Place) -> None:
    assert (await place.run(NAME)).exit_code == 0
    build(place, 3)
    place.simulator.requests.clear()
    assert (await place.run(NAME)).exit_code == 0
    assert held(place) == upstream(place)
    assert pages_asked(place) == 3  # a known one, and two more
    place.simulator.requests.clear()
    assert (await place.run(NAME)).exit_code == 0
    assert pages_asked(place) == 1


async def test_new_ones_are_seen_once_the_server_begins_to_heed_the_order(place: Place) -> None:
    for heeded in (False, True, False, True):
        heed_sort(place, heeded)
        build(place, 3)
        assert (await place.run(NAME)).exit_code == 0
        assert held(place) == upstream(place)


async def test_new_ones_are_seen_where_the_remembered_page_has_one_entry_left(place: Place) -> None:
    """A single entry shows no order; but it is not the newest."""
    build(place, 1)
    assert (await place.run(NAME)).exit_code == 0
    heed_sort(place, True)
    build(place, 2)
    assert (await place.run(NAME)).exit_code == 0
    assert held(place) == upstream(place)


async def test_a_remembered_page_that_is_refused_is_not_asked_for_again(place: Place) -> None:
    assert (await place.run(NAME)).exit_code == 0
    build(place, 3)
    place.simulator.order(Fault(WHERE, status=404))
    assert (await place.run(NAME)).exit_code == 0
    assert held(place) == upstream(place)


async def test_a_list_that_was_half_read_is_read_anew_where_its_order_changed(place: Place) -> None:
    """Interrupted between two pages: the first pages have another order than the last ones."""
    build(place, 4)
    heed_sort(place, True)
    place.simulator.order(Fault(WHERE, status=500, times=20, skip=2))
    assert (await place.run(NAME)).exit_code == 75
    place.simulator.faults.clear()
    heed_sort(place, False)
    assert (await place.run(NAME)).exit_code == 0
    assert held(place) == upstream(place)


async def test_a_list_in_no_order_is_read_to_its_end(place: Place) -> None:
    """A first page with the oldest ones in it says nothing about the rest."""
    website = place.acme.repositories["website"]
    first, second = website.pipelines[1], website.pipelines[2]
    first.created, second.created = second.created, first.created
    for _ in range(3):
        assert (await place.run(NAME)).exit_code == 0
        assert held(place) == upstream(place)
        build(place, 3)


async def test_all_are_read_again_with_full(place: Place) -> None:
    assert (await place.run(NAME)).exit_code == 0
    place.simulator.requests.clear()
    assert (await place.run(NAME, full=True)).exit_code == 0
    assert pages_asked(place) == 3
