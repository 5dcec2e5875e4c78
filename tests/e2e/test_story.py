"""The whole path with the installed command: back up, accident, back up, restore, compare."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from mirror.git.mirrors.fetch import read_refs
from mirror.simulator import Simulator, Switches, World
from mirror.simulator.world.sample import LOST, REWRITTEN, SCOPES, accident, populate
from tests.e2e.helpers import json_of, mirror, start_mirror, write_config
from tests.git.backend import git, need_git

MIXES = [Switches.default(), Switches.inverted(), *(Switches.seeded(seed) for seed in range(4))]


def now() -> str:
    """A time for --at that is one second later than any snapshot so far."""
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1.1)
    return text


@pytest.mark.git
@pytest.mark.parametrize("switches", MIXES, ids=["default", "inverted", "mix0", "mix1", "mix2", "mix3"])
def test_what_was_lost_comes_back_as_it_was(tmp_path: Path, switches: Switches) -> None:
    """With every uncertain fact about Bitbucket in both positions."""
    need_git()
    run = start_mirror if switches == Switches.default() else mirror
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    before = {name: world.workspaces["acme"].repositories[name].refs() for name in (LOST, REWRITTEN)}
    with Simulator(world, switches=switches) as simulator:
        config = str(write_config(tmp_path, simulator, token))
        first = run("backup", "-c", config)
        assert first.returncode == 0, first.stdout + first.stderr
        when = now()
        again = run("backup", "-c", config, "--json")
        assert again.returncode == 0, again.stdout + again.stderr
        assert {entry["outcome"] for entry in json_of(again)["entries"]} == {"confirmed"}
        accident(world)
        after = run("backup", "-c", config, "--json")
        assert after.returncode == 3, after.stdout + after.stderr
        outcomes = {entry["full_name"]: entry["outcome"] for entry in json_of(after)["entries"]}
        assert outcomes[f"acme/{LOST}"] == "absent"
    # Bitbucket and the configuration are gone: the disk alone is enough.
    store = str(tmp_path / "store")
    for name in (LOST, REWRITTEN):
        target = tmp_path / "back" / name
        done = run("restore", f"acme/{name}", "--store", store, "--at", when, "--to", str(target))
        assert done.returncode == 0, done.stdout + done.stderr
        assert dict(read_refs(target / "code.git").refs) == before[name]
        assert git("fsck", "--full", "--strict", "--no-dangling", cwd=target / "code.git") == ""
        git("clone", "-q", str(target / "code.git"), str(tmp_path / f"clone-{name}"))
        assert list((target / "metadata" / "pull-requests").rglob("*.json"))
    verified = run("verify", "--store", store)
    assert verified.returncode == 0, verified.stdout
    assert "no damage found" in verified.stdout


def test_the_token_appears_nowhere(tmp_path: Path) -> None:
    """Not in the output, not in the store, not in git's configuration."""
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = str(write_config(tmp_path, simulator, token))
        done = mirror("backup", "-c", config, "-v")
        bad = mirror("backup", "-c", config, "-v", env={"MIRROR_CONFIG": token})
        doctor = mirror("doctor", "-c", config, "-v")
    assert doctor.returncode == 0, doctor.stdout
    for text in (done.stdout, done.stderr, bad.stderr, doctor.stdout, doctor.stderr):
        assert token not in text
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("status", "--store", "{tmp}/nowhere"), 10),
        (("backup", "-c", "{tmp}/missing.yaml"), 2),
        (("frobnicate",), 2),
        (("backup",), 2),
        (("restore", "acme/web", "--store", "{tmp}/nowhere", "--to", "bitbucket:acme"), 2),
        (("version",), 0),
        (("completion", "bash"), 0),
        (("config", "schema"), 0),
    ],
)
def test_exit_codes_say_what_happened(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    done = start_mirror(*[word.replace("{tmp}", str(tmp_path)) for word in words], cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [("status", "--json", "--bogus"), ("--json", "frobnicate"), ("--json",), ("backup", "--json", "-c")],
)
def test_a_command_line_that_cannot_be_read_is_told_to_machines_too(words: tuple[str, ...]) -> None:
    done = mirror(*words)
    told = json_of(done)
    assert done.returncode == told["exit_code"] == 2
    assert told["error"]["message"] in done.stderr and "usage: mirror" in done.stderr
    assert mirror(*[word for word in words if word != "--json"]).stdout == ""


def test_the_configuration_in_force_is_one_document_for_machines(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "store: s\ncredential: {kind: api_token, email: a@x, token: {env: T}, expires: 2026-12-31}\n"
        "retention: {keep_within: 2w}\nbrake: {share: 25%}\nschedule: {backup: every 4h}\n"
    )
    shown = json_of(mirror("config", "show", "--json", "-c", str(path)))
    assert shown["schema"] == 1 and shown["source"] == str(path)
    for_people = mirror("config", "show", "-c", str(path)).stdout
    assert shown["config"] == yaml.safe_load(for_people)
    [workspace] = shown["config"]["workspaces"]
    assert workspace["credentials"][0]["token"] == {"env": "T"}
    assert workspace["credentials"][0]["expires"] == "2026-12-31"


def test_a_refused_credential_ends_with_12_and_says_so(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    with Simulator(world) as simulator:
        config = str(write_config(tmp_path, simulator, "ATCTTwrong-token"))
        done = mirror("backup", "-c", config, "--json")
    assert done.returncode == 12, done.stdout + done.stderr
    assert any("refused the credential" in problem["text"] for problem in json_of(done)["problems"])


def test_a_missing_scope_ends_with_3_and_names_it(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES - {"pipeline"})
    agreement = "    accept_missing: [pipelines, pipeline_logs, settings]\n"
    with Simulator(world) as simulator:
        config = str(write_config(tmp_path, simulator, token))
        done = mirror("backup", "-c", config, "--json")
        agreed = mirror(
            "backup",
            "-c",
            str(write_config(tmp_path, simulator, token, more=agreement)),
        )
    assert done.returncode == 3, done.stdout
    parts = {entry["full_name"]: entry["parts"] for entry in json_of(done)["entries"]}
    assert parts["acme/api"]["pipelines"] == {
        "state": "denied",
        "counts": {"pipelines": 0},
        "reason": parts["acme/api"]["pipelines"]["reason"],
        "scope": "pipeline",
    }
    assert agreed.returncode == 0, agreed.stdout


def test_without_a_configuration_a_token_and_two_options_are_enough(tmp_path: Path) -> None:
    """The first command of a new user. Only Bitbucket itself has its address, so the test uses an address
    where nobody listens."""
    done = mirror(
        "backup",
        "--workspace",
        "acme",
        "--store",
        str(tmp_path / "store"),
        "--dry-run",
        "--json",
        env={"BITBUCKET_TOKEN": "ATATT3xtoken"},
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "BITBUCKET_EMAIL" in done.stdout + done.stderr
    assert not (tmp_path / "store").exists()
