"""The page about copies works from its first command to its last, with a real SeaweedFS on this machine."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mirror.config import load
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.bucket.servers import find_weed, free_ports, need, other_ports
from tests.docs.test_recipes import DOCS, OBJECT_STORAGE
from tests.docs.test_recipes import recipes as blocks_of
from tests.e2e.helpers import write_config
from tests.git.backend import git
from tests.place import Place

PAGE = DOCS / "offsite.md"
TOOLS = ("age", "age-keygen", "curl", "jq", "openssl", "restic", "rsync")
SECTION = re.compile(r"^(##+) (.*?)\n(.*?)(?=^##+ |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the page begins with, and what needs the copy that it makes later.
LAST = ("Getting it back", "After an attack")
PATIENCE = 120.0


def sections(page: Path) -> dict[str, list[str]]:
    """The shell commands of a page by the title above them."""
    return {title: BLOCK.findall(text) for _, title, text in SECTION.findall(page.read_text())}


class Machine:
    """A folder with a configured store, whose commands are those of the page. Servers have ports of their
    own."""

    def __init__(self, folder: Path, simulator: Simulator, token: str) -> None:
        self.folder = folder
        self.changes = {"/mnt/": f"{folder}/mnt/", "/tmp/": f"{folder}/tmp/"}
        (folder / "tmp").mkdir()
        config = load(write_config(folder, simulator, token))
        asyncio.run(Place(folder, simulator, config).run())
        (folder / "mnt").mkdir()
        (folder / "mnt" / "backup").symlink_to(config.store)
        self.changes |= other_ports(folder, free_ports(8))

    def elsewhere(self) -> Path:
        """The folder of another machine, which has the keys of who reads, and no configuration."""
        other = self.folder / "elsewhere"
        other.mkdir(exist_ok=True)
        for name in ("reader.secret", "age.key"):
            shutil.copy(self.folder / name, other)
        return other

    def run(self, code: str, folder: Path | None = None) -> str:
        changed = re.sub("|".join(map(re.escape, self.changes)), lambda found: self.changes[found[0]], code)
        (self.folder / "bin").mkdir(exist_ok=True)
        command = self.folder / "bin" / "mirror"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mirror "$@"\n')
        command.chmod(0o755)
        weed = find_weed()
        assert weed is not None
        path = f"{self.folder / 'bin'}:{Path(weed).parent}:{os.environ['PATH']}"
        environment = {
            "PATH": path,
            "HOME": str(self.folder),
            "PYTHONPATH": str(DOCS.parent),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            ["sh", "-eu", "-c", changed], cwd=folder or self.folder, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{changed}\n{done.stdout}{done.stderr}"
        return done.stdout

    def stop_server(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            number = int((self.folder / "weed.pid").read_text())
            os.kill(number, signal.SIGKILL)
            end = time.monotonic() + PATIENCE
            while Path(f"/proc/{number}").exists() and time.monotonic() < end:
                time.sleep(0.05)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need("weed", find_weed())
    for tool in TOOLS:
        need(tool, shutil.which(tool))
    folder = tmp_path
    world = World(folder / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        made = Machine(folder, simulator, token)
        try:
            yield made
        finally:
            made.stop_server()


KEY = """umask 077
printf 'user = "reader:%s"\\naws-sigv4 = "aws:amz:us-east-1:s3"\\n' "$(cat reader.secret)" > reader.curl
"""


def bring_back_by_hand(machine: Machine) -> None:
    """With curl, jq, age and git alone: from the copy that was made, and from a plain one."""
    [code] = [one for one in blocks_of("store-format.md") if OBJECT_STORAGE in one]
    machine.run(KEY + code)
    [stored] = (machine.folder / "store").glob("workspaces/acme~*/repositories/website~*/code.git")
    expected = git("for-each-ref", cwd=stored)
    [back] = (machine.folder / "by-hand").glob("workspaces/acme~*/repositories/website~*")
    assert git("for-each-ref", cwd=back / "code.git") == expected
    assert git("rev-parse", "main", cwd=machine.folder / "by-hand" / "website.git").strip() in expected
    files = {path.relative_to(stored.parent) for path in stored.parent.rglob("*") if path.is_file()}
    came = {path.relative_to(back) for path in back.rglob("*") if path.is_file()}
    assert {str(path) for path in files - came} <= {"lock", "code.git/looked", "wiki.git/looked"}
    shutil.rmtree(machine.folder / "by-hand")
    plain = machine.folder / "plain.yaml"
    text = (machine.folder / "config.yaml").read_text().replace("offsite/acme", "offsite/plain")
    plain.write_text(re.sub(r" *(recipients|names_key|protect):.*\n", "", text))
    machine.run("mirror copy -c plain.yaml")
    machine.run(KEY + code.replace("prefix=acme", "prefix=plain"))
    [back] = (machine.folder / "by-hand").glob("workspaces/acme~*/repositories/website~*")
    assert git("for-each-ref", cwd=back / "code.git") == expected


def test_a_copy_is_made_read_and_brought_back(machine: Machine) -> None:
    found = sections(PAGE)
    assert all(found[title] for title in LAST)
    for title in (*(one for one in found if one not in LAST), *LAST):
        for code in found[title]:
            told = machine.run(code, machine.elsewhere() if title in LAST else None)
            if title == "When it is made":
                assert re.search(
                    r"Copy at s3://offsite/acme: last good .* ago; checked .*: sound$", told, re.MULTILINE
                )
                assert re.search(r"s3://offsite/acme: last good \S+, 0 of \d+ behind", told), told
    bring_back_by_hand(machine)
