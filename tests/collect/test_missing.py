"""The run reports entries of a list that it could not get; they affect neither the others nor stored data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.config import load
from mirror.model import JsonObject, Part, Run, Selector
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.api.render import Renderer
from mirror.simulator.api.render_settings import Settings
from mirror.simulator.responses import json_response
from mirror.simulator.world.discussions import Snippet
from mirror.simulator.world.people import braced
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

DAY = 86400.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    populate(world)
    # No real access token has these scopes; these tests are about credentials that have them.
    token = world.add_workspace_access_token("acme", SCOPES | {"issue", "snippet"})
    with Simulator(world, switches=Switches(issue_tracker=True)) as simulator:
        config = load(write_config(tmp_path, simulator, token))
        only = replace(config.workspaces[0], include=("website",))
        yield Place(tmp_path, simulator, replace(config, workspaces=(only,)))


def part(run: Run, name: str, of: str = "acme/website") -> Part:
    [found] = [one for one in run.entries if one.full_name == of]
    return found.parts[name]


def documents(place: Place, of: str = "acme/website") -> dict[str, Any]:
    with place.store() as store:
        several = store.workspaces() if of == "acme" else [store.repository(Selector.parse(of))]
        [metadata] = [one.metadata for one in several]
        latest = metadata.latest()
        assert latest is not None
        return {path: metadata.read(latest, path) for path in metadata.paths(latest)}


async def settled(place: Place) -> Run:
    """A run in which the settings are due."""
    place.clock.elapsed += 8 * DAY
    return await place.run()


@pytest.mark.parametrize("status", [404, 410])
async def test_one_download_that_is_not_there_does_not_make_them_gone(place: Place, status: int) -> None:
    place.acme.repositories["website"].upload("broken.zip", b"broken")
    place.simulator.order(Fault("GET */downloads/broken.zip", status=status, times=50))
    run = await place.run()
    assert run.exit_code == 3 and str(part(run, "downloads").state) == "partial"
    held = {one["name"]: one["_content"] is not None for one in documents(place)["downloads.json"]}
    assert held == {"catalogue.pdf": True, "broken.zip": False}
    assert documents(place)["settings/_parts.json"]["downloads"] == {"state": "partial"}
    place.simulator.faults.clear()
    assert (await settled(place)).exit_code == 0
    assert all(one["_content"] for one in documents(place)["downloads.json"])


async def test_variables_that_are_not_there_do_not_make_the_environments_gone(place: Place) -> None:
    website = place.acme.repositories["website"]
    [first] = website.settings["environments"]
    second = {**first, "uuid": braced("environment", "second")}
    website.settings["environments"].append(second)
    where = f"GET */deployments_config/environments/{first['uuid']}/*"
    place.simulator.order(Fault(where, status=404, times=50))
    run = await place.run()
    assert run.exit_code == 3 and str(part(run, "settings").state) == "partial"
    found = documents(place)
    assert found["settings/_parts.json"]["environments"] == {"state": "partial"}
    assert found[f"environments/{first['uuid'].strip('{}')}.json"]["variables"] is None
    assert found[f"environments/{second['uuid'].strip('{}')}.json"]["variables"] is not None


async def test_a_refusal_is_told_though_other_faults_came_after_it(place: Place) -> None:
    website = place.acme.repositories["website"]
    website.downloads.clear()
    website.upload("a.zip", b"a")
    website.upload("b.zip", b"b")
    place.simulator.order(Fault("GET */downloads/a.zip", status=403, times=50))
    place.simulator.order(Fault("GET */downloads/b.zip", status=404, times=50))
    run = await place.run()
    assert run.exit_code == 3 and str(part(run, "downloads").state) == "denied"


@pytest.mark.parametrize("status", [404, 410, 403])
async def test_one_file_of_a_snippet_keeps_no_other_out_and_is_asked_for_again(
    place: Place, status: int
) -> None:
    ann = place.world.users["ann@acme.example"]
    snippet = place.acme.add_snippet(
        "Three", {"a.txt": b"a", "b.txt": b"b", "c.txt": b"c"}, author=ann, identifier="zzz"
    )
    where = "GET */snippets/acme/zzz/*/files/b.txt"
    place.simulator.order(Fault(where, status=status, times=50))
    told = "denied" if status == 403 else "partial"
    run = await place.run()
    assert run.exit_code == 3 and str(part(run, "snippets", "acme").state) == told
    kept = documents(place, "acme")["snippets/zzz.json"]
    assert set(kept["files"]) == {"a.txt", "c.txt"} and kept["_parts"]["files"]["state"] == told
    assert kept["comments"] is not None and kept["commits"] is not None
    # Although it was not updated since.
    place.simulator.faults.clear()
    assert (await settled(place)).exit_code == 0
    first = documents(place, "acme")["snippets/zzz.json"]
    assert set(first["files"]) == {"a.txt", "b.txt", "c.txt"} and first["_parts"] == {}
    # Its stored data stays.
    snippet.edit({"a.txt": b"aa", "b.txt": b"bb"})
    place.simulator.order(Fault(where, status=status, times=50))
    assert (await settled(place)).exit_code == 3
    kept = documents(place, "acme")["snippets/zzz.json"]
    assert kept["files"]["b.txt"] == first["files"]["b.txt"]
    assert kept["files"]["a.txt"]["size"] == 2
    place.simulator.faults.clear()
    assert (await settled(place)).exit_code == 0
    assert documents(place, "acme")["snippets/zzz.json"]["files"]["b.txt"]["size"] == 2


@pytest.mark.parametrize("odd", [[{"a.txt": {}}], None, "a.txt"], ids=["a list", "null", "a text"])
async def test_a_snippet_that_does_not_tell_its_files_keeps_no_other_out(
    place: Place, odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, render = place.world.users["ann@acme.example"], Settings.snippet
    for name in ("aaa", "zzz"):
        place.acme.add_snippet("Some", {"a.txt": b"a"}, author=ann, identifier=name)

    def odd_files(self: Settings, snippet: Snippet, workspace: str, *, listed: bool) -> JsonObject:
        shown = render(self, snippet, workspace, listed=listed)
        return shown if listed or snippet.id != "zzz" else {**shown, "files": odd}

    with monkeypatch.context() as patched:
        patched.setattr(Settings, "snippet", odd_files)
        run = await place.run()
    assert run.exit_code == 3 and str(part(run, "snippets", "acme").state) == "partial"
    held = documents(place, "acme")
    assert (held["snippets/zzz.json"]["files"], set(held["snippets/aaa.json"]["files"])) == (None, {"a.txt"})
    assert held["snippets/zzz.json"]["_parts"] == {"files": {"state": "partial"}}
    assert (await settled(place)).exit_code == 0
    assert set(documents(place, "acme")["snippets/zzz.json"]["files"]) == {"a.txt"}


async def test_a_snippet_without_an_id_keeps_no_other_out_and_none_is_taken_for_gone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, render = place.world.users["ann@acme.example"], Settings.snippet
    place.acme.add_snippet("Old", {"a.txt": b"a"}, author=ann, identifier="old")
    await place.run()

    def nameless(self: Settings, snippet: Snippet, workspace: str, *, listed: bool) -> JsonObject:
        shown = render(self, snippet, workspace, listed=listed)
        return {**shown, "id": None} if snippet.id == "old" else shown

    place.acme.add_snippet("New", {"b.txt": b"b"}, author=ann, identifier="new")
    place.acme.snippets["old"].edit({"a.txt": b"aa"})  # listed first
    with monkeypatch.context() as patched:
        patched.setattr(Settings, "snippet", nameless)
        run = await settled(place)
    assert run.exit_code == 3 and str(part(run, "snippets", "acme").state) == "partial"
    held = documents(place, "acme")
    assert set(held["snippets/new.json"]["files"]) == {"b.txt"}
    assert held["snippets/old.json"]["_parts"] == {}
    del place.acme.snippets["old"]
    assert (await settled(place)).exit_code == 0
    assert documents(place, "acme")["snippets/old.json"]["_parts"]["snippet"]["state"] == "gone"


async def test_one_attachment_keeps_no_other_out_and_is_asked_for_again(place: Place) -> None:
    ann = place.world.users["ann@acme.example"]
    issue = place.acme.repositories["website"].add_issue("Broken", author=ann)
    for name in ("a.png", "b.png", "c.png"):
        issue.attach(name, name.encode())
    place.simulator.order(Fault("GET */attachments/b.png", status=404, times=50))
    run = await place.run()
    assert run.exit_code == 3 and str(part(run, "issues").state) == "partial"
    path = f"issues/0/{issue.id}.json"
    held = {one["name"]: one["_content"] is not None for one in documents(place)[path]["attachments"]}
    assert held == {"a.png": True, "b.png": False, "c.png": True}
    place.simulator.faults.clear()
    assert (await place.run()).exit_code == 0
    assert all(one["_content"] for one in documents(place)[path]["attachments"])


async def test_a_project_whose_setting_could_not_be_read_is_told_and_asked_for_again(place: Place) -> None:
    await place.run()
    before = {path: data for path, data in documents(place, "acme").items() if path.startswith("projects/")}
    assert len(before) == 3
    place.simulator.order(Fault("GET */projects/*/branching-model", kind="html", times=500))
    run = await settled(place)
    assert run.exit_code == 3 and str(part(run, "settings", "acme").state) == "partial"
    held = documents(place, "acme")
    assert held["settings/_parts.json"]["projects"] == {"state": "partial"}
    for path, data in before.items():
        assert "branching_model" in held[path]["_parts"] and data["branching_model"] is not None
        assert held[path]["branching_model"] == data["branching_model"]
    place.simulator.faults.clear()
    assert (await settled(place)).exit_code == 0
    held = documents(place, "acme")
    assert {path: held[path] for path in before} == before


@pytest.mark.parametrize("status", [404, 410], ids=["hidden", "retired"])
async def test_a_setting_that_every_project_has_is_missed_until_it_answers_or_is_retired(
    place: Place, status: int
) -> None:
    await place.run()
    before = documents(place, "acme")
    place.simulator.order(Fault("GET */projects/*/branching-model", status=status, times=500))
    run = await settled(place)
    assert (run.exit_code, str(part(run, "settings", "acme").state)) == (3, "partial")
    projects = [path for path in before if path.startswith("projects/")]
    for path in projects:
        data = documents(place, "acme")[path]
        assert data["branching_model"] == before[path]["branching_model"] is not None
        assert data["_parts"]["branching_model"]["state"] == "partial"
    place.clock.elapsed += 3 * DAY
    run = await place.run()
    assert run.exit_code == (3 if status == 404 else 0)
    held = documents(place, "acme")
    assert {held[path]["_parts"]["branching_model"]["state"] for path in projects} == {
        "partial" if status == 404 else "gone"
    }


@pytest.mark.parametrize("odd", [None, [], "model"], ids=["null", "a list", "a text"])
async def test_a_setting_that_is_no_object_never_replaces_one(
    place: Place, odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.run()
    before = documents(place)["settings/branching-model.json"]
    settle = Settings.repository_setting

    def settled_oddly(self: Settings, value: Any, repository: SimRepository) -> Any:
        is_it = isinstance(value, dict) and value.get("type") == "branching_model"
        return json_response(odd) if is_it else settle(self, value, repository)

    with monkeypatch.context() as patched:
        patched.setattr(Settings, "repository_setting", settled_oddly)
        run = await settled(place)
    assert run.exit_code == 3 and str(part(run, "settings").state) == "partial"
    held = documents(place)
    assert held["settings/branching-model.json"] == before
    assert held["settings/_parts.json"]["branching_model"] == {"state": "partial"}


async def test_a_test_report_that_is_no_object_is_missing_until_it_comes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = next(iter(place.acme.repositories["website"].pipelines.values()))
    tested.steps[0].tests = {"test_money": None}
    with monkeypatch.context() as patched:
        patched.setattr(Renderer, "test_report", lambda *_: json_response(None))
        run = await place.run()
    assert run.exit_code == 3 and str(part(run, "pipelines").state) == "partial"
    assert (await place.run()).exit_code == 0
    reports = [
        report["report"]
        for path, data in documents(place).items()
        if path.startswith("pipelines/")
        for report in (data["test_reports"] or {}).values()
    ]
    assert reports and all("number_of_test_cases" in one for one in reports)


async def test_a_list_that_every_repository_has_is_missed_where_it_is_not_there(place: Place) -> None:
    place.simulator.order(Fault("GET */acme/website/downloads", status=404, times=50))
    run = await place.run()
    assert (run.exit_code, str(part(run, "downloads").state)) == (3, "partial")
