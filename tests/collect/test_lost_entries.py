"""A null in a list affects only itself, and the run reports it until the list is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.bitbucket import endpoints
from mirror.bitbucket.failures import EntriesLost
from mirror.bitbucket.lists import all_of, all_with_lost
from mirror.config import load
from mirror.model import Run, Selector
from mirror.simulator import Simulator, World
from mirror.simulator.api import paging
from mirror.simulator.api.routing import Call
from mirror.simulator.world.sample import SCOPES, populate
from tests.bitbucket.helpers import API, Server, client_for, listed
from tests.e2e.helpers import write_config
from tests.place import Place

NAME = "acme/website"
HERE = "/repositories/acme/website"
DAY = 86400.0
WHERE: dict[str, str | int] = {"workspace": "acme", "repository": "website"}


@pytest.mark.parametrize("odd", [None, "text", 7, []], ids=str)
async def test_the_others_come_and_the_lost_one_is_told(odd: Any) -> None:
    more = f"{API}/repositories/acme/website/hooks?page=2"
    server = Server(
        [lambda: listed([{"id": 1}, odd], next=more, size=3), lambda: listed([{"id": 3}], size=3)]
    )
    async with client_for(server) as client:
        values, lost = await all_with_lost(client, endpoints.HOOKS, None, **WHERE)
    assert [one["id"] for one in values] == [1, 3] and lost is not None
    assert "1 of the list's entries" in lost.message
    assert len(server.asked) == 2, "what is lost has come, and is not looked for again"


async def test_a_list_that_is_wanted_whole_is_refused_with_what_came() -> None:
    server = Server([lambda: listed([{"id": 1}, None])])
    async with client_for(server) as client:
        with pytest.raises(EntriesLost) as caught:
            await all_of(client, endpoints.HOOKS, None, **WHERE)
    assert caught.value.values == ({"id": 1},)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES | {"snippet"})
    with Simulator(world) as simulator:
        config = load(write_config(tmp_path, simulator, token))
        only = replace(config.workspaces[0], include=("website",))
        yield Place(tmp_path, simulator, replace(config, workspaces=(only,)))


@contextmanager
def losing(address: str, *, which: Callable[[Any], bool] = lambda _: True) -> Iterator[None]:
    """Replace the first entry of a list for which `which` is true by null."""
    page, hidden = paging.page, Call.hidden

    def odd(items: Any, render: Any, pairs: Any, *, base: str, options: Any) -> paging.Document:
        shown = page(items, render, pairs, base=base, options=options)
        if base.endswith(address):
            values = shown["values"]
            number = next(number for number, one in enumerate(values) if which(one))
            shown["values"] = [None if at == number else one for at, one in enumerate(values)]
        return shown

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paging, "page", odd)
        patched.setattr(Call, "hidden", lambda self, one: hidden(self, one) if one is not None else {})
        yield


def documents(place: Place, of: str = NAME) -> dict[str, Any]:
    with place.store() as store:
        several = store.workspaces() if of == "acme" else [store.repository(Selector.parse(of))]
        [metadata] = [one.metadata for one in several]
        latest = metadata.latest()
        assert latest is not None
        return {path: metadata.read(latest, path) for path in metadata.paths(latest)}


def state(run: Run, part: str, of: str = NAME) -> str:
    [found] = [one for one in run.entries if one.full_name == of]
    return str(found.parts[part].state)


LISTS = [
    ("/pullrequests", "pull_requests", NAME), ("/pipelines/", "pipelines", NAME),
    ("/hooks", "settings", NAME), ("/environments", "settings", NAME),
    ("/deployments/", "settings", NAME), ("/pipelines_config/schedules", "settings", NAME),
    ("/downloads", "downloads", NAME), ("/snippets/acme", "snippets", "acme"),
    ("/workspaces/acme/projects", "settings", "acme"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "part", "of"), LISTS, ids=[address for address, *_ in LISTS])
async def test_the_held_copy_of_what_is_lost_stays_and_the_part_is_whole_once_the_list_is(
    place: Place, address: str, part: str, of: str
) -> None:
    website = place.acme.repositories["website"]
    hook = website.settings["hooks"][0]
    website.settings["hooks"].append({**hook, "uuid": "{77777777-7777-4777-8777-777777777777}"})
    await place.run()
    before = documents(place, of)
    place.clock.elapsed += 8 * DAY
    with losing(address if of == "acme" else HERE + address):
        run = await place.run(full=True)
    assert (run.exit_code, state(run, part, of)) == (3, "partial")
    after = documents(place, of)
    ours = [path for path in before if path not in ("snapshot.json", "settings/_parts.json")]
    assert {path: after[path] for path in ours} == {path: before[path] for path in ours}
    assert (await place.run()).exit_code == 0


async def test_a_lost_comment_costs_no_other(place: Place) -> None:
    website = place.acme.repositories["website"]
    ann = place.world.users["ann@acme.example"]
    pull = next(one for one in website.pull_requests.values() if one.state == "OPEN")
    await place.run()
    path = f"pull-requests/0/{pull.id}.json"
    before = [one["id"] for one in documents(place)[path]["comments"]]
    pull.comment("One more", author=ann)
    with losing(f"{HERE}/pullrequests/{pull.id}/comments"):
        run = await place.run()
    assert (run.exit_code, state(run, "pull_requests")) == (3, "partial")
    held = documents(place)[path]
    assert [one["id"] for one in held["comments"]][: len(before)] == before
    assert held["_parts"]["comments"] == {"state": "partial"}
    assert (await place.run()).exit_code == 0
    assert len(documents(place)[path]["comments"]) == len(before) + 1


async def test_a_repository_that_is_lost_from_the_list_is_no_whole_list(place: Place) -> None:
    await place.run()
    with losing("/repositories/acme", which=lambda one: one["slug"] != "website"):
        run = await place.run()
    assert run.exit_code == 3 and "absent" not in {str(one.outcome) for one in run.entries}
