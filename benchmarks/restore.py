"""Measure a restore of many repositories into an empty workspace: time, requests, things made.

    python -m benchmarks.restore [--repositories 100]

The simulator runs in a process of its own. Each repository has branches, two open pull requests with a
discussion, settings of every kind, a download and what is said about its commits. Measured is `mirror
restore` as a person calls it, the start of the program included, and once more a dry run of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.simulated import NO_LIMIT, serve, upstream
from mirror.simulator import World
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock
from tests.restore.carry.everything import WORKSPACE, fill
from tests.simulator.helpers import EVERYTHING

TARGET, EMAIL = "empty", "rita@restores.example"
# Requests of one restore are compared with what it makes.
RATIO_MOST = 1.2


def fill_world(folder: Path, count: int) -> tuple[World, str]:
    """A workspace with so many repositories, an empty one, and a token of somebody who may do everything."""
    world = World(folder, limit=NO_LIMIT)
    world.limits["git"] = NO_LIMIT
    fill(world, count)
    world.add_workspace(TARGET).groups["developers"] = "Developers"
    rita = world.add_user("Rita Restores", EMAIL)
    return world, world.add_api_token(rita, EVERYTHING)


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int, default=100)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        serve(*fill_world(asked.serve, asked.repositories))
        return
    with tempfile.TemporaryDirectory() as text:
        measure(Path(text), asked.repositories)


def measure(folder: Path, count: int) -> None:
    """Back up, restore, and print the figures."""
    words = ["benchmarks.restore", "--repositories", str(count), "--serve", str(folder / "upstream")]
    with upstream(words) as there:
        config = folder / "config.yaml"
        config.write_text(
            f"store: store\nbitbucket: {{api_url: '{there.api}', git_url: '{there.git}'}}\n"
            f"credential: {{kind: api_token, email: {EMAIL}, token: {{env: RITA}}}}\n"
            "limits: {window: 100h, git_workers: 2, api_limit: 1000000, api_reserve: 0}\n"
            f"workspaces: [{{workspace: {WORKSPACE}}}]\n"
        )
        create_or_open(folder / "store", now=FakeClock().now()).close()
        environment = {**os.environ, "RITA": there.token, "XDG_STATE_HOME": str(folder / "state")}
        run(["backup"], config, environment)
        restore = ["restore", WORKSPACE, "--to", f"bitbucket:{TARGET}"]
        for name, more in (("dry run", ["--dry-run"]), ("restore", []), ("once more", [])):
            begun = time.perf_counter()
            report = run([*restore, *more], config, environment)
            told(f"{count} repositories, {name}", report, time.perf_counter() - begun)


def told(name: str, report: dict[str, object], seconds: float) -> None:
    """Print the figures of one command."""
    counts, requests = report.get("counts"), report["requests"]
    text = f"{name}: {seconds:.1f} s, exit {report['exit_code']}, {requests} requests"
    if isinstance(counts, dict):
        text += f", {', '.join(f'{number} {what}' for what, number in counts.items())}"
        made = counts.get("made")
        if made:
            assert isinstance(requests, int)
            text += f"; {requests / made:.2f} requests for each thing made (at most {RATIO_MOST})"
    else:
        text += f" planned, {report['seconds']} s at the usual limit"
    print(text, flush=True)


def run(words: list[str], config: Path, environment: dict[str, str]) -> dict[str, object]:
    """Run a command; returns its JSON. Raises where there is none."""
    done = subprocess.run(
        [sys.executable, "-m", "mirror", *words, "-c", str(config), "--json", "-q"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    try:
        found: dict[str, object] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"{' '.join(words)} exited with {done.returncode}: {done.stderr}") from None
    return found


if __name__ == "__main__":
    main()
