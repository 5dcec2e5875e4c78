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
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measured import Memory
from benchmarks.simulated import NO_LIMIT, serve, small_repositories, upstream
from mirror import backup
from mirror.config import load
from mirror.logs import configure
from mirror.simulator import World
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock

HERE = ("benchmarks.unchanged",)


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
        world = World(asked.serve, clock=FakeClock().now, limit=NO_LIMIT)
        serve(world, small_repositories(world, asked.repositories))
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
    with upstream([*HERE, "--serve", str(folder / "upstream"), "--repositories", str(count)]) as there:
        config = there.configured(folder, "limits: {window: 100h, git_workers: 2, api_limit: 10000}\n")
        create_or_open(folder / "store", now=FakeClock().now()).close()
        for name, hours in (("first", 0), ("nothing changed", 12)):
            told = subprocess.run(
                [sys.executable, "-m", *HERE, "--run", str(config), "--hours", str(hours)],
                capture_output=True,
                text=True,
                check=True,
            )
            print(f"{count} repositories, {name}: {told.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
