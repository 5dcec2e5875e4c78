"""The pages of a repository with a wiki, while a backup writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mirror.config import load
from mirror.simulator import Simulator, Switches, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.clock import FakeClock
from tests.e2e.helpers import write_config
from tests.git.backend import need_git
from tests.place import Place
from tests.web.helpers import client
from tests.web.repository.test_pages import WEBSITE, page

SNAPSHOT = f"{WEBSITE}/latest"
PAGES = (
    WEBSITE, f"{WEBSITE}/snapshots", f"{WEBSITE}/compare", SNAPSHOT, f"{SNAPSHOT}/pull-requests",
    f"{SNAPSHOT}/code", f"{SNAPSHOT}/code/log", f"{SNAPSHOT}/code/tree", f"{SNAPSHOT}/search?q=blog",
    f"{SNAPSHOT}/code/tree?mirror=wiki",
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    need_git()
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES | {"wiki"})
    with Simulator(world, switches=Switches(wikis=True)) as simulator:
        yield Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))


async def test_a_wiki_is_looked_at_and_searched_like_code(place: Place) -> None:
    await place.run("acme/website")
    async with client(place.config.store, FakeClock()) as web:
        latest = (await web.get(SNAPSHOT)).headers["location"]
        assert "Wiki" in (await page(web, latest)).text
        assert "main" in (await page(web, f"{latest}/code?mirror=wiki")).text
        files = await page(web, f"{latest}/code/tree?mirror=wiki")
        [home] = [one for one in files.links() if "Home.md" in one and "raw" not in one]
        assert "mirror=wiki" in home
        found = await page(web, f"{latest}/search?q=home.md")
        assert "Home.md wiki" in found.text
        await page(web, f"{latest}/code/log?mirror=wiki")


async def test_every_page_is_whole_while_a_backup_writes(place: Place) -> None:
    await place.run("acme/website")
    async with client(place.config.store, FakeClock()) as web:
        for number in range(2):
            place.acme.repositories["website"].commit("main", {"new.txt": b"%d" % number}, f"New {number}\n")
            run = asyncio.create_task(place.run("acme/website"))
            while not run.done():
                await look(web)
            assert (await run).exit_code == 0
        await look(web)
        assert "New 1" in (await web.get(f"{SNAPSHOT}/code/log", follow_redirects=True)).text
        assert "3 kept" in (await page(web, WEBSITE)).text


async def look(web: httpx.AsyncClient) -> None:
    """Every page answers, and none speaks of damage."""
    for address in PAGES:
        answer = await web.get(address, follow_redirects=True)
        assert answer.status_code == 200 and "mirror verify" not in answer.text, f"{address}: {answer.text}"
