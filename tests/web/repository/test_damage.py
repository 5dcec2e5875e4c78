"""A store that is damaged or pruned while it is looked at: pages that say so, never a traceback."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mirror import prune
from mirror.config import load
from mirror.model import Selector
from mirror.store.format.failures import StoreDamaged
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Store
from mirror.web.repository.files import Checked
from tests.clock import FakeClock
from tests.extract.made import flip
from tests.store.helpers import ACME, START, adopt, open_store, website
from tests.web.helpers import client
from tests.web.repository.test_pages import API, Shown
from tests.web.world import Lived

# dulwich holds on to packs that it could not read, until they are collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def store(lived: Lived, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(lived.store, tmp_path / "store")
    yield tmp_path / "store"
    gc.collect()


def api(store: Path) -> AnyFolder:
    with Store.open(store) as opened:
        return next(one for one in opened.repositories() if one.full_name == "acme/api")


async def page(store: Path, address: str, status: int) -> str:
    async with client(store, FakeClock()) as web:
        answer = await web.get(address)
    text = Shown(answer.text).text
    assert answer.status_code == status, text
    assert "Traceback" not in text and "Something went wrong" not in text
    return text


async def test_a_missing_pack_of_the_code_is_named(store: Path, lived: Lived) -> None:
    last = f"{API}/{lived.ids('acme/api')[-1]}"
    for pack in (store / api(store).place / "code.git/objects/pack").glob("pack-*"):
        pack.unlink()
    for address in ("code/tree", "code/log", "code/commit"):
        text = await page(store, f"{last}/{address}", 500)
        assert "code.git" in text and "mirror verify" in text
    # What does not need it is shown, and tells that the code could not be read.
    text = await page(store, f"{last}/pull-requests/3", 200)
    assert "ROUND_HALF_EVEN" in text and "is missing from the mirror or damaged" in text
    await page(store, f"{last}/code", 200)


async def test_damaged_documents_are_named_and_the_others_are_shown(store: Path, lived: Lived) -> None:
    metadata = store / api(store).place / "metadata.git/objects/pack"
    for pack in metadata.glob("*.pack"):
        for at in range(100, pack.stat().st_size - 20, 40):
            flip(pack, at)
    text = await page(store, API, 200)
    assert "Damaged" in text and "mirror verify" in text
    text = await page(store, f"{API}/{lived.ids('acme/api')[-1]}/pull-requests", 500)
    assert "metadata.git" in text


@pytest.mark.parametrize("file", ["snapshots.json", "repository.json", "brake.json"])
async def test_a_damaged_small_file_is_told_on_a_page_that_works(store: Path, file: str) -> None:
    path = store / api(store).place / file
    path.write_bytes(b"{")
    text = await page(store, API, 200)
    assert file in text and "Some of this store is damaged" in text


async def test_a_snapshot_that_was_let_go_is_told_with_its_neighbours(store: Path, lived: Lived) -> None:
    ids = lived.ids("acme/api")
    config = (lived.store.parent / "config.yaml").read_text()
    path = store.parent / "config.yaml"
    path.write_text(config + "retention: {keep_last: 2}\n")
    shutil.copy(lived.store.parent / "token", store.parent / "token")
    async with client(store, FakeClock()) as web:
        assert (await web.get(f"{API}/{ids[0]}/pull-requests")).status_code == 200
        later = FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
        done = await prune.prune(
            load(path), [Selector.parse("acme/api")], clock=later, environment=os.environ
        )
        assert done.exit_code == 0
        gone = await web.get(f"{API}/{ids[0]}/pull-requests")
        assert gone.status_code == 410
        assert "retention did not ask to keep it" in gone.text and ids[-2] in gone.text
        assert "let go" in (await web.get(API)).text
        assert (await web.get(f"{API}/{ids[-1]}/pull-requests")).status_code == 200


async def test_a_damaged_file_is_not_sent(store: Path, lived: Lived) -> None:
    last = f"{API}/{lived.ids('acme/api')[-1]}"
    async with client(store, FakeClock()) as web:
        issue = Shown((await web.get(f"{last}/issues/1")).text)
        [link] = {one for one in issue.links() if one.endswith("invoice.png")}
        found = api(store).find_file(link.split("/")[-2])
        assert found is not None
        flip(found.path, found.path.stat().st_size // 2)
        answer = await web.get(link)
        assert answer.status_code == 500 and "mirror verify" in answer.text


async def test_a_file_that_turns_out_damaged_ends_too_early() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"first"
        yield b"second"
        raise StoreDamaged("files/ab/abc", "its content has another sha256")

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    sent: list[dict[str, object]] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/x"}
    await Checked(pieces(), "name", None, None)(scope, receive, send)
    assert [one.get("body") for one in sent[1:]] == [b"first"] and sent[-1]["more_body"] is True


async def test_a_file_that_nobody_takes_any_more_is_read_no_further() -> None:
    hung_up, read = asyncio.Event(), []

    def pieces() -> Iterator[bytes]:
        for number in range(10_000):
            read.append(number)
            yield b"piece"

    async def receive() -> dict[str, str]:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            hung_up.set()
            await asyncio.sleep(0)

    scope = {"type": "http", "method": "GET", "path": "/x"}
    await Checked(pieces(), "name", None, None)(scope, receive, send)
    assert len(read) < 10_000


async def test_two_repositories_of_one_name_each_have_an_address(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        workspace = store.adopt_workspace(ACME, START)
        for number in (1, 2):
            store.adopt_repository(workspace, website("shop", number=number), START)
    text = await page(tmp_path, "/repositories/acme/shop", 200)
    assert "2 repositories have had this name" in text and "shop~00000001" in text
    for number in (1, 2):
        text = await page(tmp_path, f"/repositories/acme/shop~0000000{number}", 200)
        assert "There is no snapshot yet" in text


async def test_a_folder_without_snapshots_and_a_store_that_is_not_there(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        adopt(store)
    for address in ("", "/snapshots"):
        await page(tmp_path / "store", f"/repositories/acme/website{address}", 200)
    for address in ("/latest", "/as-of?when=latest", "/compare", "/20261123T020000Z"):
        await page(tmp_path / "store", f"/repositories/acme/website{address}", 404)
    await page(tmp_path / "nothing", "/repositories/acme/website", 503)
