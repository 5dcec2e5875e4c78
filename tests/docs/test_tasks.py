"""Each page that is one task works from its first command to its last, on a workspace of the simulator."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.cli import parser
from mirror.config import load
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.docs.test_recipes import DOCS, TASKS
from tests.e2e.helpers import write_config
from tests.place import Place

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
TOOLS = {"moving.md": ("rsync",)}


def blocks(page: Path, *kinds: str) -> list[str]:
    """The code in a page's blocks of some kinds, those in lists too."""
    return [textwrap.dedent(code) for _, kind, code in BLOCK.findall(page.read_text()) if kind in kinds]


@dataclass(frozen=True)
class Workspace:
    """A workspace of the simulator, its token, a store with its backup, and its names for those of pages."""

    token: str
    urls: str
    store: Path
    changes: dict[str, str]

    def follow(self, page: str, folder: Path) -> None:
        """Run the commands of a page one after the other, in a new folder with a copy of the store."""
        disk = folder / "mnt"
        shutil.copytree(self.store, disk / "backup", symlinks=True)
        if page != "first-backup.md":
            (folder / "acme.token").touch(mode=0o600)
            (folder / "acme.token").write_text(self.token)
            (folder / "config.yaml").write_text(
                f"store: {disk}/backup\n{self.urls}workspaces:\n  - workspace: acme\n"
                "    credential: {kind: workspace_access_token, token: {file: acme.token}}\n"
                + "".join(blocks(DOCS / page, "yaml"))
            )
        changes = self.changes | {"/mnt/": f"{disk}/", "/tmp/": f"{folder}/tmp/"}
        changes |= {"store: ./backup\n": f"store: ./backup\n{self.urls}"}
        for code in blocks(DOCS / page, "sh"):
            changed = re.sub("|".join(map(re.escape, changes)), lambda found: changes[found[0]], code)
            done = subprocess.run(
                ["sh", "-eu", "-c", f'mirror() {{ "{sys.executable}" -m mirror "$@"; }}\n{changed}'],
                cwd=folder, capture_output=True, text=True, check=False,
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(DOCS.parent),
                     "LC_ALL": "C.UTF-8", "TOKEN": self.token},
            )  # fmt: skip
            assert done.returncode == 0, f"{changed}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("workspace")
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    website = world.workspaces["acme"].repositories["website"]
    person = next(iter(website.pull_requests.values())).author.uuid
    with Simulator(world) as simulator:
        config = load(write_config(folder, simulator, token))
        asyncio.run(Place(folder, simulator, config).run())
        urls = (
            f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}',"
            f" oauth_url: '{simulator.oauth_url}'}}\n"
        )
        changes = {
            "pull-requests/12": f"pull-requests/{min(website.pull_requests)}", "{uuid}": person,
            "refs/heads/secret": "refs/heads/main",
        }  # fmt: skip
        yield Workspace(token, urls, config.store, changes)


@pytest.mark.parametrize("page", sorted(TASKS))
def test_the_task_is_done(workspace: Workspace, page: str, tmp_path: Path) -> None:
    for tool in TOOLS.get(page, ()):
        if shutil.which(tool) is None:
            if os.environ.get("CI"):
                pytest.fail(f"CI must have {tool}")
            pytest.skip(f"{tool} is not installed")
    assert blocks(DOCS / page, "sh")
    workspace.follow(page, tmp_path)


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"], ids=lambda page: page.name
)
def test_commands_that_no_test_runs_exist(page: Path) -> None:
    """Blocks that need an administrator, Bitbucket or another machine: the program knows their words."""
    for code in blocks(page, "", "console"):
        for line in code.replace("\\\n", " ").splitlines():
            found = re.match(r"\$? *(?:sudo (?:-u \w+ )?)?(?:\S+/)?mirror (.*)", line)
            if found and "…" not in line and "[" not in line:
                parser.parse(shlex.split(found[1], comments=True))


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    named = set(re.findall(r"\]\((\w[\w-]*\.md)", index))
    assert named >= {page.name for page in DOCS.glob("*.md")} - {"README.md"}


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in known, f"{page.name}: {target}"
