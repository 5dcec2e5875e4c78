"""What the overview and the runs say, and how the list of repositories answers to a query."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from starlette.applications import Starlette

from mirror.store.format import layout
from mirror.web import make_app
from tests.clock import FakeClock
from tests.web.helpers import access, client, client_of
from tests.web.large_world import NOW, make_world
from tests.web.standing import CONFIG, LiveForTests

ROW = re.compile(r'<th scope="row" class="main"><a href="/repositories/acme/([^"]+)"')


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few repositories; tests may break a copy."""
    return make_world(tmp_path_factory.mktemp("small") / "store", repositories=24, runs=3, most_bytes=100)


@pytest.fixture(scope="module")
def pages(world: Path) -> Starlette:
    """The page over the believable store, without a configuration."""
    clock = FakeClock(NOW)
    return make_app(world, clock=clock, access=access(clock))


async def ask(app: Starlette, path: str = "/") -> str:
    """The text of a page that is there."""
    async with client_of(app) as browser:
        found = await browser.get(path)
        assert found.status_code == 200, found.text
        return found.text


async def test_the_overview_says_what_needs_attention_and_why(world: Path) -> None:
    clock = FakeClock(NOW)
    app = make_app(world, clock=clock, access=access(clock), config=CONFIG, live=LiveForTests())
    text = await ask(app)
    assert "12 need attention" in text and "1 lost much upstream, 3 failing" in text
    assert "repositories fell from 540 to 500" in text and "mirror accept-loss acme" in text
    assert "the server sent a pack that ends early" in text
    assert "credential: the api_token expires in 12 days" in text
    assert "pull requests denied: this token may not read them (scope pullrequest)" in text
    assert "412 requests; 588 left this hour" in text and "about 9 min left" in text
    assert "overdue" in text


async def test_without_a_configuration_commands_name_the_store(pages: Starlette, world: Path) -> None:
    text = await ask(pages)
    assert f"mirror accept-loss acme --store {world}" in text
    assert "mirror backup" not in text and "Next backup" not in text


async def test_the_list_is_filtered_sorted_and_paged(pages: Starlette) -> None:
    first = ROW.findall(await ask(pages))
    assert len(first) == 50 and "web-reports-007" in first[:10]
    assert not set(first) & set(ROW.findall(await ask(pages, "/?page=2")))
    assert ROW.findall(await ask(pages, "/?q=REPORTS+web&sort=name")) == sorted(
        one for one in ROW.findall(await ask(pages, "/?q=web-reports&sort=name"))
    )
    attention = ROW.findall(await ask(pages, "/?show=attention"))
    well = ROW.findall(await ask(pages, "/?show=well&sort=size"))
    assert "web-reports-007" in attention and not set(attention) & set(well)
    assert len(ROW.findall(await ask(pages, "/?show=settled"))) == 4
    assert "No repository matches" in await ask(pages, "/?q=nothing-of-the-kind")
    assert len(ROW.findall(await ask(pages, "/?page=x&sort=y&show=z"))) == 50
    assert ROW.findall(await ask(pages, "/?page=99999")) == ROW.findall(await ask(pages, "/?page=10"))


async def test_a_damaged_store_is_told_and_the_rest_is_shown(small: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(small, store)
    folder = next((store / layout.WORKSPACES).glob("*/repositories/*-003~*"))
    ledger = folder / layout.LEDGER_FILE
    ledger.write_bytes(ledger.read_bytes()[:-9])
    (folder / layout.REPOSITORY_FILE).write_bytes(b"{}")
    clock = FakeClock(NOW)
    text = await ask(make_app(store, clock=clock, access=access(clock)))
    assert "damaged" in text and f"{folder.name}" in text and "mirror verify" in text
    assert len(ROW.findall(text)) == 23


async def test_a_store_that_cannot_be_read_at_all_is_a_page(small: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(small, store)
    (store / layout.STORE_FILE).write_bytes(b'{"format": 1')
    async with client(store, FakeClock(NOW)) as browser:
        found = await browser.get("/")
        assert found.status_code == 500 and "The store is damaged" in found.text
        assert layout.STORE_FILE in found.text and "Traceback" not in found.text


async def test_a_change_is_seen_at_once(small: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(small, store)
    async with client(store, FakeClock(NOW)) as browser:
        before = ROW.findall((await browser.get("/")).text)
        gone = next((store / layout.WORKSPACES).glob("*/repositories/*-005~*"))
        shutil.rmtree(gone)
        after = ROW.findall((await browser.get("/")).text)
    assert set(before) - set(after) == {gone.name.partition("~")[0]}


async def test_runs_are_listed_and_shown(small: Path) -> None:
    clock = FakeClock(NOW)
    app = make_app(small, clock=clock, access=access(clock))
    text = await ask(app, "/runs")
    assert "6 runs, the newest first" in text
    assert "much lost upstream" in text and "repositories fell from 540 to 500" in text
    assert "1 run, the newest first" in await ask(app, "/runs?kind=drill")
    assert "No run of this kind has ended yet" in await ask(app, "/runs?kind=erase")
    backups = await ask(app, "/runs?kind=backup")
    identifier = re.findall(r'href="/runs/([^"]+)"', backups)[0]
    run = await ask(app, f"/runs/{identifier}")
    assert "Exit code" in run and "web-reports-007" in run and "pack that ends early" in run
    async with client_of(app) as browser:
        for wrong in ("20260101t000000z-000000", "..%2f..%2fstore.json", "x"):
            assert (await browser.get(f"/runs/{wrong}")).status_code == 404
