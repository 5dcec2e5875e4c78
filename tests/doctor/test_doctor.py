"""doctor predicts what a backup of the workspace meets."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror import backup, doctor
from mirror.auth.credentials import ApiToken, WorkspaceAccessToken
from mirror.bitbucket.client.budget import Budget
from mirror.config import Config, load
from mirror.doctor import Check, Report
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.clock import FakeClock
from tests.e2e.helpers import write_config


def examine(
    folder: Path,
    *,
    scopes: frozenset[str] = frozenset(SCOPES),
    switches: Switches | None = None,
    faults: tuple[Fault, ...] = (),
    config: Callable[[Config], Config] = lambda config: config,
    skew: timedelta = timedelta(),
    token: str = "",
) -> tuple[Report, int]:
    """The findings of doctor, and the exit code of a backup of the same workspace."""
    clock = FakeClock()
    world = World(folder / "upstream", clock=lambda: clock.now() + skew)
    populate(world)
    real = world.add_workspace_access_token("acme", scopes)
    with Simulator(world, switches=switches or Switches.default()) as simulator:
        wanted = config(load(write_config(folder, simulator, token or real)))
        for fault in faults:
            simulator.order(fault)
        found = asyncio.run(
            doctor.run(wanted, clock=clock, environment=os.environ, budget=Budget(clock, patience=10))
        )
        assert list((folder / "store/workspaces").iterdir()) == []
        assert not [one.name for one in folder.iterdir() if "doctor" in one.name]
        simulator.faults.clear()
        for fault in faults:
            simulator.order(fault)
        run = asyncio.run(backup.run(wanted, clock=clock, environment=os.environ))
    return found, run.exit_code


def of(report: Report, name: str) -> list[Check]:
    return [check for check in report.checks if check.name == name]


def test_where_all_is_well_all_is_said_to_be(tmp_path: Path) -> None:
    report, ended = examine(tmp_path)
    assert (report.exit_code, ended) == (0, 0)
    assert {check.state for check in report.checks} <= {"ok", "warn"}
    for name in ("sign-in", "repositories", "git", "wiki", "lfs", "pull_requests", "pipelines"):
        assert of(report, f"acme: {name}"), name
    [lfs] = of(report, "acme: lfs")
    assert lfs.state == "ok" and "can be requested" in lfs.text
    [clock] = of(report, "clock")
    assert clock.state == "ok"


@pytest.mark.parametrize(("scope", "part"), [("pullrequest", "pull_requests"), ("pipeline", "pipelines")])
def test_a_scope_that_is_missing_is_a_failure_and_names_its_remedy(
    tmp_path: Path, scope: str, part: str
) -> None:
    report, ended = examine(tmp_path, scopes=frozenset(set(SCOPES) - {scope}))
    assert report.exit_code == ended == 3
    [failed] = [check for check in of(report, f"acme: {part}") if check.state == "fail"]
    assert f"scope {scope}" in (failed.remedy or "")


def test_what_was_agreed_to_be_missing_is_no_failure(tmp_path: Path) -> None:
    def agreed(config: Config) -> Config:
        missing = ("pipelines", "pipeline_logs", "settings")
        return replace(config, workspaces=(replace(config.workspaces[0], accept_missing=missing),))

    report, ended = examine(tmp_path, scopes=frozenset(set(SCOPES) - {"pipeline"}), config=agreed)
    assert (report.exit_code, ended) == (0, 0)
    assert any("as accepted" in check.text for check in of(report, "acme: pipelines"))


def test_a_token_that_nobody_knows_is_told_and_never_shown(tmp_path: Path) -> None:
    report, ended = examine(tmp_path, token="no-such-token-4711")
    assert report.exit_code == ended == 12
    [failed] = [check for check in report.checks if check.state == "fail"]
    assert failed.name == "acme: sign-in"
    assert "4711" not in str(report.to_json())


@pytest.mark.parametrize(("days", "state"), [(-1, "fail"), (10, "warn"), (100, "ok")])
def test_a_token_that_lapses_is_told_in_time(tmp_path: Path, days: int, state: str) -> None:
    def ending(config: Config) -> Config:
        [workspace] = config.workspaces
        [credential] = workspace.credentials
        assert isinstance(credential, WorkspaceAccessToken)
        day = FakeClock().now().date() + timedelta(days)
        mine = ApiToken("ann@acme.example", credential.token, day)
        return replace(config, workspaces=(replace(workspace, credentials=(mine,)),))

    report, _ = examine(tmp_path, config=ending, token="ATATT3xFfGF0-nobody")
    [check] = [one for one in report.checks if one.name.startswith("expiry")]
    assert check.state == state


def test_a_clock_that_is_wrong_is_told(tmp_path: Path) -> None:
    report, _ = examine(tmp_path, skew=timedelta(minutes=10))
    [clock] = of(report, "clock")
    assert clock.state == "warn" and "600 s" in clock.text


def off(config: Config) -> Config:
    [workspace] = config.workspaces
    parts = replace(workspace.parts, lfs=False, wiki=False)
    return replace(config, workspaces=(replace(workspace, parts=parts),))


BATCH = "POST /acme/*/info/lfs/objects/batch"


@pytest.mark.parametrize(
    ("more", "state", "words"),
    [
        ({"switches": replace(Switches.default(), lfs_takes_access_tokens=False)}, "warn", "(403)"),
        ({"faults": (Fault(BATCH, status=404, times=9),)}, "ok", "has none"),
        ({"faults": (Fault(BATCH, status=501, times=9),)}, "ok", "has none"),
        ({"faults": (Fault(BATCH, "html", times=9),)}, "ok", "has none"),
        ({"config": off}, "ok", "switched off"),
    ],
)
def test_what_the_lfs_server_says_is_told(
    tmp_path: Path, more: dict[str, object], state: str, words: str
) -> None:
    report, _ = examine(tmp_path, **more)  # type: ignore[arg-type]
    [lfs] = of(report, "acme: lfs")
    assert lfs.state == state and words in lfs.text
    assert report.exit_code == 0


def test_a_server_that_is_down_is_no_verdict(tmp_path: Path) -> None:
    report, ended = examine(tmp_path, faults=(Fault("GET /2.0/*", status=503, times=500),))
    assert ended == 75
    assert report.exit_code == 0
    assert any("could not be checked" in check.text for check in report.checks if check.state == "warn")


def test_a_recording_goes_on_past_trouble_and_says_what_is_missing(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config, clock = load(write_config(tmp_path, simulator, token)), FakeClock()
        simulator.order(Fault("GET /2.0/repositories/acme/*/pullrequests", status=429, times=999))
        simulator.order(Fault("GET /2.0/repositories/acme/*/hooks", status=503, times=999))
        done = asyncio.run(
            doctor.record(
                config,
                tmp_path / "answers",
                clock=clock,
                environment=os.environ,
                budget=Budget(clock, patience=10),
            )
        )
    assert done.exit_code == 75
    assert {"pull requests", "webhooks"} <= done.missing.keys()
    assert "503" in done.missing["webhooks"]
    names = {path.name for path in done.written}
    assert {"repository.json", "repositories.json", "branch-restrictions.json"} <= names
    # A name has the same pseudonym in all files of one recording.
    one = json.loads((tmp_path / "answers/repository.json").read_text())["body"]
    several = json.loads((tmp_path / "answers/repositories.json").read_text())["body"]["values"]
    assert one["uuid"] in [each["uuid"] for each in several]


@pytest.mark.parametrize("status", [404, 410])
def test_what_every_repository_has_and_is_not_found_is_a_failure(tmp_path: Path, status: int) -> None:
    report, ended = examine(tmp_path, faults=(Fault("GET */repositories/*/hooks", status=status, times=50),))
    assert report.exit_code == ended == 3
    [failed] = [check for check in report.checks if check.state == "fail"]
    assert "webhooks" in failed.text and str(status) in failed.text


def test_a_workspace_that_cannot_be_read_is_told_as_a_backup_tells_it(tmp_path: Path) -> None:
    report, ended = examine(tmp_path, faults=(Fault("GET /2.0/workspaces/acme", "html", times=100),))
    assert (report.exit_code, ended) == (3, 3)
    [profile] = of(report, "acme: profile")
    assert profile.state == "fail" and "cannot be read" in profile.text
