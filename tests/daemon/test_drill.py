"""The daemon rehearses a restore on its schedule, and records it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mirror import drill
from mirror.bitbucket.client.budget import Budget
from mirror.browse import status
from mirror.config import load_text
from mirror.daemon.jobs import KINDS, Means
from mirror.daemon.schedule import jobs_of
from mirror.drill import Drilled
from mirror.drill.results import DrillResult
from mirror.model import EVERYTHING, NoProgress, Problem
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock

CONFIG = (
    "store: s\ncredential: {kind: workspace_access_token, token: {env: UNSET_VARIABLE}}\n"
    "schedule: {drill: '0 6 1 * *'}\nlimits: {git_workers: 1}\n"
)


def test_a_drill_that_is_due_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, clock = load_text(CONFIG, "config.yaml", folder=tmp_path), FakeClock()
    create_or_open(config.store, now=clock.now()).close()
    assert [(job.name, job.trigger.text) for job in jobs_of(config)] == [("drill", "0 6 1 * *")]

    async def rehearse(path: Path, *_: object, **options: Any) -> Drilled:
        assert path == config.store and options["limits"].git_workers == 1
        result = DrillResult(problems=[Problem(4, "1 difference")])
        return Drilled(result.run("20261123t020000z-abcdef", [], clock.now(), clock.now()), result)

    monkeypatch.setattr(drill, "run", rehearse)
    means = Means(config, clock, {}, Budget(clock))
    done = asyncio.run(KINDS["drill"].work(means, config, EVERYTHING, NoProgress()))
    assert done.exit_code == 4
    last = status(config.store).last_drill
    assert last is not None and last["problems"] == ["1 difference"]
