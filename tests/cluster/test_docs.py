"""docs/cluster.md works from its first command to its last: two daemons, PostgreSQL and object storage."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.bucket.servers import find_weed, free_ports, need, other_ports
from tests.cluster.postgres import PATIENCE, Postgres
from tests.docs.test_recipes import DOCS, recipes

# Daemons report, and look for moves, every second.
_PROGRAM = (
    "import sys, mirror.cli, mirror.cluster.host as h; h.BEAT_SECONDS = 1.0; sys.exit(mirror.cli.main())"
)


class Reader:
    """Somebody who follows the page in a folder of his own."""

    def __init__(self, folder: Path, changes: dict[str, str], weed: str) -> None:
        self.folder, self._changes = folder, changes
        path = f"{folder}/bin:{Path(weed).parent}:{os.environ['PATH']}"
        self._environment = {"PATH": path, "HOME": str(folder)}
        program = folder / "bin" / "mirror"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{_PROGRAM}" "$@"\n')
        program.chmod(0o755)

    def run(self, code: str, *codes: int) -> str:
        """Run the commands; they may exit with one of `codes`."""
        for old, new in self._changes.items():
            code = code.replace(old, new)
        done = subprocess.run(
            ["sh", "-eu", "-c", code],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env={**self._environment, "PYTHONPATH": str(DOCS.parent), "LC_ALL": "C.UTF-8"},
        )
        assert done.returncode in (codes or (0,)), f"{code}\n{done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The cluster's state."""
        found: dict[str, Any] = json.loads(self.run("mirror cluster status -c a.yaml --json", 0, 3))
        return found

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The cluster's state, once it is as it should be."""
        until = time.monotonic() + PATIENCE
        while not condition(found := self.status()):
            assert time.monotonic() < until, f"{found}{self.logs()}"
            time.sleep(0.5)
        return found

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        return "".join(f"\n{one.name}: {one.read_text()[-3000:]}" for one in self.folder.glob("*.log"))

    def close(self) -> None:
        """End the daemons and the object store."""
        pids = [int(one) for one in (self.folder / "pids").read_text().split()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def reader(tmp_path: Path, postgres: Postgres) -> Iterator[Reader]:
    weed = find_weed()
    need("weed", weed)
    for tool in ("curl", "openssl"):
        need(tool, shutil.which(tool))
    assert weed is not None
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "acme.token").touch(mode=0o600)
    (folder / "acme.token").write_text(token)
    (folder / "pids").touch()
    name = postgres.make_database()
    free = free_ports(20)
    pages = next(one for one, other in itertools.pairwise(free[8:]) if other == one + 1)
    with Simulator(world) as simulator:
        urls = (
            f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}',"
            f" oauth_url: '{simulator.oauth_url}'}}\nworkspaces:\n"
        )
        changes = {
            "workspaces:\n": urls,
            "postgresql://mirror:on-trial@127.0.0.1/mirror": postgres.url(name),
            "every 4h": "every 1m",
            "2>&1 &": "2>&1 & echo $! >> pids",
            "port=9320": f"port={pages - 1}",
            **other_ports(tmp_path, free[:8]),
        }
        found = Reader(folder, changes, weed)
        try:
            yield found
        finally:
            found.close()
    postgres.drop_database(name)


def test_the_page_brings_two_daemons_that_share_the_work_and_move_a_repository(reader: Reader) -> None:
    told = "".join(reader.run(code, 0, 3) for code in recipes("cluster.md"))
    for words in ("  mirror cluster init -c b.yaml\n", "on every host: mirror daemon -c b.yaml\n"):
        assert words in told

    def is_shared(found: dict[str, Any]) -> bool:
        held = [one["repositories"] for one in found["shards"] if one["state"] == "here"]
        return len(held) == 2 and min(held) > 0 and sum(held) == len(reader_names(reader))

    reader.wait(is_shared)
    everything = reader_names(reader)
    held = {name: shard for shard in ("a", "b") for name in names_in(reader, shard)}
    source = held["acme/website"]
    target = {"a": "b", "b": "a"}[source]
    reader.run(f"mirror cluster move acme/website --to {target} -c {source}.yaml")
    again = reader.run(f"mirror cluster move acme/website --to {target} -c {source}.yaml")
    assert again == f"acme/website: {target} has it already\n"
    assert "acme/website" in names_in(reader, target)
    assert "acme/website" not in names_in(reader, source)
    for shard in ("a", "b"):
        reader.run(f"mirror verify -c {shard}.yaml")
    assert "nothing stands in the way" in reader.run("mirror doctor -c a.yaml", 0, 1)

    def is_merged(_: dict[str, Any]) -> bool:
        shown = json.loads(reader.run("mirror status -c a.yaml --json", 0, 1, 3))
        return sorted(one["name"] for one in shown["repositories"]) == sorted(everything)

    reader.wait(is_merged)
    text = (reader.folder / "a.yaml").read_text()
    address = text.partition("listen: ")[2].partition("}")[0]

    def is_shown(_: dict[str, Any]) -> bool:
        with urllib.request.urlopen(f"http://{address}/", timeout=PATIENCE) as answer:
            page = answer.read().decode()
        return all(f">{name}</a>" in page for name in everything)

    reader.wait(is_shown)


def names_in(reader: Reader, shard: str) -> list[str]:
    """The repositories in a shard's store."""
    found = json.loads(reader.run(f"mirror status --store stores/{shard} --json", 0, 1, 3))
    return [one["name"] for one in found["repositories"]]


def reader_names(reader: Reader) -> list[str]:
    """The repositories in all stores."""
    return [name for shard in ("a", "b") for name in names_in(reader, shard)]
