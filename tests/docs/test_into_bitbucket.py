"""The recipes that restore into Bitbucket do what their page says, one after the other, on the simulator."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.config import load
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.docs.test_recipes import DOCS, is_into_bitbucket, recipes
from tests.e2e.helpers import write_config
from tests.place import Place
from tests.restore.carry.target import EMAIL, WORKSPACE, Upstream, upstream

pytestmark = pytest.mark.git
# The names of the page, and those of the sample.
SECRET, OPEN = "website/variables/API_KEY", "pull-requests/12"


@dataclass
class Accident:
    """A store of the sample workspace, an empty workspace to restore into, and a folder to work in."""

    store: Path
    folder: Path
    target: Upstream
    changes: dict[str, str]

    def follow(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run a recipe unchanged, except that the sample's names replace the page's."""
        code = re.sub("|".join(map(re.escape, self.changes)), lambda found: self.changes[found[0]], code)
        code = f'mirror() {{ "{sys.executable}" -m mirror "$@"; }}\n{code}'
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(DOCS.parent),
            "MIRROR_CONFIG": str(self.folder / "config.yaml"), "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        return subprocess.run(
            ["sh", "-eu", "-c", code], cwd=self.folder, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def accident(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accident]:
    folder = tmp_path_factory.mktemp("accident")
    world = World(folder / "upstream")
    populate(world)
    [pull, *_] = [one for one in world.workspaces["acme"].repositories["website"].pull_requests.values()
                  if one.state == "OPEN"]  # fmt: skip
    variables = world.workspaces["acme"].repositories["website"].settings["variables"]
    [secret, *_] = [one["key"] for one in variables if one["secured"]]
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = load(write_config(folder, simulator, token))
        asyncio.run(Place(folder, simulator, config).run())
    work = folder / "work"
    work.mkdir()
    with upstream(work) as target:
        (work / "token").touch(mode=0o600)
        (work / "token").write_text(target.environment["RITA"])
        urls = target.simulator
        (work / "config.yaml").write_text(
            f"store: {config.store}\n"
            f"bitbucket: {{api_url: '{urls.api_url}', git_url: '{urls.git_url}',"
            f" oauth_url: '{urls.oauth_url}'}}\n"
            f"workspaces: [{{workspace: {WORKSPACE}, credential:"
            f" {{kind: api_token, email: {EMAIL}, token: {{file: token}}}}}}]\n"
        )
        changes = {
            "/mnt/backup": str(config.store), "acme-restored": WORKSPACE, "WHEN": "latest",
            SECRET: f"website/variables/{secret}", OPEN: f"pull-requests/{pull.id}",
        }  # fmt: skip
        yield Accident(config.store, work, target, changes)


def test_each_recipe_works_and_the_restore_can_be_repeated(accident: Accident) -> None:
    found = [code for code in recipes("restore.md") if is_into_bitbucket(code)]
    assert len(found) >= 4 and any("mirror drill" in code for code in found)
    # What restores one thing belongs beside a repository that is there.
    for code in sorted(found, key=lambda code: "--only" in code):
        before = len(accident.target.requests)
        done = accident.follow(code)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        if "--dry-run" in code:
            sent = {method for method, _ in accident.target.requests[before:]}
            assert sent == {"GET"} and not accident.target.workspace.repositories
            assert "API_KEY" not in done.stdout or "to be entered again" in done.stdout
        if "--secrets" in code:
            assert "website" in accident.target.workspace.repositories
            again = accident.follow(code)
            assert again.returncode == 0, again.stdout + again.stderr
            assert not re.search(r"^ +\d+ made$", again.stdout, re.MULTILINE), again.stdout
