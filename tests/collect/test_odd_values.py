"""One odd value costs what it is in, and nothing else: no other thing is missed for it, now or later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mirror.config import load
from mirror.model import Run, RunEntry, Selector
from mirror.simulator import Simulator, World
from mirror.simulator.discussions import PullRequest
from mirror.simulator.render import Renderer
from mirror.simulator.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

DAY = 86400.0
NAME = "acme/website"
FAR = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        yield Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))


def entry(run: Run) -> RunEntry:
    [found] = [one for one in run.entries if one.full_name == NAME]
    return found


def document(place: Place, path: str) -> Any:
    with place.store() as store:
        folder = store.repository(Selector.parse(NAME))
        latest = folder.metadata.latest()
        assert latest is not None
        return folder.metadata.read(latest, path)


def pull(place: Place, number: int) -> Any:
    return place.acme.repositories["website"].pull_requests[number]


def change_pull_requests(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """From now on pull requests are told as `change` has them."""
    told = Renderer.pull_request

    def odd(self: Renderer, one: PullRequest, *, listed: bool) -> dict[str, Any]:
        return change(told(self, one, listed=listed))

    monkeypatch.setattr(Renderer, "pull_request", odd)


# -- times


async def test_a_pull_request_of_a_time_to_come_hides_no_change_of_another(place: Place) -> None:
    pull(place, 2).updated = FAR
    assert (await place.run(NAME)).exit_code == 0
    pull(place, 1).decline(author=place.world.users["eve@acme.example"])
    assert (await place.run(NAME)).exit_code == 0
    assert document(place, "pull-requests/0/1.json")["pull_request"]["state"] == "DECLINED"
    assert str((await place.run(NAME)).entries[0].outcome) == "confirmed"


async def test_activity_of_a_time_to_come_hides_no_later_activity(place: Place) -> None:
    eve = place.world.users["eve@acme.example"]
    pull(place, 1).approve(eve)
    pull(place, 1).activity[0]["approval"]["date"] = FAR
    assert (await place.run(NAME)).exit_code == 0
    before = document(place, "pull-requests/0/1.json")["activity"]
    pull(place, 1).comment("Long after", author=eve)
    place.clock.elapsed += DAY
    assert (await place.run(NAME)).exit_code == 0
    assert len(document(place, "pull-requests/0/1.json")["activity"]) == len(before) + 1


async def test_activity_of_a_time_long_gone_hides_none_that_follows_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Renderer.activity
    eve = place.world.users["eve@acme.example"]
    assert (await place.run(NAME)).exit_code == 0
    before = document(place, "pull-requests/0/1.json")["activity"]
    pull(place, 1).comment("Lately", author=eve)
    pull(place, 1).approve(eve)
    newest = pull(place, 1).activity[0]

    def odd(self: Renderer, one: dict[str, Any], of: PullRequest) -> dict[str, Any]:
        found = told(self, one, of)
        if one is newest:
            found["approval"]["date"] = "2001-01-01T00:00:00+00:00"
        return found

    monkeypatch.setattr(Renderer, "activity", odd)
    place.clock.elapsed += DAY
    assert (await place.run(NAME)).exit_code == 0
    assert len(document(place, "pull-requests/0/1.json")["activity"]) == len(before) + 2


async def test_what_was_remembered_by_a_clock_that_was_ahead_hides_nothing(place: Place) -> None:
    eve = place.world.users["eve@acme.example"]
    pull(place, 2).updated = FAR
    pull(place, 2).approve(eve)
    pull(place, 2).activity[0]["approval"]["date"] = FAR
    pull(place, 2).updated = FAR
    ahead = 80 * 365 * DAY
    place.clock.elapsed += ahead
    await place.run(NAME)
    place.clock.elapsed -= ahead
    before = document(place, "pull-requests/0/1.json")["activity"]
    pull(place, 1).comment("Once it was right", author=eve)
    pull(place, 1).decline(author=eve)
    await place.run(NAME)
    kept = document(place, "pull-requests/0/1.json")
    assert kept["pull_request"]["state"] == "DECLINED"
    assert len(kept["activity"]) == len(before) + 2


async def test_a_time_that_no_calendar_has_is_kept_and_ends_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {2: "0001-01-01T00:00:00+01:00", 3: "9999-12-31T23:59:59-01:00"}
    change_pull_requests(
        monkeypatch, lambda one: {**one, "updated_on": told.get(one["id"], one["updated_on"])}
    )
    for _ in range(2):
        assert (await place.run(NAME)).exit_code == 0
    for number, text in told.items():
        assert document(place, f"pull-requests/0/{number}.json")["pull_request"]["updated_on"] == text
