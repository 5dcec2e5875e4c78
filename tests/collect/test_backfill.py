"""A first backup that takes many hours of a rate limit, killed again and again: it ends complete, and asks
for almost nothing twice. The simulator's own log proves it."""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from mirror.bitbucket.client.local_leases import EXCHANGE_REQUESTS
from mirror.model import Selector
from mirror.simulator import Simulator, Switches, World
from mirror.simulator.world.sample import SCOPES
from mirror.simulator.world.settings import fill_repository_settings, fill_workspace_settings
from mirror.store.reading.reader import Store
from tests.collect.rated import SharedClock
from tests.counts import told
from tests.e2e.helpers import write_config
from tests.forks import FORKS, Program

SEED = int(os.environ.get("MIRROR_SEED", "20261124"))
SOAK = os.environ.get("MIRROR_SOAK") == "1"
KILLS = 60 if SOAK else 10
PULLS = 400 if SOAK else 90
CONCURRENCY = 8
DOCUMENTS = 15
# For one document: comments, tasks and statuses; for a pipeline: steps, log and report.
REQUESTS_A_DOCUMENT = 3
# Every run asks for these, and for a repository itself if something in it is not found.
EACH_RUN = re.compile(
    r"/2\.0/(workspaces|repositories)/acme(/\w+)?(\?|$)|/pipelines/\?sort|/pullrequests\?.*q=updated_on|/issues(\?|$)"
)


def fill(world: World) -> None:
    rng = random.Random(SEED)
    ann = world.add_user("Ann Archer", "ann@acme.example")
    bob = world.add_user("Bob Baker", "bob@acme.example")
    acme = world.add_workspace("acme")
    for slug in ("large", "small"):
        repository = acme.add_repository(slug)
        tip = repository.commit("main", {"README.md": b"Hello\n"}, "Begin\n")
        fill_repository_settings(repository)
        for number in range(PULLS if slug == "large" else 3):
            branch = f"topic-{number}"
            repository.commit(branch, {f"{number}.txt": b"1\n"}, f"Topic {number}\n", parents=[tip])
            pull = repository.open_pull_request(source=branch, title=f"Topic {number}", author=ann)
            for _ in range(rng.randint(0, 3)):
                pull.comment("Is this so?", author=bob)
            if rng.random() < 0.3:
                pull.add_task("Say why", author=bob)
            if rng.random() < 0.8:
                pull.merge(author=bob, squash=rng.random() < 0.2)
        for _ in range(20):
            repository.add_pipeline(steps=[("build", b"Done.\n")])
    fill_workspace_settings(acme)


def documents(store: Path, name: str) -> dict[str, str]:
    """Every document of the last snapshot except its own facts, by blob."""
    with Store.open(store) as opened:
        folder = opened.repository(Selector.parse(name))
        latest = folder.metadata.latest()
        assert latest is not None
        found = folder.metadata.diff(None, latest)
    return {path: new or "" for path, _, new in found if path != "snapshot.json"}


class Runner:
    """Starts backups with a shared clock, and kills them after a number of requests."""

    def __init__(self, folder: Path, simulator: Simulator, token: str, *, store: str) -> None:
        self.simulator = simulator
        folder.mkdir(exist_ok=True)
        self.clock = folder / "clock"
        more = "limits: {api_reserve: 0, window: 3h}\n"
        self.config = write_config(folder, simulator, token, more=more)
        self.store = folder / store

    def start(self) -> Program:
        words = [str(self.config), str(self.clock), str(DOCUMENTS)]
        with Path(os.devnull).open("r+b") as null:
            return FORKS.start(
                "tests.collect.rated:main",
                words,
                environment={"PATH": os.environ["PATH"]},
                streams=[null.fileno()] * 3,
            )

    def killed_after(self, requests: int) -> bool:
        """Whether it was killed before its end."""
        until = len(self.simulator.requests) + requests
        running = self.start()
        while running.poll() is None and len(self.simulator.requests) < until:
            time.sleep(0.001)
        running.kill()
        return running.wait() == -9

    def to_the_end(self) -> int:
        return self.start().wait()


@pytest.mark.parametrize("switches", [Switches.default(), Switches(activity_of_all=False)])
def test_killed_all_the_time_it_ends_complete_and_asks_little_twice(
    tmp_path: Path, switches: Switches
) -> None:
    rng = random.Random(SEED)
    clock = SharedClock(tmp_path / "clock")
    world = World(tmp_path / "upstream", clock=clock.now, limit=120)
    fill(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world, switches=switches) as simulator:
        runner = Runner(tmp_path, simulator, token, store="store")
        kills, codes = 0, []
        while kills < KILLS:
            if not runner.killed_after(rng.randint(1, 120)):
                clock.pass_by(3600)
                codes.append("ended")
            else:
                kills += 1
                clock.pass_by(600)
        for _ in range(30):
            clock.pass_by(3600)
            codes.append(str(code := runner.to_the_end()))
            if code == 0:
                break
        asked = Counter(
            f"{one.path}?{one.query}" if one.query else one.path
            for one in simulator.requests
            if one.kind == "api" and one.status in (200, 302, 307, 404)
        )
        world.limit = 100_000
        whole = Runner(tmp_path / "whole", simulator, token, store="store")
        whole.clock = runner.clock
        clock.pass_by(3600)
        assert whole.to_the_end() == 0
    assert codes[-1] == "0", codes
    repeats = sum(n - 1 for path, n in asked.items() if not EACH_RUN.search(path))
    bound = kills * (CONCURRENCY + DOCUMENTS * REQUESTS_A_DOCUMENT)
    told("backfill", kills=kills, requests=asked.total(), repeats=repeats, bound=bound, seed=SEED)
    assert repeats <= bound, asked.most_common(20)
    for name in ("acme/large", "acme/small"):
        assert documents(runner.store, name) == documents(whole.store, name)


@pytest.mark.parametrize("switches", [Switches.default(), Switches(activity_of_all=False)])
def test_where_nobody_kills_it_nothing_is_asked_twice(tmp_path: Path, switches: Switches) -> None:
    """The window of each run ends long before the backfill does."""
    clock = SharedClock(tmp_path / "clock")
    world = World(tmp_path / "upstream", clock=clock.now, limit=70)
    fill(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    codes = []
    with Simulator(world, switches=switches) as simulator:
        runner = Runner(tmp_path, simulator, token, store="store")
        runner.config.write_text(runner.config.read_text().replace("window: 3h", "window: 10m"))
        for _ in range(40):
            codes.append(runner.to_the_end())
            if codes[-1] == 0:
                break
            clock.pass_by(3600)
        asked = Counter(
            f"{one.path}?{one.query}"
            for one in simulator.requests
            if one.kind == "api" and one.status in (200, 302, 307, 404)
        )
    assert set(codes[:-1]) == {75} and codes[-1] == 0 and len(codes) > 4
    again = {path: n for path, n in asked.items() if n > 1 and not EACH_RUN.search(path.rstrip("?"))}
    assert again == {}


def test_a_killed_run_leaves_the_reserve_to_others(tmp_path: Path) -> None:
    """The next run knows what it used of the hour, except for the last few requests."""
    clock = SharedClock(tmp_path / "clock")
    world = World(tmp_path / "upstream", clock=clock.now, limit=300)
    fill(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    reserve = 200
    with Simulator(world) as simulator:
        runner = Runner(tmp_path, simulator, token, store="store")
        text = runner.config.read_text().replace("window: 3h", "window: 10m")
        runner.config.write_text(text.replace("api_reserve: 0", f"api_reserve: {reserve}"))
        assert runner.killed_after(90)
        assert runner.to_the_end() == 75
        made = sum(1 for one in simulator.requests if one.kind == "api")
    # Requests in flight at the kill count, too.
    assert made <= world.limit - reserve + EXCHANGE_REQUESTS + CONCURRENCY
