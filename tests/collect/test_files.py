"""Downloads and attachments: what is replaced upstream is fetched anew, until it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.config import load
from mirror.model import JsonObject, Run, RunEntry, Selector
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.discussions import Attachment
from mirror.simulator.render_settings import Settings
from mirror.simulator.repository import SimRepository
from mirror.simulator.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

DAY = 86400.0
WEBSITE = "acme/website"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    populate(world)
    # No real access token has the scope of issues; what follows is of credentials that have.
    token = world.add_workspace_access_token("acme", SCOPES | {"issue"})
    with Simulator(world, switches=Switches(issue_tracker=True)) as simulator:
        yield Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))


def entry(run: Run) -> RunEntry:
    [found] = [one for one in run.entries if one.full_name == WEBSITE]
    return found


def document(place: Place, path: str) -> Any:
    with place.store() as store:
        folder = store.repository(Selector.parse(WEBSITE))
        latest = folder.metadata.latest()
        assert latest is not None
        return folder.metadata.read(latest, path)


def pointer(name: str, content: bytes) -> JsonObject:
    return {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


async def settled(place: Place) -> Run:
    """A run in which the settings are due."""
    place.clock.elapsed += 8 * DAY
    return await place.run(WEBSITE)


async def test_a_replaced_download_that_could_not_be_fetched_is_fetched_by_the_next_round(
    place: Place,
) -> None:
    """Until then its entry is the old one, of the old bytes."""
    new = b"a whole new catalogue, second edition"
    await place.run(WEBSITE)
    [before] = document(place, "downloads.json")
    place.acme.repositories["website"].upload("catalogue.pdf", new)
    place.simulator.order(Fault("GET */downloads/*", kind="html", times=50))
    assert str(entry(await settled(place)).parts["downloads"].state) == "partial"
    assert document(place, "downloads.json") == [before]
    place.simulator.faults.clear()
    assert (await settled(place)).exit_code == 0
    [after] = document(place, "downloads.json")
    assert (after["size"], after["_content"]) == (len(new), pointer("catalogue.pdf", new))


async def test_a_download_that_came_back_and_could_not_be_fetched_is_not_gone(place: Place) -> None:
    website = place.acme.repositories["website"]
    await place.run(WEBSITE)
    [before] = document(place, "downloads.json")
    website.downloads.clear()
    await settled(place)
    assert "_gone" in document(place, "downloads.json")[0]
    website.upload("catalogue.pdf", b"again, and another")
    place.simulator.order(Fault("GET */downloads/*", kind="html", times=50))
    assert (await settled(place)).exit_code == 3
    assert document(place, "downloads.json") == [before]


async def test_a_download_whose_held_bytes_are_not_as_many_as_listed_is_fetched_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So older versions left one that was replaced and could not be fetched."""
    new, render = b"a whole new catalogue, second edition", Settings.download

    def listed(self: Settings, file: Attachment, repository: SimRepository) -> JsonObject:
        return {**render(self, file, repository), "size": len(new)}

    with monkeypatch.context() as patched:
        patched.setattr(Settings, "download", listed)
        await place.run(WEBSITE)
    place.acme.repositories["website"].upload("catalogue.pdf", new)
    assert (await settled(place)).exit_code == 0
    [after] = document(place, "downloads.json")
    assert after["_content"] == pointer("catalogue.pdf", new)


async def test_an_attachment_that_is_replaced_under_its_name_is_fetched_anew(place: Place) -> None:
    """The list tells nothing but names."""
    ann = place.world.users["ann@acme.example"]
    issue = place.acme.repositories["website"].add_issue("Broken", author=ann)
    issue.attach("screen.png", b"first")
    assert (await place.run(WEBSITE)).exit_code == 0
    [attached] = issue.attachments
    attached.content = b"second"
    place.clock.elapsed += DAY
    issue.comment("Now with the right screen", author=ann)
    assert (await place.run(WEBSITE)).exit_code == 0
    [kept] = document(place, f"issues/0/{issue.id}.json")["attachments"]
    assert kept["_content"] == pointer("screen.png", b"second")
