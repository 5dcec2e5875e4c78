"""States that the program does not know: Mirror asks for whatever they may stand for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.config import load
from mirror.model import JsonObject, Run, Selector
from mirror.simulator import Simulator, World
from mirror.simulator.api.render import Renderer
from mirror.simulator.world.builds import Step
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

NAME = "acme/website"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        place = Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))
        website = place.acme.repositories["website"]
        website.pipelines.clear()
        website.add_pipeline(steps=[("build", b"first half\n")])
        yield place


def show(
    monkeypatch: pytest.MonkeyPatch, *, step: JsonObject | None = None, pipeline: JsonObject | None = None
) -> None:
    """Make steps or pipelines report this state."""
    steps, pipelines = Renderer.step, Renderer.pipeline
    if step is not None:
        monkeypatch.setattr(Renderer, "step", lambda self, one, of: {**steps(self, one, of), "state": step})
    if pipeline is not None:
        monkeypatch.setattr(
            Renderer, "pipeline", lambda self, one: {**pipelines(self, one), "state": pipeline}
        )


def document(place: Place) -> Any:
    with place.store() as store:
        folder = store.repository(Selector.parse(NAME))
        latest = folder.metadata.latest()
        assert latest is not None
        [path] = folder.metadata.paths(latest, "pipelines")
        return folder.metadata.read(latest, path)


def sizes(place: Place) -> list[int]:
    return [one["size"] for one in document(place)["logs"].values()]


def logs_asked(place: Place) -> int:
    return sum(one.path.endswith("/log") for one in place.simulator.requests)


def state_of(run: Run) -> str:
    [entry] = [one for one in run.entries if one.full_name == NAME]
    return str(entry.parts["pipeline_logs"].state)


@pytest.mark.parametrize(
    "state",
    [{"name": "HALTED"}, {"name": "COMPLETED", "result": {"name": "ABANDONED"}}, {"type": "odd"}, None],
    ids=["a state", "a result", "no name", "no state"],
)
async def test_the_log_of_a_step_in_an_unknown_state_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, state: Any
) -> None:
    show(monkeypatch, step=state or {})
    assert (await place.run(NAME)).exit_code == 0
    assert sizes(place) == [len(b"first half\n")]


async def test_the_log_is_kept_where_the_pipeline_is_in_an_unknown_state(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, step={"name": "HALTED"}, pipeline={"name": "HALTED"})
    assert (await place.run(NAME)).exit_code == 0
    assert len(sizes(place)) == 1


async def test_a_log_of_a_step_not_known_to_have_ended_is_taken_again_when_the_pipeline_moves(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        show(patched, step={"name": "HALTED"}, pipeline={"name": "HALTED"})
        await place.run(NAME)
    [pipeline] = place.acme.repositories["website"].pipelines.values()
    pipeline.steps[0].log = b"first half\nsecond half\n"
    place.clock.elapsed += timedelta(days=2).total_seconds()
    assert (await place.run(NAME)).exit_code == 0
    assert sizes(place) == [len(b"first half\nsecond half\n")]
    assert document(place)["_parts"] == {}


@pytest.mark.parametrize(
    "state", [{"name": "COMPLETED", "result": {"name": "NOT_RUN"}}, {"name": "PENDING"}], ids=str
)
async def test_what_is_known_not_to_have_run_is_asked_for_no_log(
    place: Place, monkeypatch: pytest.MonkeyPatch, state: JsonObject
) -> None:
    show(monkeypatch, step=state)
    assert (await place.run(NAME)).exit_code == 0
    assert logs_asked(place) == 0


async def test_a_step_that_lags_behind_its_pipeline_is_asked_for_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    [pipeline] = place.acme.repositories["website"].pipelines.values()
    pipeline.created = place.clock.now()
    with monkeypatch.context() as patched:
        show(patched, step={"name": "IN_PROGRESS"})
        run = await place.run(NAME)
    assert run.exit_code == 75
    pipeline.steps[0].log = b"first half\nsecond half\n"
    run = await place.run(NAME)
    assert (run.exit_code, state_of(run)) == (0, "complete")
    assert sizes(place) == [len(b"first half\nsecond half\n")]


async def test_test_cases_of_unknown_status_are_asked_for_their_reasons(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    [pipeline] = place.acme.repositories["website"].pipelines.values()
    pipeline.steps[0].tests = {"test_money": "ran out"}
    render = Renderer.test_case

    def odd(self: Renderer, name: str, reason: str | None, step: Step) -> JsonObject:
        return {**render(self, name, reason, step), "status": "CRASHED"}

    monkeypatch.setattr(Renderer, "test_case", odd)
    assert (await place.run(NAME)).exit_code == 0
    [report] = document(place)["test_reports"].values()
    assert [one["message"] for one in report["cases"][0]["reasons"]] == ["ran out"]


async def test_a_pull_request_in_a_state_that_no_list_is_asked_for_is_not_gone(place: Place) -> None:
    """Mirror requests the list with the states that it knows."""
    website = place.acme.repositories["website"]
    await place.run(NAME)
    number, pull = next(iter(website.pull_requests.items()))
    pull.state = "ARCHIVED"
    assert (await place.run(NAME, full=True)).exit_code == 0
    with place.store() as store:
        folder = store.repository(Selector.parse(NAME))
        latest = folder.metadata.latest()
        assert latest is not None
        held: Any = folder.metadata.read(latest, f"pull-requests/0/{number}.json")
    assert "pull_request" not in held["_parts"] and held["pull_request"]["state"] == "ARCHIVED"
