"""Measure a backup of many repositories without changes: time, memory of all processes, requests.

    python -m benchmarks.unchanged [--repositories 1000]

The simulator runs in a process of its own. Its clock and the backup's are simulated, so that nobody waits for
the rate limit. The limit is so high that the first backup asks for everything, and nothing is due again half
a day later. Measured is a `mirror backup` as the daemon runs it, from discovery to the run record, git
included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measured import Memory
from mirror import backup
from mirror.config import load
from mirror.logs import configure
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock


def serve(folder: Path, count: int) -> None:
    """Run the simulator, print what a client needs to connect, and serve until stdin ends."""
    clock = FakeClock()
    world = World(folder, clock=clock.now, limit=10**9)
    workspace = world.add_workspace("acme")
    author = world.add_user("Ann", "ann@acme.example")
    for number in range(count):
        repository = workspace.add_repository(f"repository-{number:04}")
        repository.commit("main", {"README.md": b"%d\n" % number}, "Begin\n")
        repository.commit("topic", {"a.txt": b"%d\n" % number}, "Work\n")
        repository.open_pull_request(source="topic", title="Topic", author=author)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        print(json.dumps([simulator.api_url, simulator.git_url, token]), flush=True)
        sys.stdin.read()


def run(config: Path, hours: float) -> str:
    """Run a backup in this process; returns its figures."""
    clock = FakeClock()
    clock.elapsed += hours * 3600
    with Memory() as memory:
        begun = time.perf_counter()
        done = asyncio.run(backup.run(load(config), clock=clock, environment=os.environ))
        wall = time.perf_counter() - begun
    outcomes = {str(entry.outcome) for entry in done.entries}
    told = f"exit {done.exit_code}, {'/'.join(sorted(outcomes))}, {done.facts['requests']} requests"
    return f"{wall:.1f} s, {memory.most >> 10} MiB; {told}"


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int, default=1000)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--hours", type=float, default=0.0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        serve(asked.serve, asked.repositories)
        return
    if asked.run is not None:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            configure(stream=nowhere)
            print(run(asked.run, asked.hours))
        return
    with tempfile.TemporaryDirectory() as text:
        compare(Path(text), asked.repositories)


def compare(folder: Path, count: int) -> None:
    """Run a first backup, and one without changes half a day later."""
    here = [sys.executable, "-m", "benchmarks.unchanged", "--repositories", str(count)]
    words = [*here, "--serve", str(folder / "upstream")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        api, git, token = json.loads(server.stdout.readline())
        secret = folder / "token"
        secret.touch(mode=0o600)
        secret.write_text(token)
        config = folder / "config.yaml"
        config.write_text(
            f"store: store\nbitbucket: {{api_url: '{api}', git_url: '{git}'}}\n"
            "limits: {window: 100h, git_workers: 2, api_limit: 10000}\nworkspaces:\n  - workspace: acme\n"
            "    credential: {kind: workspace_access_token, token: {file: token}}\n"
        )
        create_or_open(folder / "store", now=FakeClock().now()).close()
        for name, hours in (("first", 0), ("nothing changed", 12)):
            told = subprocess.run(
                [*here, "--run", str(config), "--hours", str(hours)],
                capture_output=True,
                text=True,
                check=True,
            )
            print(f"{count} repositories, {name}: {told.stdout.strip()}", flush=True)
        server.stdin.close()


if __name__ == "__main__":
    main()
