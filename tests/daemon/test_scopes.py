"""Workspaces with a schedule of their own: what their jobs and those of all others are for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.bitbucket.client.budget import Budget
from mirror.config import Config, load_text, show
from mirror.daemon.jobs import KINDS, Means
from mirror.daemon.schedule import jobs_of
from mirror.daemon.state import State
from mirror.drill.originals import choose
from mirror.errors import ConfigError
from mirror.model import EVERYTHING, NoProgress, Run, Scope, Selector
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock
from tests.e2e.helpers import MADE

ACME, REST = Scope(only="acme"), Scope(but=frozenset({"acme"}))
TOP = "schedule: {backup: every 4h, verify: every 7d, drill: every 30d}\n"


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        (EVERYTHING, ACME, True),
        (EVERYTHING, REST, True),
        (REST, ACME, False),
        (REST, Scope(only="beta"), True),
        (REST, EVERYTHING, False),
        (REST, Scope(but=frozenset({"acme", "beta"})), True),
        (Scope(but=frozenset({"acme", "beta"})), REST, False),
        (ACME, ACME, True),
        (ACME, REST, False),
        (ACME, Scope(only="beta"), False),
    ],
)
def test_which_runs_are_runs_of_another_scope_too(wide: Scope, narrow: Scope, covers: bool) -> None:
    assert wide.covers(narrow) == covers


@pytest.mark.parametrize(
    ("scope", "job"),
    [
        (EVERYTHING, "backup"),
        (ACME, "backup of acme"),
        (Scope(but=frozenset({"b", "a.x-1"})), "backup of all but a.x-1, b"),
        (Scope(only="{5a7a8b8c-0000-4000-8000-000000000001}"), None),
        (Scope(only="all"), None),
    ],
)
def test_the_words_for_a_job_and_its_facts_mean_one_scope(scope: Scope, job: str | None) -> None:
    assert job is None or scope.job("backup") == job
    assert Scope.of_job(scope.job("backup")) == ("backup", scope)
    assert Scope.of_facts({"requests": 1, **scope.facts()}) == scope


def text_of(*entries: str, more: str = "") -> str:
    listed = "".join(f"  - {entry}\n" for entry in entries)
    credential = "credential: {kind: workspace_access_token, token: {env: T}}"
    return f"store: s\n{credential}\n{more}workspaces:\n{listed}"


def jobs(*entries: str, more: str = "") -> dict[str, str]:
    config = load_text(text_of(*entries, more=more), "c.yaml", folder=Path("/nonexistent"))
    return {job.name: f"{job.trigger.text} {job.timezone}" for job in jobs_of(config)}


def test_a_workspace_with_a_schedule_of_its_own_has_jobs_of_its_own() -> None:
    own = "{workspace: Acme, schedule: {backup: every 1h, timezone: Europe/Berlin}}"
    assert jobs("{workspace: beta}", own, more=TOP) == {
        "backup of all but acme": "every 4h UTC",
        "backup of acme": "every 1h Europe/Berlin",
        "verify": "every 7d UTC",
        "drill": "every 30d UTC",
    }


def test_where_each_has_its_own_there_is_none_for_all() -> None:
    own = (
        "{workspace: acme, schedule: {backup: every 1h}}",
        "{workspace: beta, schedule: {backup: every 2h}}",
    )
    assert jobs(*own, more="schedule: {backup: every 4h}\n") == {
        "backup of acme": "every 1h UTC",
        "backup of beta": "every 2h UTC",
    }
    assert jobs(own[0], "{}", more="schedule: {backup: every 4h}\n").keys() == {
        "backup of all but acme",
        "backup of acme",
    }


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (text_of("{schedule: {backup: every 1h}}"), "workspaces[0].schedule", "without a name"),
        (text_of("{workspace: a, schedule: {prune: every 1d}}"), "workspaces[0].schedule.prune", "retention"),
        (
            text_of("{workspace: a, schedule: {copy: every 1d}}"),
            "workspaces[0].schedule.copy",
            "cannot be of one workspace",
        ),
        (
            text_of("{workspace: a, schedule: {backup: every 1s}}"),
            "workspaces[0].schedule.backup",
            "every 1m",
        ),
        (
            text_of("{workspace: a, schedule: {backups: every 1h}}"),
            "workspaces[0].schedule.backups",
            "backup?",
        ),
        (
            text_of("{workspace: a, schedule: {backup: '*/20 * * * *', jitter: 15m}}"),
            "workspaces[0].schedule.backup",
            "at most 10min",
        ),
        (
            text_of("{workspace: a}", more="schedule: {backup: '0 0,1 * * *', jitter: 45m}\n"),
            "schedule.backup",
            "at most 30min",
        ),
        (
            text_of("{workspace: a, schedule: {backup: every 1h}}", more="ping: {url: {file: p}}\n"),
            "ping",
            "never be pinged",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "c.yaml", folder=Path("/nonexistent"))
    [fault] = caught.value.faults
    assert fault.key == key and fault.line
    assert words in f"{fault.problem} {fault.remedy}"


def test_the_settings_in_force_read_back_as_the_same() -> None:
    own = "{workspace: acme, schedule: {backup: '0 * * * *', jitter: none}}"
    config = load_text(text_of(own, more=TOP), "c.yaml", folder=Path("/s"))
    assert load_text(show(config), "c.yaml", folder=Path("/s")) == config
    assert config.schedule_of(ACME).jitter == timedelta()


class Two:
    """Two small workspaces, acme and beta; the first has a schedule of its own for everything."""

    def __init__(self, folder: Path, simulator: Simulator, config: Config) -> None:
        self.folder, self.simulator, self.config = folder, simulator, config
        self.clock = FakeClock()
        self.means = Means(config, self.clock, os.environ, Budget(self.clock))

    async def run(self, kind: str, scope: Scope) -> Run:
        self.clock.elapsed += 3600
        [work] = [one.work for name, one in KINDS.items() if name == kind]
        return await work(self.means, self.config, scope, NoProgress())

    def store(self) -> Store:
        return Store.open(self.config.store)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    world = World(tmp_path / "upstream")
    lines = []
    for name in ("acme", "beta"):
        workspace = world.add_workspace(name)
        workspace.add_repository("one")
        workspace.add_repository("two")
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(world.add_workspace_access_token(name, SCOPES))
        own = "schedule: {backup: every 1h, verify: every 1d, prune: every 1d, drill: every 9d}, "
        lines.append(
            f"  - {{workspace: {name}, {own if name == 'acme' else ''}"
            f"credential: {{kind: workspace_access_token, token: {{file: {name}}}}}}}\n"
        )
    with Simulator(world) as simulator:
        text = (
            f"store: store\nretention: {{keep_last: 1}}\nlimits: {{git_workers: 1}}\n"
            f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}',"
            f" oauth_url: '{simulator.oauth_url}'}}\n"
            "schedule: {backup: every 4h, verify: every 7d, prune: every 1d, drill: every 30d}\n"
            f"workspaces:\n{''.join(lines)}"
        )
        config = load_text(text, "c.yaml", folder=tmp_path)
        create_or_open(config.store, now=MADE).close()
        yield Two(tmp_path, simulator, config)


def names(run: Run) -> set[str]:
    return {entry.full_name for entry in run.entries if entry.kind == "repository"}


async def test_each_kind_of_job_keeps_to_its_scope(two: Two) -> None:
    assert names(await two.run("backup", ACME)) == {"acme/one", "acme/two"}
    assert names(await two.run("backup", REST)) == {"beta/one", "beta/two"}
    assert names(await two.run("prune", ACME)) == {"acme/one", "acme/two"}
    assert names(await two.run("prune", REST)) == {"beta/one", "beta/two"}
    for scope in (ACME, REST):
        verified = await two.run("verify", scope)
        assert verified.exit_code == 0 and verified.facts["checked"]["snapshots"] == 3
    with two.store() as store:
        assert [one.slug for one in choose(store, (), leave_out=REST.but)] == ["beta"]
        assert [one.slug for one in choose(store, [Selector("acme")])] == ["acme"]
        assert [one.slug for one in choose(store, (), leave_out=("nobody",))] == ["acme", "beta"]
    assert (await two.run("drill", REST)).facts["but"] == ["acme"]


async def test_a_run_of_one_workspace_judges_what_it_lacks(two: Two) -> None:
    """Unlike a run of some repositories, which cannot know."""
    await two.run("backup", ACME)
    await two.run("backup", REST)
    two.simulator.world.workspaces["acme"].delete_repository("two")
    two.simulator.world.workspaces["beta"].delete_repository("two")
    await two.run("backup", ACME)
    with two.store() as store:
        missing = {one.full_name for one in store.repositories() if one.missing is not None}
    assert missing == {"acme/two"}


async def test_a_restart_knows_what_is_due_for_which_workspace(two: Two) -> None:
    await two.run("backup", REST)
    await two.run("backup", ACME)
    acme_at = two.clock.now()
    state = State(two.clock.now(), two.clock.now())
    state.recall(two.config.store)
    assert state.last_began("backup", ACME) == acme_at
    assert state.last_began("backup", REST) == acme_at - timedelta(hours=1)
    assert state.last_began("backup", EVERYTHING) is None
    assert state.last_began("verify", ACME) is None
    await two.run("backup", EVERYTHING)
    state.recall(two.config.store)
    for scope in (ACME, REST, EVERYTHING, Scope(only="beta")):
        assert state.last_began("backup", scope) == acme_at + timedelta(hours=1)


def test_what_another_store_said_is_forgotten(tmp_path: Path) -> None:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    state = State(long_ago, long_ago)
    for name in ("one", "two"):
        create_or_open(tmp_path / name, now=MADE).close()
        state.recall(tmp_path / name)
        assert state.began == {}
        state.began["backup"] = long_ago
    state.recall(tmp_path / "two")
    assert state.began == {"backup": long_ago}
