"""Measure the backup of one giant repository's metadata: memory, time, requests and bytes on disk.

    python -m benchmarks.scale [--pulls 20000] [--comments 10] [--pipelines 50000]

The simulator runs in this process, the backup in one of its own. Measured is the backup's peak of anonymous
memory (without mapped files of the store). Its clock is simulated, so nobody waits for the rate limit of
1,000 requests an hour. After the first backup follow one without changes, and one after five pull requests
changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mirror import backup
from mirror.config import load
from mirror.logs import configure
from mirror.simulator import Simulator, World
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock

BRANCHES = 20


def fill(repository: SimRepository, clock: FakeClock, pulls: int, comments: int, pipelines: int) -> None:
    """Add pull requests with `comments` each, one in ten open, and pipelines of one step with a log. Each
    hour up to now has one of both, or several."""
    world = repository.world
    rng = random.Random(pulls)
    people = [world.add_user(f"User {n}", f"user{n}@acme.example") for n in range(20)]
    repository.commit("main", {"README.md": b"Hello\n"}, "Begin\n")
    tip = repository.branch("main")
    assert tip is not None
    for number in range(BRANCHES):
        repository.commit(f"topic-{number}", {f"{number}.txt": b"%d\n" % number}, "Work\n", parents=[tip])
    for number in range(pulls):
        clock.elapsed = 3600.0 * (number - pulls)
        author, reviewer = rng.sample(people, 2)
        pull = repository.open_pull_request(
            source=f"topic-{number % BRANCHES}", title=f"Topic {number}", author=author
        )
        for _ in range(comments):
            pull.comment("Is this so? " + "I should like to know why. " * rng.randrange(12), author=reviewer)
        if number % 10:
            pull.decline(author=author)
        for _ in range(pipelines * number // pulls, pipelines * (number + 1) // pulls):
            repository.add_pipeline(steps=[("build", b"Done.\n" * rng.randrange(50))])
    clock.elapsed = 0.0


def measured(config: Path, hours: float) -> tuple[float, str]:
    """Run a backup, `hours` after the start of the first one, in a process of its own. Returns when it ended,
    and its figures."""
    words = [sys.executable, "-m", "benchmarks.scale", "--one", str(config), "--hours", str(hours)]
    began, most = time.monotonic(), 0
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(0.05)
        assert process.stdout is not None
        told = process.stdout.read()
    if process.returncode:
        raise SystemExit("the backup failed")
    said = json.loads(told)
    return said["hours"], f"{time.monotonic() - began:.1f} s, {most >> 10} MiB; {said['told']}"


def anonymous(process: int) -> int:
    """The anonymous memory of a process and of its children, in KiB."""
    total = 0
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        total = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
        for thread in Path(f"/proc/{process}/task").iterdir():
            total += sum(anonymous(int(one)) for one in (thread / "children").read_text().split())
    except (OSError, StopIteration):
        pass  # it has ended
    return total


def one(config: Path, hours: float) -> None:
    """Run one backup with a simulated clock, and print its result."""
    clock = FakeClock()
    clock.elapsed += hours * 3600
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        configure(stream=nowhere)
        done = asyncio.run(backup.run(load(config), clock=clock, environment=os.environ))
    problems = {problem.text for entry in done.entries for problem in entry.problems}
    took = clock.elapsed - hours * 3600
    told = [f"exit {done.exit_code}", f"{done.facts['requests']} requests in {took / 3600:.1f} h", *problems]
    print(json.dumps({"hours": clock.elapsed / 3600, "told": ", ".join(told)}))


def main() -> None:
    """Measure a repository of the given size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in (("pulls", 20_000), ("comments", 10), ("pipelines", 50_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--hours", type=float, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        one(asked.one, asked.hours)
        return
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        clock = FakeClock()
        clock.elapsed = -3600.0 * asked.pulls  # the time of a world never goes back
        world = World(folder / "upstream", clock=clock.now, limit=10**9)
        repository = world.add_workspace("acme").add_repository("giant")
        fill(repository, clock, asked.pulls, asked.comments, asked.pipelines)
        token = world.add_workspace_access_token("acme", SCOPES)
        print(f"{asked.pulls} pull requests of {asked.comments} comments, {asked.pipelines} pipelines")
        with Simulator(world) as simulator:
            secret = folder / "token"
            secret.touch(mode=0o600)
            secret.write_text(token)
            config = folder / "config.yaml"
            config.write_text(
                "store: store\n"
                f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}'}}\n"
                "limits: {window: 10000h}\n"
                "workspaces:\n  - workspace: acme\n"
                "    credential: {kind: workspace_access_token, token: {file: token}}\n"
            )
            create_or_open(folder / "store", now=clock.now()).close()
            hours = 0.0
            for name in ("first", "nothing changed", "five changed"):
                ended, told = measured(config, hours)
                hours = ended + 1
                clock.elapsed = hours * 3600
                used = sum(file.stat().st_size for file in (folder / "store").rglob("*") if file.is_file())
                print(f"  {name}: {told}; store {used >> 20} MiB", flush=True)
                if name != "nothing changed":
                    continue
                for number in list(repository.pull_requests)[:5]:
                    pull = repository.pull_requests[number]
                    pull.comment("And this?", author=pull.author)


if __name__ == "__main__":
    main()
