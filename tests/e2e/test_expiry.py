"""Every command that a person or a job reads warns weeks before a token expires."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import json_of, mirror, write_config

TODAY = datetime.now(UTC).date()
SOON, PAST, LATER = TODAY + timedelta(days=9), TODAY - timedelta(days=3), TODAY + timedelta(days=90)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    world = World(tmp_path / "upstream")
    populate(world)
    world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as running:
        yield running


def with_expiry(folder: Path, simulator: Simulator, expires: object, token: str | None = None) -> Path:
    good = next(one.secret for one in simulator.world.tokens if one.kind == "workspace_access_token")
    path = write_config(folder, simulator, token or good)
    text = path.read_text().replace("token: {file: token}", f"token: {{file: token}}, expires: {expires}")
    path.write_text(text)
    return path


def test_every_command_warns_with_the_place(tmp_path: Path, simulator: Simulator) -> None:
    path = with_expiry(tmp_path, simulator, SOON)
    words = f"{path}:5: workspaces[0].credential.expires: the workspace_access_token expires in"
    for command in (("config", "check"), ("backup",), ("status",)):
        done = mirror(*command, "-c", str(path))
        assert done.returncode == 0, done.stderr
        assert f"warning: {words}" in done.stdout, command
        [warning] = json_of(mirror(*command, "-c", str(path), "--json"))["warnings"]
        assert warning.startswith(words)
    doctor = mirror("doctor", "-c", str(path))
    assert f"expires on {SOON}" in doctor.stdout
    assert mirror("status", "--store", str(tmp_path / "store"), cwd=tmp_path).returncode == 0


def test_what_is_far_off_is_not_mentioned(tmp_path: Path, simulator: Simulator) -> None:
    path = with_expiry(tmp_path, simulator, LATER)
    done = mirror("config", "check", "-c", str(path))
    assert done.returncode == 0 and "warning" not in done.stdout


def test_an_expired_token_is_refused_by_the_check_and_named_as_the_likely_reason(
    tmp_path: Path, simulator: Simulator
) -> None:
    path = with_expiry(tmp_path, simulator, PAST, token="no-longer-good")
    checked = mirror("config", "check", "-c", str(path))
    assert checked.returncode == 2
    assert f"{path}:5: workspaces[0].credential.expires: " in checked.stderr
    done = mirror("backup", "-c", str(path))
    assert done.returncode == 12
    assert f"most likely because it expired on {PAST}" in done.stdout
    assert f"warning: {path}:5: " in done.stdout
    # A valid token with a wrong date still works: Bitbucket decides.
    path = with_expiry(tmp_path, simulator, PAST)
    assert mirror("backup", "-c", str(path)).returncode == 0
