"""The recipes of docs/hooks.md, on a simulated Bitbucket, with the page's configuration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirror.simulator import Simulator, World
from tests.docs.test_recipes import BLOCK, DOCS, HOOKS, recipes
from tests.e2e.helpers import mirror, write_config
from tests.simulator.receiver import receiver

PAGE = HOOKS
SCOPES = {"webhook", "repository", "pullrequest", "account"}
Follow = Callable[[str], list[subprocess.CompletedProcess[str]]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "upstream")
    world.add_workspace("acme").add_repository("website")
    return world


@pytest.fixture
def follow(tmp_path: Path, world: World) -> Iterator[Follow]:
    """Runs a recipe: commands of `mirror` in forked processes, all others by the shell."""
    [section] = [code for kind, code in BLOCK.findall(_plain(PAGE)) if kind == "yaml"]
    token = world.add_workspace_access_token("acme", SCOPES)
    with receiver([204, 403] * 10) as door, Simulator(world) as simulator:
        more = section.replace("https://mirror.example.org", door.url)
        config = write_config(tmp_path, simulator, token, more=more)

        def run(code: str) -> list[subprocess.CompletedProcess[str]]:
            lines = code.strip().splitlines()
            if all(one.startswith("mirror ") for one in lines):
                return [mirror(*one.split()[1:], "-c", str(config), cwd=tmp_path) for one in lines]
            environment = {"PATH": os.environ["PATH"]}
            return [
                subprocess.run(
                    ["sh", "-eu", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True,
                    check=False,
                )
            ]  # fmt: skip

        yield run


def _plain(page: str) -> str:
    """A page whose blocks in lists begin at the margin."""
    return re.sub(r"^   ", "", (DOCS / page).read_text(), flags=re.MULTILINE)


def test_each_recipe_does_what_the_page_says(follow: Follow, world: World) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    codes = [code for kind, code in BLOCK.findall(_plain(PAGE)) if kind == "sh"]
    secret, install, check, rotate, remove = codes
    hooks = world.workspaces["acme"].settings
    for code in (secret, install, check):
        assert {one.returncode for one in follow(code)} == {0}, code
    [before] = hooks["hooks"]
    assert [one.returncode for one in follow(rotate)] == [0]
    assert [one.returncode for one in follow("mirror hooks install")] == [0]
    [after] = hooks["hooks"]
    assert after["uuid"] == before["uuid"]
    assert after["url"] != before["url"]
    assert [one.returncode for one in follow(remove)] == [0]
    assert hooks["hooks"] == []
    # Those at the margin are those that other tests would run, too.
    assert set(recipes(PAGE)) <= set(codes)
