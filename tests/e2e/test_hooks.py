"""`mirror hooks` as a person runs it."""

from __future__ import annotations

from pathlib import Path

from mirror.simulator import Simulator, World
from tests.e2e.helpers import json_of, mirror, write_config
from tests.simulator.receiver import receiver

SECRET = {"HOOKS": "the-secret-of-these-hooks-0123456789"}


def test_install_check_and_remove(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    world.add_workspace("acme").add_repository("website")
    token = world.add_workspace_access_token("acme", {"webhook", "repository", "pullrequest", "account"})
    with receiver([204, 403]) as door, Simulator(world) as simulator:
        config = write_config(
            tmp_path,
            simulator,
            token,
            more=f"hooks: {{listen: '127.0.0.1:9322', url: '{door.url}', secret: {{env: HOOKS}}}}\n",
        )
        made = mirror("hooks", "install", "-c", str(config), env=SECRET)
        assert made.returncode == 0, made.stderr
        assert "ok    acme: hook: made" in made.stdout
        checked = json_of(mirror("hooks", "check", "-c", str(config), "--json", env=SECRET))
        assert checked["exit_code"] == 0
        names = [one["name"] for one in checked["checks"]]
        assert names == ["address", "acme: hook", "acme: announced", "door"]
        removed = mirror("hooks", "remove", "-c", str(config), env=SECRET)
        assert removed.returncode == 0
        assert world.workspaces["acme"].settings["hooks"] == []
        assert SECRET["HOOKS"] not in made.stdout + made.stderr + removed.stdout + removed.stderr


def test_without_a_section_it_says_what_to_add(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    world.add_workspace("acme")
    with Simulator(world) as simulator:
        config = write_config(tmp_path, simulator, world.add_workspace_access_token("acme", {"webhook"}))
        done = mirror("hooks", "check", "-c", str(config))
    assert done.returncode == 2
    assert "no section hooks" in done.stderr
    assert "docs/hooks.md" in done.stderr
