"""Downloads and attachments: Mirror fetches a file that upstream replaced again, until it succeeds."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.collect.kinds.files import ROOM_LEFT
from mirror.config import load
from mirror.config.settings import ByteSize
from mirror.model import JsonObject, Run, RunEntry, Selector
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.api.render_settings import Settings
from mirror.simulator.world.discussions import Attachment, Snippet
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES, populate
from mirror.store.writing.file_store import FileStore, NewStoredFile
from tests.e2e.helpers import write_config
from tests.place import Place

DAY = 86400.0
WEBSITE = "acme/website"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    populate(world)
    # No real access token has the scope of issues; these tests are about credentials that have it.
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
    """Until then its entry is the old one, with the old bytes."""
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
    """Older versions left a replaced download like this if they could not fetch it."""
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
    """The list contains only names."""
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


async def test_a_download_for_which_the_disk_has_no_room_costs_itself_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.acme.repositories["website"].upload("large.iso", b"l" * 1000)
    keep = FileStore.free_bytes

    def room(self: FileStore) -> int:
        return ROOM_LEFT + 500 if keep(self) else 0

    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "free_bytes", room)
        run = await place.run(WEBSITE)
    part = entry(run).parts["downloads"]
    assert (run.exit_code, str(part.state)) == (3, "partial") and "no room" in (part.reason or "")
    held = {one["name"]: one["_content"] for one in document(place, "downloads.json")}
    assert held["large.iso"] is None and held["catalogue.pdf"] is not None
    assert (await place.run(WEBSITE)).exit_code == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_that_is_full_while_a_file_is_written_keeps_no_half(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write = NewStoredFile.write

    def full(self: NewStoredFile, data: bytes) -> None:
        write(self, data)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(NewStoredFile, "write", full)
        run = await place.run(WEBSITE)
    told = {one.part: one.text for one in entry(run).problems}
    assert run.exit_code == 3 and os.strerror(number) in told["downloads"]
    assert entry(run).parts["code"].state == "complete"
    assert not list((place.config.store / "tmp").glob("*.tmp")) and not list(
        place.config.store.rglob("file.*")
    )
    assert (await place.run(WEBSITE)).exit_code == 0


async def test_a_download_larger_than_is_wanted_is_told(place: Place) -> None:
    limits = replace(place.config.limits, file_max=ByteSize(10))
    config, place.config = place.config, replace(place.config, limits=limits)
    run = await place.run(WEBSITE)
    assert run.exit_code == 3 and "larger than 10 bytes" in (entry(run).parts["downloads"].reason or "")
    place.config = config
    assert (await place.run(WEBSITE)).exit_code == 0


async def test_a_transfer_that_breaks_off_is_begun_anew(place: Place) -> None:
    place.simulator.order(Fault("GET /storage/downloads/*", kind="truncate", times=2))
    assert (await place.run(WEBSITE)).exit_code == 0
    [download] = document(place, "downloads.json")
    assert download["_content"]["size"] == download["size"]


@pytest.mark.parametrize("last", [False, True], ids=["REVISION/files/NAME", "files/REVISION/NAME"])
@pytest.mark.parametrize("is_odd", [False, True], ids=["", "another form"])
async def test_the_files_of_a_snippet_are_had_whatever_their_addresses_look_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: bool, is_odd: bool
) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    ann = world.users["ann@acme.example"]
    names = ("a b.txt", "index.html", "100%.md", "it's")
    world.workspaces["acme"].add_snippet(
        "Odd", {name: name.encode() for name in names}, author=ann, identifier="o"
    )
    token = world.add_workspace_access_token("acme", SCOPES | {"snippet"})
    render = Settings.snippet

    def odd(self: Settings, snippet: Snippet, workspace: str, *, listed: bool) -> JsonObject:
        shown = render(self, snippet, workspace, listed=listed)
        for file in shown.get("files", {}).values():
            file["links"]["self"]["href"] = file["links"]["self"]["href"].replace("/files/", "/raw/")
        return shown

    if is_odd:
        monkeypatch.setattr(Settings, "snippet", odd)
    with Simulator(world, switches=Switches(snippet_files_name_revision_last=last)) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        await place.run("acme")
        with place.store() as store:
            [workspace] = store.workspaces()
            latest = workspace.metadata.latest()
            assert latest is not None
            held: Any = workspace.metadata.read(latest, "snippets/o.json")
    assert {name: one["size"] for name, one in held["files"].items()} == {name: len(name) for name in names}
