"""One backup of a repository with everything that a Forgejo can take, and a fake Forgejo for each test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.config import load
from mirror.simulator import Simulator, Switches, World
from mirror.simulator.git.lfs import add_object
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import populate
from mirror.store.reading.reader import Store
from tests.e2e.helpers import write_config
from tests.forgejo.fake import FakeForgejo
from tests.git.backend import need_git
from tests.place import Place
from tests.simulator.helpers import EVERYTHING

LFS_CONTENT = b"a picture\n" * 4000


def _fill(world: World, website: SimRepository) -> None:
    """Add an issue tracker, a pull request of a fork, one whose destination is gone, and an LFS object."""
    ann, bob = (world.users[f"{name}@acme.example"] for name in ("ann", "bob"))
    website.tracker = {"milestones": ["1.0"], "versions": ["0.9"], "components": ["shop"]}
    issue = website.add_issue(
        "Broken link", author=ann, content="See #2, @bob: `#3`", comments=["Where?", "On @{x}"]
    )
    issue.attach("screen.png", b"\x89PNG picture")
    issue.attach("program.exe", b"MZ")
    website.add_issue("Too slow", author=bob).set_state("wontfix", author=ann)
    website.commit("main", {"picture.bin": add_object(website, LFS_CONTENT)}, "A picture\n")
    fork = world.add_workspace("bob", "Bob").add_repository("shop", project="P")
    fork.commit("idea", {"idea.txt": b"one\n```\nthree\n"}, "An idea\n")
    idea = website.open_pull_request(source="idea", title="An idea", author=bob, fork=fork)
    idea.comment("Fixes #1?", author=ann, inline={"path": "idea.txt", "from": None, "to": 2})
    website.commit("old", {"old.txt": b"old\n"}, "Old\n")
    website.open_pull_request(source="feature/blog", destination="old", title="Too late", author=ann)
    website.delete_ref(b"refs/heads/old")


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with one snapshot of `acme/website`. Nothing may change it."""
    need_git()
    folder = tmp_path_factory.mktemp("for-a-forge")
    world = World(folder / "upstream")
    populate(world)
    _fill(world, world.workspaces["acme"].repositories["website"])
    token = world.add_api_token(world.users["ann@acme.example"], EVERYTHING)
    with Simulator(world, switches=Switches(issue_tracker=True, wikis=True)) as simulator:
        path = write_config(folder, simulator, token)
        text = path.read_text().replace("workspace_access_token", "api_token, email: ann@acme.example")
        path.write_text(text)
        config = load(path)
        asyncio.run(Place(folder, simulator, config).run("acme/website"))
    with Store.open(config.store) as store:
        yield store


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[FakeForgejo]:
    """A Forgejo with nothing in it. What its published description does not allow fails the test."""
    with FakeForgejo(tmp_path / "forge") as fake:
        yield fake
    assert fake.violations == []
