"""What a workspace has now is compared with its backup, without a change to either."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.auth.credentials import ApiToken
from mirror.auth.secrets import SecretSource
from mirror.bitbucket.client.budget import Budget
from mirror.cli.main import main
from mirror.cli.system import SystemClock
from mirror.config.settings import BitbucketUrls, Config, NetworkConfig, WorkspaceConfig
from mirror.drill.check import Checked, Target, check
from mirror.errors import UsageError
from mirror.model import Selector
from mirror.simulator import EVERY_SCOPE, Simulator
from tests.drill.sample import whole_store
from tests.simulator.helpers import sample_world

WEBSITE = Selector("acme", "website")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, Config]]:
    """A Bitbucket with the sample, as it is in the store, and a configuration for it."""
    whole_store()
    world = sample_world(tmp_path_factory.mktemp("upstream"))
    user = world.users["ann@acme.example"]
    os.environ["DRILL_TEST_TOKEN"] = world.add_api_token(user, EVERY_SCOPE)
    with Simulator(world) as simulator:
        credential = ApiToken(user.email, SecretSource("env", "DRILL_TEST_TOKEN"))
        urls = BitbucketUrls(simulator.api_url, simulator.git_url, simulator.oauth_url)
        yield (
            simulator,
            Config(
                Path("unused"), urls, (WorkspaceConfig("acme", (credential,)),), network=NetworkConfig("none")
            ),
        )


async def _check(config: Config, selector: Selector, target: Target, temporary: Path) -> Checked:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    clock = SystemClock()
    return await check(
        whole_store(), selector, target, config, clock=clock, environment=environment,
        budget=Budget(clock),
    )  # fmt: skip


async def test_an_equal_target_is_equal(real: tuple[Simulator, Config], tmp_path: Path) -> None:
    simulator, config = real
    before = len(simulator.requests)
    done = await _check(config, WEBSITE, Target("acme", "website"), tmp_path)
    assert [one.line for one in done.comparison.found] == []
    assert done.exit_code == 0
    assert {one.method for one in simulator.requests[before:] if "/2.0/" in one.path} == {"GET"}
    assert list(tmp_path.iterdir()) == [], "nothing temporary stays"


async def test_each_difference_is_told(real: tuple[Simulator, Config], tmp_path: Path) -> None:
    simulator, config = real
    website = simulator.world.workspaces["acme"].repositories["website"]
    [region, _] = website.settings["variables"]
    first = website.branch("main")
    assert first is not None
    region["value"] = "us-east-1"
    website.commit("main", {"new": b"new"}, "New\n")
    try:
        done = await _check(config, WEBSITE, Target("acme", "website"), tmp_path)
    finally:
        region["value"] = "eu-central-1"
        website.force("main", first)
    assert done.exit_code == 4
    lines = [one.line for one in done.comparison.found]
    assert "acme/website settings/variables.json: variable REGION: value differs" in lines
    assert any("ref refs/heads/main: hash differs" in line for line in lines)
    # What is said about the commit that is no head any more is asked for, and is there.
    assert len(lines) == 2, lines
    assert "us-east-1" not in str(done.to_json())


async def test_what_is_not_there_is_missing(real: tuple[Simulator, Config], tmp_path: Path) -> None:
    """Also where nothing of it is there, or one repository of several."""
    simulator, config = real
    workspace = simulator.world.add_workspace("empty")
    [acme] = config.workspaces
    config = replace(config, credentials=acme.credentials)
    done = await _check(config, Selector("acme"), Target("empty"), tmp_path)
    assert done.exit_code == 4 and len(done.comparison.found) == 4
    assert [one.code for one in done.problems] == [3], "the workspace itself was not compared, and is told"
    workspace.add_repository("handbook", project="DOCS", description="Nothing written yet")
    done = await _check(config, Selector("acme", "handbook"), Target("empty"), tmp_path)
    assert [one.line for one in done.comparison.found] == []
    done = await _check(config, Selector("acme", "[bh]*"), Target("empty"), tmp_path)
    lines = [one.line for one in done.comparison.found]
    assert lines == ["acme/billing: repository billing is missing in the copy"]
    with pytest.raises(UsageError, match="there is no workspace nowhere"):
        await _check(config, WEBSITE, Target("nowhere", "website"), tmp_path)


async def test_a_target_without_a_credential_is_refused(
    real: tuple[Simulator, Config], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no credential for the workspace other"):
        await _check(real[1], WEBSITE, Target("other", "website"), tmp_path)
    with pytest.raises(UsageError, match="matches 4 repositories"):
        await _check(real[1], Selector("acme"), Target("acme", "website"), tmp_path)
    nobody = replace(real[1], workspaces=())
    with pytest.raises(UsageError):
        await _check(nobody, WEBSITE, Target("acme", "website"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_each_difference(
    real: tuple[Simulator, Config],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator, _ = real
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    config = tmp_path / "config.yaml"
    config.write_text(
        f"store: {whole_store()}\nnetwork: {{proxy: none}}\n"
        f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}',"
        f" oauth_url: '{simulator.oauth_url}'}}\n"
        "credential: {kind: api_token, email: ann@acme.example, token: {env: DRILL_TEST_TOKEN}}\n"
    )
    words = [
        "restore",
        "acme/handbook",
        "--to",
        "bitbucket:acme/handbook",
        "--check",
        "-q",
        "-c",
        str(config),
    ]
    assert main(words) == 0
    assert "Compared acme/handbook with bitbucket:acme/handbook: " in capsys.readouterr().out
    handbook = simulator.world.workspaces["acme"].repositories["handbook"]
    before, handbook.description = handbook.description, "Another"
    try:
        assert main([*words, "--json"]) == 4
    finally:
        handbook.description = before
    [found] = json.loads(capsys.readouterr().out)["differences"]
    assert (found["field"], found["original"], found["copy"]) == ("description", before, "Another")
    assert main([*words, "--overwrite", "--yes"]) == 2
    assert "--check compares everything and changes nothing" in capsys.readouterr().err
