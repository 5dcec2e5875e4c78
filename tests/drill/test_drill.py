"""A rehearsed restore brings everything back that can come back, and finds what a faulty one does not."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror import drill
from mirror.cli.system import SystemClock
from mirror.drill import Drilled
from mirror.errors import Cancelled
from mirror.model import NoProgress, Selector
from mirror.restore.plan.order import make_plan
from mirror.restore.plan.steps import Call, Plan, Push, Step
from mirror.store.reading.reader import Store
from tests.drill.sample import whole_store


def _drilled(folder: Path, *selectors: str) -> Drilled:
    return asyncio.run(
        drill.run(
            whole_store(),
            [Selector.parse(text) for text in selectors],
            clock=SystemClock(),
            environment={**os.environ, "TMPDIR": str(folder)},
        )
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Drilled:
    """A drill of the whole sample."""
    folder = tmp_path_factory.mktemp("drill")
    done = _drilled(folder)
    assert list(folder.iterdir()) == [], "nothing temporary stays"
    return done


def test_everything_comes_back_that_can(whole: Drilled) -> None:
    assert whole.result.lines() == []
    assert [one.text for one in whole.run.problems] == []
    assert whole.run.exit_code == 0
    compared = whole.result.comparison.counts
    assert compared["documents"] > 100 and compared["things"] > 50 and compared["refs"] > 9


def test_the_record_tells_time_and_losses(whole: Drilled) -> None:
    facts = whole.run.facts
    assert whole.run.kind == "drill"
    assert (
        facts["seconds"]["restore"] > 0 and facts["seconds"]["real"] > 0 and facts["seconds"]["requests"] > 20
    )
    kinds = {one["kind"] for one in facts["not_back"] if one["why"] == "only the archive has it"}
    assert {"pull requests", "pipelines"} <= kinds
    lost = [one.line for one in whole.result.comparison.lost]
    assert any("pull request 1 is missing in the copy (nobody can make" in line for line in lost)


class _Stopping(NoProgress):
    """Stops the task that it is made in as soon as the copy is backed up."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        if stage == "backing up the copy" and self._task is not None:
            asyncio.get_running_loop().call_later(0.05, self._task.cancel)


def test_one_that_is_stopped_while_it_backs_up_the_copy_ends(tmp_path: Path) -> None:
    store, environment = whole_store(), {**os.environ, "TMPDIR": str(tmp_path)}

    async def stopped() -> None:
        selectors = [Selector("acme", "handbook")]
        await drill.run(store, selectors, clock=SystemClock(), environment=environment, progress=_Stopping())

    with pytest.raises(Cancelled, match="the drill was stopped"):
        asyncio.run(stopped())
    assert list(tmp_path.iterdir()) == []


def _another_file() -> str:
    """The sha256 of a stored file that is no download."""
    with Store.open(whole_store()) as store:
        website = store.repository(Selector("acme", "website"))
        return next(one.sha256 for one in website.files() if one.compressed)


def _broken(step: Step) -> Step | None:
    """A step as a faulty planner makes it; None: it forgets the step."""
    body: Any = step.action.body if isinstance(step.action, Call) else None
    match step.action:
        case Push(refs=refs):
            main, tag = refs.get(b"refs/heads/main"), b"refs/tags/v1.0"
            moved = {**refs, tag: main} if main is not None and tag in refs else refs
            return replace(step, action=replace(step.action, refs=moved))
        case Call(files=files) if files and step.kind == "downloads":
            return replace(
                step, action=replace(step.action, files=(replace(files[0], sha256=_another_file()),))
            )
        case Call() if "/comment/5" in step.key:
            return None
        case Call() if step.key == "website/pull-request/3":
            return replace(step, action=replace(step.action, body={**body, "title": "Another"}))
        case Call() if isinstance(body, dict) and body.get("key") == "REGION":
            return replace(step, action=replace(step.action, body={**body, "value": "us-east-1"}))
        case Call() if isinstance(body, dict) and body.get("url") == "https://ci.acme.example/hook":
            return replace(step, action=replace(step.action, body={**body, "description": "Another"}))
    return step


def test_what_a_faulty_restore_loses_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def faulty(*arguments: Any) -> Plan:
        plan = make_plan(*arguments)
        steps = tuple(one for one in map(_broken, plan.steps) if one is not None)
        return replace(plan, steps=steps)

    monkeypatch.setattr("mirror.restore.into.make_plan", faulty)
    done = _drilled(tmp_path, "acme/website")
    lines = done.result.lines()
    assert done.run.exit_code == 4
    for text in (
        "ref refs/tags/v1.0: hash differs",
        "comment 5 is missing in the copy",
        'pull request 3: title differs: "A blog", in the copy "Another"',
        "variable REGION: value differs",
        "webhook https://ci.acme.example/hook: description differs",
        "download catalogue.pdf: size differs",
        "file catalogue.pdf: content differs",
    ):
        assert any(text in line for line in lines), (text, lines)
    assert len(lines) == 7, lines
    assert not any("us-east-1" in line for line in lines)
