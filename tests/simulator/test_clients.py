"""Clients that nobody here wrote list, read and write."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.simulator import Simulator
from tests.simulator.helpers import EVERYTHING, sample_world

try:
    from atlassian.bitbucket import Cloud
except ImportError:
    Cloud = None

CLIENT = Path(__file__).with_name("client")


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(sample_world(tmp_path / "world")) as running:
        yield running


def credential(simulator: Simulator) -> tuple[str, str]:
    """A user's e-mail and an API token of theirs that may do anything."""
    ann = simulator.world.users["ann@acme.example"]
    return ann.email, simulator.world.add_api_token(ann, EVERYTHING)


@pytest.fixture
def cloud(simulator: Simulator) -> Iterator[Any]:
    if Cloud is None:
        assert "CI" not in os.environ, "CI has every development dependency"
        pytest.skip("needs atlassian-python-api")
    email, secret = credential(simulator)
    with Cloud(simulator.api_url.removesuffix("/2.0"), username=email, password=secret) as client:
        yield client


def test_the_python_client_lists_and_reads(cloud: Any) -> None:
    acme = cloud.workspaces.get("acme")
    assert {one.key for one in acme.projects.each()} == {"CORE", "DOCS", "WEB"}
    assert len(list(acme.repositories.each())) == 4
    website = acme.repositories.get("website")
    assert "main" in [one.name for one in website.branches.each()]
    assert [one.name for one in website.tags.each()] == ["v1.0"]
    assert len(list(website.commits.each(top="main"))) >= 8
    [pull] = website.pullrequests.each()
    assert [one.new.path for one in pull.diffstat()] == ["blog.html"]
    assert "+<h1>Blog</h1>" in pull.diff()
    assert "blog.html" in pull.patch()
    assert len(list(pull.comments())) == 2
    assert [one.description for one in pull.tasks()] == ["Add an RSS feed"]
    assert len(list(website.branch_restrictions.each())) == 2
    assert [one.name for one in website.deployment_environments.each()] == ["Production"]
    assert [one.key for one in website.repository_variables.each()] == ["REGION", "API_KEY"]
    assert [one.name for one in website.downloads.each()] == ["catalogue.pdf"]
    assert [one.webhook_url for one in website.hooks.each()]
    assert len(list(website.pipelines.each())) == 2


def test_the_python_client_writes(simulator: Simulator, cloud: Any) -> None:
    acme = cloud.workspaces.get("acme")
    acme.projects.create("New", "NEW", "All new", is_private=True)
    repository = acme.repositories.create("fresh", project_key="NEW", is_private=True, fork_policy="no_forks")
    held = simulator.world.workspaces["acme"].repositories["fresh"]
    first = held.commit("main", {"a": b"a\n"}, "A\n")
    repository.branches.create("topic", first)
    held.commit("topic", {"b": b"b\n"}, "B\n")
    pull = repository.pullrequests.create("New", "topic", "main", "All new")
    pull.comment("Good.")
    pull.add_task("Go on")
    pull.approve()
    repository.branch_restrictions.create("force", branch_pattern="main")
    repository.hooks.create(
        url="https://ci.example.org/", description="CI", active=True, events=["repo:push"]
    )
    repository.repository_variables.create("KEY", "value", secured=False)
    commit = repository.commits.get(first)
    commit.add_build("SUCCESSFUL", "ci", "https://ci.example.org/1", "Fine")
    commit.comment("Begun.")
    assert [one.title for one in repository.pullrequests.each()] == ["New"]
    assert held.pull_requests[1].comments[0].text == "Good."
    assert [one["kind"] for one in held.settings["branch_restrictions"]] == ["force"]
    pull.decline()
    assert held.pull_requests[1].state == "DECLINED"
    repository.delete()
    assert "fresh" not in simulator.world.workspaces["acme"].repositories


def test_the_client_of_node_lists_reads_and_writes(simulator: Simulator, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        assert "CI" not in os.environ, "CI has node and npm"
        pytest.skip("needs node and npm")
    folder = tmp_path / "node"
    folder.mkdir()
    for name in ("package.json", "package-lock.json", "client.js"):
        shutil.copy(CLIENT / name, folder)
    if subprocess.run([npm, "ping"], cwd=folder, capture_output=True, check=False, timeout=120).returncode:
        pytest.skip("npm's registry does not answer")
    installed = subprocess.run(
        [npm, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    email, secret = credential(simulator)
    done = subprocess.run(
        [node, "client.js", simulator.api_url, email, secret],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    held = simulator.world.workspaces["acme"].repositories["fresh"]
    assert [one["key"] for one in held.settings["variables"]] == ["KEY"]
    assert held.pull_requests == {}
    assert (
        simulator.world.workspaces["acme"].repositories["website"].pull_requests[3].comments[-1].text == "Hm."
    )
