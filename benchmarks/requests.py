"""Count the API requests of a backup on the simulator, by purpose.

    python -m benchmarks.requests [--days 14] [--changes 5] [SIZE …]

A SIZE is `repositories x pull-requests`, such as 20x50. For each size the benchmark prints a first run, a run
without changes, a run after some pull requests changed, and the average for each repository and day over two
weeks of six runs a day with all sweeps; beside it, what asking for everything every time would cost. The rate
limit is Bitbucket's usual one, 1,000 requests an hour. Time is simulated, so nobody waits for it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mirror import backup
from mirror.config import Config, load
from mirror.logs import configure
from mirror.model import Run
from mirror.simulator import Simulator, World
from mirror.simulator.world.people import User
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES
from mirror.simulator.world.settings import fill_repository_settings, fill_workspace_settings
from mirror.store.writing.writer import create_or_open
from tests.clock import FakeClock

# The purpose of a request: the first pattern that its URL matches.
KINDS: tuple[tuple[str, str], ...] = (
    ("lists of pull requests", r"/pullrequests$"),
    ("activity", r"/pullrequests/activity$"),
    ("comments", r"/pullrequests/\d+/comments$"),
    ("tasks", r"/pullrequests/\d+/tasks$"),
    ("statuses", r"/pullrequests/\d+/statuses$"),
    ("commits and patches git lacks", r"/pullrequests/\d+/(commits|patch)$|/patch/"),
    ("other of pull requests", r"/pullrequests/"),
    ("lists of pipelines", r"/pipelines/$"),
    ("steps", r"/steps/$"),
    ("step logs", r"/log$"),
    ("test reports", r"/test_reports"),
    ("commit comments and insights", r"/commit/[0-9a-f]+/"),
    ("issues", r"/(issues|milestones|versions|components)$"),
    ("discovery", r"^/2.0/(repositories/[^/]+|workspaces/[^/]+|user/workspaces)$"),
    ("settings", r""),
)
# The least urgent ones: made only with requests that nothing else needs.
APART = ("statuses", "step logs", "test reports", "commit comments and insights", "steps")


@dataclass
class Place:
    """A world, a simulator, a store, and one clock for all of them."""

    simulator: Simulator
    config: Config
    clock: FakeClock

    def run(self) -> tuple[Run, Counter[str]]:
        """Run one backup; returns its requests by purpose."""
        self.simulator.requests.clear()
        done = asyncio.run(backup.run(self.config, clock=self.clock, environment=os.environ))
        found: Counter[str] = Counter()
        for asked in self.simulator.requests:
            if asked.kind == "api":
                found[next(name for name, pattern in KINDS if re.search(pattern, asked.path))] += 1
        return done, found


def fill(repository: SimRepository, count: int, people: list[User], rng: random.Random) -> None:
    """Add pull requests of every kind: one in ten open, half with comments, a fifth with tasks, a third
    squashed, so that git no longer has their commits."""
    repository.commit("main", {"README.md": b"Hello\n"}, "Begin\n")
    for number in range(1, count + 1):
        author, reviewer = rng.sample(people, 2)
        branch = f"topic-{number}"
        tip = repository.branch("main")
        assert tip is not None
        repository.commit(branch, {f"src/{number}.txt": b"%d\n" % number}, f"Topic {number}\n", parents=[tip])
        pull = repository.open_pull_request(source=branch, title=f"Topic {number}", author=author)
        if rng.random() < 0.5:
            for _ in range(rng.randint(1, 6)):
                pull.comment("Is this so?", author=reviewer)
        if rng.random() < 0.2:
            pull.add_task("Say why", author=reviewer)
        pull.approve(reviewer)
        if rng.random() < 0.9:
            pull.merge(author=author, squash=rng.random() < 0.33)
    for _ in range(count // 2):
        repository.add_pipeline(steps=[("build", b"Done.\n")])


def squashed(repository: SimRepository) -> int:
    """The number of pull requests whose commits git does not have."""
    words = ["git", "-C", str(repository.git_path), "rev-list", "--all"]
    there = set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    return sum(1 for one in repository.pull_requests.values() if one.source_hash not in there)


def target(repositories: list[SimRepository]) -> float:
    """The design's bound for a first run, without the least urgent requests."""
    total = 30.0 * len(repositories)
    for repository in repositories:
        pulls = repository.pull_requests.values()
        total += 0.1 * len(pulls) + 1.2 * sum(1 for one in pulls if one.comments)
        total += sum(1 for one in pulls if one.tasks) + 2 * squashed(repository)
    return total


def naive(repositories: list[SimRepository]) -> int:
    """The cost of a naive client: every list, six requests for each pull request, two for each pipeline, 27
    for settings."""
    total = 1 + (len(repositories) + 99) // 100
    for one in repositories:
        total += 27 + (len(one.pull_requests) + 49) // 50 + 6 * len(one.pull_requests)
        total += (len(one.pipelines) + 99) // 100 + 2 * len(one.pipelines)
    return total


def measure(name: str, days: int, changes: int) -> None:
    """Make a world of this size, and print the cost of each run."""
    wide, deep = (int(part) for part in name.split("x"))
    rng = random.Random(name)
    with tempfile.TemporaryDirectory() as text:
        folder, clock = Path(text), FakeClock()
        world = World(folder / "upstream", clock=clock.now, limit=1000)
        people = [world.add_user(f"User {n}", f"user{n}@acme.example") for n in range(5)]
        for email in ("ann@acme.example", "bob@acme.example"):
            world.add_user("Somebody Else", email)
        acme = world.add_workspace("acme")
        for number in range(wide):
            repository = acme.add_repository(f"repository-{number:04}")
            fill(repository, deep, people, rng)
            fill_repository_settings(repository)
        fill_workspace_settings(acme)
        repositories = list(acme.repositories.values())
        token = world.add_workspace_access_token("acme", SCOPES)
        with Simulator(world) as simulator:
            place = Place(simulator, load(_config(folder, simulator, token)), clock)
            create_or_open(place.config.store, now=clock.now()).close()
            print(f"\n{wide} repositories of {deep} pull requests and {deep // 2} pipelines")
            _first(place, repositories)
            _later(place, repositories, rng, changes)
            _weeks(place, repositories, rng, days, changes)


def _config(folder: Path, simulator: Simulator, token: str) -> Path:
    secret = folder / "token"
    secret.touch(mode=0o600)
    secret.write_text(token)
    path = folder / "config.yaml"
    path.write_text(
        f"store: store\nbitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}'}}\n"
        "workspaces:\n  - workspace: acme\n"
        "    credential: {kind: workspace_access_token, token: {file: token}}\n"
    )
    return path


def _first(place: Place, repositories: list[SimRepository]) -> None:
    counts: Counter[str] = Counter()
    began, runs = place.clock.elapsed, 0
    while True:
        done, found = place.run()
        counts += found
        runs += 1
        if done.exit_code == 0 or runs == 100:
            break
        place.clock.elapsed += 3600
    hours = (place.clock.elapsed - began) / 3600
    counted = sum(number for name, number in counts.items() if name not in APART)
    allowed = target(repositories)
    print(f"  first backup, in {runs} run(s) and {hours:.1f} h: {counts.total()} requests", _told(counts))
    print(f"    without the least urgent: {counted}, allowed {allowed:.0f}: {_verdict(counted, allowed)}")
    print(f"    asking for everything: {naive(repositories)}")


def _later(place: Place, repositories: list[SimRepository], rng: random.Random, changes: int) -> None:
    place.clock.elapsed += 3600
    _, found = place.run()
    size = len(repositories)
    allowed = 2 * size + -(-size // 100) + 5
    print(
        f"  nothing changed: {found.total()} requests, allowed {allowed}:", _verdict(found.total(), allowed)
    )
    place.clock.elapsed += 3600
    for _ in range(changes):
        _change(rng.choice(repositories), rng)
    _, found = place.run()
    print(f"  {changes} pull requests changed: {found.total()} requests", _told(found))


def _change(repository: SimRepository, rng: random.Random) -> None:
    pull = rng.choice(list(repository.pull_requests.values()))
    user = pull.author
    act: Callable[[], object] = rng.choice(
        [
            lambda: pull.comment("And this?", author=user),
            lambda: pull.edit(title=f"{pull.title}!", author=user),
            lambda: pull.approve(user),
            lambda: pull.add_status(f"build-{rng.randrange(9)}"),
        ]
    )
    act()


def _weeks(
    place: Place, repositories: list[SimRepository], rng: random.Random, days: int, changes: int
) -> None:
    counts: Counter[str] = Counter()
    for _ in range(days * 6):
        place.clock.elapsed += timedelta(hours=4).total_seconds()
        for _ in range(changes):
            _change(rng.choice(repositories), rng)
        rng.choice(repositories).add_pipeline(steps=[("build", b"Done.\n")])
        _, found = place.run()
        counts += found
    per = counts.total() / days / len(repositories)
    everything = naive(repositories) * 6 / len(repositories)
    print(f"  {days} days of 6 runs, {changes} changes before each: {counts.total()} requests", _told(counts))
    print(f"    for a repository and day: {per:.1f}; asking for everything: {everything:.0f}")


def _told(counts: Counter[str]) -> str:
    return "(" + ", ".join(f"{name} {number}" for name, number in counts.most_common()) + ")"


def _verdict(number: float, allowed: float) -> str:
    return "held" if number <= allowed else "MISSED"


def main() -> None:
    """Measure the given sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--changes", type=int, default=5)
    parser.add_argument("size", nargs="*", default=["10x20", "100x5", "2x400"])
    asked = parser.parse_args()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        configure(stream=nowhere)
        for name in asked.size:
            measure(name, asked.days, asked.changes)


if __name__ == "__main__":
    main()
