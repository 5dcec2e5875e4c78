"""The command is killed while it restores: what it made is not made twice, and the rest comes.

A backup of the result then equals the original in every field that can be set."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror import backup
from mirror.cli.system import SystemClock
from mirror.config import Config
from mirror.drill.comparing import Original, compare
from mirror.restore.comparison.matching import Rules
from mirror.restore.comparison.sides import StoredSide
from mirror.simulator import Simulator, World
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import SimWorkspace
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from tests.e2e.helpers import MADE
from tests.restore.carry.everything import WORKSPACE as WHOLE
from tests.restore.carry.everything import fill
from tests.restore.carry.target import EMAIL, WORKSPACE, Upstream, upstream
from tests.simulator.helpers import EVERYTHING

KILLS = 10


def command(target: Upstream, store: Store) -> list[str]:
    """Write the configuration, and return the command that restores everything."""
    simulator, path = target.simulator, target.folder / "config.yaml"
    path.write_text(
        f"store: {store.path}\n"
        f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}'}}\n"
        f"credential: {{kind: api_token, email: {EMAIL}, token: {{env: RITA}}}}\n"
        "limits: {api_limit: 1000000}\n"
    )
    to, [workspace] = f"bitbucket:{WORKSPACE}", [one.slug for one in store.workspaces()]
    return [sys.executable, "-m", "mirror", "restore", workspace, "--to", to, "-c", str(path), "-q"]


def run(target: Upstream, words: list[str], *, until: int | None = None) -> tuple[int, str]:
    """Run the command, and kill it once the server has had `until` more requests; returns its exit code and
    what it wrote."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(target.folder), "RITA": target.environment["RITA"],
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }  # fmt: skip
    asked = len(target.simulator.requests)
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while until is not None and process.poll() is None:
            if len(target.simulator.requests) - asked >= until:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        text, _ = process.communicate(timeout=100)
    return process.returncode, text


def content(workspace: SimWorkspace) -> dict[str, Any]:
    """What there is in a workspace, each thing by what a person knows it by, and as often as it is there."""
    return {
        "projects": sorted(workspace.projects.items()),
        "settings": {name: len(several) for name, several in workspace.settings.items()},
        "snippets": sorted(one.title for one in workspace.snippets.values()),
        "repositories": {slug: _content(one) for slug, one in workspace.repositories.items()},
    }


def _content(repository: SimRepository) -> dict[str, Any]:
    pulls = repository.pull_requests.values()
    return {
        "refs": repository.refs(),
        "head": repository.main_branch(),
        "description": repository.description,
        "settings": {
            name: len(one) if isinstance(one, list) else one for name, one in repository.settings.items()
        },
        "pulls": sorted((one.title, one.description, one.state) for one in pulls),
        "comments": sorted(comment.text for one in pulls for comment in one.comments),
        "tasks": sorted((task.text, task.resolved) for one in pulls for task in one.tasks),
        "downloads": sorted(one.name for one in repository.downloads),
        "commits": sorted(one.text for several in repository.commit_comments.values() for one in several),
        "reports": sorted(one["title"] for several in repository.reports.values() for one in several),
    }


@pytest.fixture
def original(stored: Store, tmp_path: Path) -> Store:
    """What is restored: the sample; where there is time, twenty repositories with everything."""
    if not os.environ.get("MIRROR_SOAK"):
        return stored
    world = World(tmp_path / "upstream", limit=1_000_000)
    world.limits["git"] = 1_000_000
    fill(world, 20)
    with Simulator(world) as simulator:
        user = world.add_user("Rita Restores", EMAIL)
        environment = {"RITA": world.add_api_token(user, EVERYTHING)}
        config = Upstream(simulator, tmp_path).config(tmp_path / "store")
        return back_up(
            replace(config, workspaces=(replace(config.workspaces[0], workspace=WHOLE),)), environment
        )


def back_up(config: Config, environment: dict[str, str]) -> Store:
    """Back up what a configuration names, into a new store."""
    create_or_open(config.store, now=MADE).close()
    run = asyncio.run(backup.run(config, clock=SystemClock(), environment=environment))
    assert run.exit_code == 0, run.problems
    return Store.open(config.store)


@pytest.mark.timeout(3000)
def test_killed_at_any_moment_it_makes_nothing_twice(original: Store, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    with upstream(tmp_path / "whole") as whole, upstream(tmp_path / "killed") as killed:
        code, text = run(whole, command(whole, original))
        assert code == 0, text
        requests = len(whole.simulator.requests)

        words, chance = command(killed, original), random.Random(os.environ.get("MIRROR_SEED", "7"))
        kills = 0
        while kills < KILLS:
            code, text = run(killed, words, until=4 + chance.randrange(2 * requests // KILLS))
            assert code in (0, -signal.SIGKILL), text
            kills += code != 0
            if code == 0:
                break
        code, text = run(killed, words)
        assert code == 0, text
        assert kills >= KILLS // 2
        assert content(killed.workspace) == content(whole.workspace)
        assert not list(killed.folder.glob(".local/state/mirror/restores/*/*.jsonl"))

        copies = back_up(killed.config(tmp_path / "copies"), killed.environment)
    sides = [Original(side_of(folder)) for folder in original.workspaces()]
    sides += [Original(side_of(folder), folder.slug) for folder in original.repositories()]
    found = compare(sides, copies, Rules(without_secrets=True, hooks_inactive=True))
    assert found.is_equal, [one.line for one in found.found]
    assert found.refs and found.things > 40


def side_of(folder: AnyFolder) -> StoredSide:
    latest = folder.metadata.latest()
    assert latest is not None
    return StoredSide(folder, latest)
