"""An odd value affects only its own document: Mirror misses nothing else because of it, now or later."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mirror.model import Run, RunEntry, Selector, canonical
from mirror.simulator import Fault, app
from mirror.simulator.api.render import Renderer
from mirror.simulator.responses import json_response
from mirror.simulator.world.builds import Pipeline, Step
from mirror.simulator.world.discussions import Comment, PullRequest
from tests.place import Place

DAY = 86400.0
NAME = "acme/website"
FAR = datetime(2099, 1, 1, tzinfo=UTC)


def entry(run: Run) -> RunEntry:
    [found] = [one for one in run.entries if one.full_name == NAME]
    return found


def document(place: Place, path: str, name: str = NAME) -> Any:
    with place.store() as store:
        folder = store.repository(Selector.parse(name))
        latest = folder.metadata.latest()
        assert latest is not None
        return folder.metadata.read(latest, path)


def pull(place: Place, number: int) -> Any:
    return place.acme.repositories["website"].pull_requests[number]


def change_pull_requests(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """From now on, the server shows pull requests as `change` returns them."""
    told = Renderer.pull_request

    def odd(self: Renderer, one: PullRequest, *, listed: bool) -> dict[str, Any]:
        return change(told(self, one, listed=listed))

    monkeypatch.setattr(Renderer, "pull_request", odd)


def change_lists(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """From now on, the server shows entries of lists as `change` returns them, for any order and filter."""

    def odd(document: Any) -> Any:
        if isinstance(document, dict) and "values" in document:
            document = {**document, "values": [change(one) for one in document["values"]]}
        return json_response(document)

    monkeypatch.setattr(app, "json_response", odd)


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
    place.simulator.requests.clear()
    await place.run(NAME)
    assert any(one.path.endswith("/branch-restrictions") for one in place.simulator.requests)
    kept = document(place, "pull-requests/0/1.json")
    assert kept["pull_request"]["state"] == "DECLINED"
    assert len(kept["activity"]) == len(before) + 2


async def test_no_cursor_passes_the_time_at_which_its_reading_began(place: Place) -> None:
    """Otherwise each run would read everything again."""
    pull(place, 2).approve(place.world.users["eve@acme.example"])
    pull(place, 2).activity[0]["approval"]["date"] = FAR
    pull(place, 2).updated = FAR
    await place.run(NAME)
    [path] = place.config.store.glob("workspaces/*/repositories/website~*/state.json")
    state = json.loads(path.read_text())["state"]["pull_requests"]
    now = place.clock.now()
    assert all(datetime.fromisoformat(state[name]) <= now for name in ("cursor", "activity_to"))


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


# -- what Mirror cannot store, or cannot distinguish

# Few bytes in a response, many in a document.
LONG = [1] * 40_000


def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "BYTES_MAX", 300_000)


async def test_comments_that_are_too_much_for_a_document_cost_themselves_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Renderer.comment
    path = "pull-requests/0/1.json"

    def long(self: Renderer, one: Comment, of: PullRequest) -> dict[str, Any]:
        found = told(self, one, of)
        return {**found, "odd": LONG} if of.id == 1 else found

    with monkeypatch.context() as patched:
        bounded(patched)
        patched.setattr(Renderer, "comment", long)
        for _ in range(2):
            run = await place.run(NAME)
            assert run.exit_code == 3
            part = entry(run).parts["pull_requests"]
            assert part.state == "partial" and f"{path} cannot be kept: larger than" in (part.reason or "")
            kept = document(place, path)
            assert kept["comments"] is None and kept["_parts"]["comments"] == {"state": "partial"}
            assert kept["statuses"] is not None and kept["activity"]
            assert document(place, "pull-requests/0/3.json")["comments"] is not None
    assert (await place.run(NAME)).exit_code == 0
    kept = document(place, path)
    assert kept["comments"] and "comments" not in kept["_parts"]


async def test_a_pull_request_that_is_too_much_to_keep_is_told_until_it_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        bounded(patched)
        change_pull_requests(patched, lambda one: {**one, "odd": LONG} if one["id"] == 2 else one)
        for _ in range(3):
            run = await place.run(NAME)
            assert run.exit_code == 3
            part = entry(run).parts["pull_requests"]
            assert "pull-requests/0/2.json cannot be kept" in (part.reason or "")
            assert document(place, "pull-requests/0/2.json") is None
            assert document(place, "pull-requests/0/1.json")["comments"] is not None
    place.clock.elapsed += 8 * DAY
    assert (await place.run(NAME)).exit_code == 0
    assert document(place, "pull-requests/0/2.json")["comments"] is not None


@pytest.mark.parametrize("value", ["2", None, 10**120, -2], ids=["text", "null", "huge", "negative"])
async def test_a_pull_request_with_an_odd_number_keeps_no_other_out_and_makes_none_vanish(
    place: Place, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    def odd(one: dict[str, Any]) -> dict[str, Any]:
        is_second = one.get("type") == "pullrequest" and one["id"] == 2
        return {**one, "id": value} if is_second else one

    with monkeypatch.context() as patched:
        change_lists(patched, odd)
        for _ in range(2):  # also if the list no longer shows it, because nothing changed
            run = await place.run(NAME)
            assert run.exit_code == 3
            part = entry(run).parts["pull_requests"]
            assert part.state == "partial" and "without a proper id" in (part.reason or "")
            assert all(document(place, f"pull-requests/0/{number}.json")["comments"] for number in (1, 3))
    place.clock.elapsed += 8 * DAY
    assert (await place.run(NAME)).exit_code == 0
    before = document(place, "pull-requests/0/2.json")
    assert before is not None
    change_lists(monkeypatch, odd)
    place.clock.elapsed += 8 * DAY
    assert (await place.run(NAME)).exit_code == 3
    assert document(place, "pull-requests/0/2.json") == before


@pytest.mark.parametrize("value", [None, "", "{1}"])
async def test_a_step_without_a_uuid_costs_its_own_log_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    website = place.acme.repositories["website"]
    made = website.add_pipeline(steps=[("build", b"Built.\n"), ("test", b"Tested.\n")])
    told = Renderer.step

    def odd(self: Renderer, step: Step, pipeline: Pipeline) -> dict[str, Any]:
        found = told(self, step, pipeline)
        return {**found, "uuid": value} if step is made.steps[0] else found

    with monkeypatch.context() as patched:
        patched.setattr(Renderer, "step", odd)
        for _ in range(2):
            run = await place.run(NAME)
            assert run.exit_code == 3
            for name in ("pipelines", "pipeline_logs"):
                part = entry(run).parts[name]
                assert f"pipeline {made.number}: a step came without a proper uuid" in (part.reason or "")
            kept = document(place, f"pipelines/0/{made.number}.json")
            assert len(kept["steps"]) == 2 and list(kept["logs"]) == [made.steps[1].uuid]


async def test_a_pipeline_without_a_uuid_is_told_until_it_has_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Renderer.pipeline

    def odd(self: Renderer, one: Pipeline) -> dict[str, Any]:
        found = told(self, one)
        return {**found, "uuid": None} if one.number == 1 else found

    with monkeypatch.context() as patched:
        patched.setattr(Renderer, "pipeline", odd)
        for _ in range(2):
            run = await place.run(NAME)
            assert run.exit_code == 3
            part = entry(run).parts["pipelines"]
            assert "pipeline 1: a pipeline came without a proper uuid" in (part.reason or "")
            assert document(place, "pipelines/0/1.json")["steps"] is None
            assert document(place, "pipelines/0/2.json")["logs"]
    assert (await place.run(NAME)).exit_code == 0
    assert document(place, "pipelines/0/1.json")["steps"]


async def test_a_pipeline_without_a_number_is_told_and_the_others_are_saved(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Renderer.pipeline

    def odd(self: Renderer, one: Pipeline) -> dict[str, Any]:
        found = told(self, one)
        return {**found, "build_number": "2"} if one.number == 2 else found

    with monkeypatch.context() as patched:
        patched.setattr(Renderer, "pipeline", odd)
        for _ in range(2):
            run = await place.run(NAME)
            assert run.exit_code == 3
            assert "without a proper number" in (entry(run).parts["pipelines"].reason or "")
            assert document(place, "pipelines/0/1.json")["logs"]
            assert document(place, "pipelines/0/2.json") is None
    assert (await place.run(NAME, full=True)).exit_code == 0
    assert document(place, "pipelines/0/2.json")["logs"]


# -- what is known of a head


async def test_the_patch_of_a_head_that_was_replaced_is_not_taken_for_the_new_ones(place: Place) -> None:
    """Git has neither head; the API gave the patch of the first, and has none for the second."""
    name, path = "acme/billing", "pull-requests/0/1.json"
    billing = place.acme.repositories["billing"]
    run = await place.run(name)
    [before] = [one for one in run.entries if one.full_name == name]
    assert before.parts["code"].counts["pull_request_heads_lost"] == 0
    assert before.parts["code"].counts["pull_request_heads_patched"] == 1
    moved = billing.pull_requests[1]
    moved.source_hash = "5" * 40
    moved.edit(title="Another head", author=place.world.users["eve@acme.example"])
    for where in ("patch/*", "pullrequests/1/patch", "pullrequests/1/commits"):
        place.simulator.order(Fault(f"GET /2.0/repositories/{name}/{where}", status=404, times=9))
    for _ in range(2):
        run = await place.run(name)
        [after] = [one for one in run.entries if one.full_name == name]
        assert after.parts["code"].counts["pull_request_heads_lost"] == 1
        assert after.parts["code"].counts["pull_request_heads_patched"] == 0
    assert document(place, path, name)["patch"]["size"] > 0
