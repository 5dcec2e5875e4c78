"""The daemon brings copies up to date: after each backup or at times of their own, all of them, one after the
other, and tells of each what it came to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.bitbucket.client.budget import Budget
from mirror.browse import status
from mirror.config import Config, load_text
from mirror.config.copies import CopyConfig
from mirror.copy import sending
from mirror.daemon.jobs import COPY_SECONDS, KINDS, Means
from mirror.daemon.overdue import overdue_report
from mirror.daemon.schedule import jobs_of
from mirror.daemon.state import State
from mirror.errors import Cancelled
from mirror.model import EVERYTHING, NoProgress, Problem, Run
from mirror.notify.conditions import of_run
from mirror.store.writing.writer import create_or_open, open_store
from tests.clock import FakeClock

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HOURLY = "{workspace: a, schedule: {backup: every 1h}}"
ONE, TWO = "s3://one/acme", "s3://two/acme"


def config_of(folder: Path, schedule: str = "backup: every 4h, copy: after backup", more: str = "") -> Config:
    text = (
        f"store: s\ncredential: {{kind: workspace_access_token, token: {{env: T}}}}\n"
        f"schedule: {{{schedule}}}\ncopies: [{{to: '{ONE}'}}, {{to: '{TWO}'}}]\n{more}"
    )
    return load_text(text, "config.yaml", folder=folder)


class Sent:
    """Stands for the sending of a copy: writes its record, or raises."""

    def __init__(self, **outcomes: Problem | Exception) -> None:
        self.addresses: list[str] = []
        self.outcomes = outcomes

    async def run(self, config: Config, copy: CopyConfig, *, clock: FakeClock, **_: Any) -> Run:
        self.addresses.append(copy.to)
        outcome = self.outcomes.get(copy.address.bucket)
        if isinstance(outcome, Exception):
            raise outcome
        problems = (outcome,) if outcome is not None else ()
        now = clock.now()
        with open_store(config.store, command="test") as store:
            facts = {"to": copy.to, **({} if problems else {"covers_number": 0})}
            run = Run(store.new_run_id(now), "copy", now, now, "mirror", problems=problems, facts=facts)
            store.write_run(run)
        return run


def copy_all(config: Config, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(sending, "run", sent.run)
    clock = FakeClock()
    create_or_open(config.store, now=clock.now()).close()
    means = Means(config, clock, {}, Budget(clock))
    return asyncio.run(KINDS["copy"].work(means, config, EVERYTHING, NoProgress()))


def test_a_copy_that_fails_keeps_no_other_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path)
    sent = Sent(one=Problem(75, "no answer"))
    done = copy_all(config, sent, monkeypatch)
    assert sent.addresses == [ONE, TWO]
    assert (done.kind, done.exit_code) == ("copy", 75)
    assert [one.text for one in done.problems] == [f"{ONE}: no answer"]
    found = {one.to: one for one in status(config.store).copies}
    assert found[ONE].last_good is None and found[TWO].last_good is not None
    assert found[ONE].failure == "the last try ended with 75: no answer"
    report = of_run(done)
    assert report is not None and [one.line for one in report.conditions] == [f"{ONE}: no answer"]


def test_one_that_raises_keeps_no_other_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent(one=RuntimeError("nobody expected that"))
    with pytest.raises(RuntimeError, match="nobody expected"):
        copy_all(config_of(tmp_path), sent, monkeypatch)
    assert sent.addresses == [ONE, TWO]


def test_who_is_stopped_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent(one=Cancelled("stopped"))
    with pytest.raises(Cancelled):
        copy_all(config_of(tmp_path), sent, monkeypatch)
    assert sent.addresses == [ONE]


def test_writers_wait_for_a_copy_that_holds_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mirror import backup, prune

    waits: list[float] = []

    async def note(*_: object, lock_wait: float, **__: object) -> Run:
        waits.append(lock_wait)
        return Run("r", "backup", NOW, NOW, "mirror")

    monkeypatch.setattr(backup, "run", note)
    monkeypatch.setattr(prune, "prune", note)
    clock = FakeClock()
    with_copies = config_of(tmp_path)
    without = load_text(
        "store: s\ncredential: {kind: workspace_access_token, token: {env: T}}\n", "c", folder=tmp_path
    )
    for config in (with_copies, without):
        means = Means(config, clock, {}, Budget(clock))
        for kind in ("backup", "prune"):
            asyncio.run(KINDS[kind].work(means, config, EVERYTHING, NoProgress()))
    assert waits == [COPY_SECONDS, COPY_SECONDS, 0.0, 0.0]


def overdue(config: Config, ended: float, hours: float) -> bool:
    state = State(
        NOW, NOW, ended={"backup": NOW + timedelta(hours=hours), "copy": NOW + timedelta(hours=ended)}
    )
    report = overdue_report(jobs_of(config), state, NOW + timedelta(hours=hours))
    return "copy" in [one.key for one in report.conditions]


@pytest.mark.parametrize(
    ("schedule", "more", "limit"),
    [
        ("backup: every 4h, copy: after backup", "", 8),
        ("backup: every 4h, copy: every 12h", "", 24),
        ("backup: every 4h, copy: '0 2 * * *', jitter: none", "", 48),
        # Of several jobs, the one that runs least often.
        ("backup: every 4h, copy: after backup", f"workspaces: [{HOURLY}, {{workspace: b}}]", 8),
        ("copy: after backup", f"workspaces: [{HOURLY}]", 2),
    ],
)  # fmt: skip
def test_a_copy_is_overdue_by_what_it_follows(tmp_path: Path, schedule: str, more: str, limit: float) -> None:
    config = config_of(tmp_path, schedule, more)
    assert not overdue(config, 0, limit - 0.1)
    assert overdue(config, 0, limit + 0.1)
