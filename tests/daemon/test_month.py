"""A month of the daemon against the simulator, with restarts, faults, rotated tokens, reloads, and webhooks
that are lost, doubled and forged: no run is missed or doubled, every push is kept, and nothing grows.
MIRROR_SOAK=1 backs up more often and more repositories."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import importlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mirror.config import Config, load
from mirror.model import Scope, time_from_text
from mirror.model.live import HookEvents, Live
from mirror.simulator import Fault, HookFaults, Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import create_or_open
from mirror.web.hooks_door import open_hooks_door
from tests.daemon.driven import PATIENCE, Driven, DrivenClock, living
from tests.e2e.helpers import MADE
from tests.git.backend import git
from tests.ports import unused_port

SECRET = "a secret of the month, long enough to sign"
SOAK = os.environ.get("MIRROR_SOAK") == "1"
# The clocks of Berlin change on the 29th.
START = datetime(2026, 3, 10, 7, 13, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
REPOSITORIES = 6 if SOAK else 2
# Of acme, and of the other workspace.
EVERY, HOURS = (2, 1) if SOAK else (12, 12)
# No delay is longer, and no run of this test either.
LATE = timedelta(minutes=20)


@dataclass(frozen=True)
class Ran:
    """One run by its record."""

    job: str
    began: datetime
    exit_code: int


@dataclass(frozen=True)
class Resources:
    """What this process uses while the daemon is idle."""

    threads: int
    files: int
    objects: int


class Month:
    """Two workspaces, the first with a schedule of its own; and when the daemon did not live."""

    def __init__(self, folder: Path, simulator: Simulator, clock: DrivenClock) -> None:
        self.folder, self.simulator, self.clock = folder, simulator, clock
        self.every = EVERY
        self.pauses: list[tuple[datetime, datetime]] = []
        self.pushed: dict[str, list[str]] = {}
        self.path = folder / "config.yaml"
        with create_or_open(folder / "store", now=MADE) as store:
            store_id = store.reader.id
        self.port = unused_port()
        (folder / "secret").touch(mode=0o600)
        (folder / "secret").write_text(SECRET)
        path = hmac.new(SECRET.encode(), store_id.encode(), hashlib.sha256).hexdigest()[:32]
        for number, workspace in enumerate(simulator.world.workspaces.values()):
            hook = {"uuid": f"{{f{number}}}", "active": True, "events": ["repo:push"]}
            workspace.settings["hooks"] = [hook | {"url": f"http://127.0.0.1:{self.port}/hooks/{path}"}]
            simulator.world.secrets[f"{{f{number}}}"] = SECRET
        for name in ("acme", "beta"):
            self.rotate(name)
        self.write()

    def rotate(self, name: str) -> None:
        """A new token upstream and in its file; the old one is refused from now on."""
        world, file = self.simulator.world, self.folder / name
        if file.exists():
            world.revoke(file.read_text())
        file.touch(mode=0o600)
        file.write_text(world.add_workspace_access_token(name, SCOPES))

    def write(self, more: str = "") -> None:
        self.path.write_text(
            f"store: store\nretention: {{keep_last: 3}}\nlimits: {{git_workers: 1}}\n"
            f"bitbucket: {{api_url: '{self.simulator.api_url}', git_url: '{self.simulator.git_url}',"
            f" oauth_url: '{self.simulator.oauth_url}'}}\n"
            f"schedule: {{backup: '0 */{HOURS} * * *', verify: '30 2 * * sun', prune: '0 5 * * mon',"
            f" drill: '0 6 1 * *', timezone: Europe/Berlin}}\n"
            f"hooks: {{listen: '127.0.0.1:{self.port}', url: https://m.example.org,"
            f" secret: {{file: secret}}}}\n"
            "workspaces:\n"
            "  - {workspace: beta, credential: {kind: workspace_access_token, token: {file: beta}}}\n"
            f"  - workspace: acme\n    schedule: {{backup: every {self.every}h}}\n"
            "    credential: {kind: workspace_access_token, token: {file: acme}}\n" + more
        )

    def load(self) -> Config:
        return load(self.path)

    async def push(self, daemon: Driven | None = None) -> None:
        """Push to a repository of each workspace; while the daemon lives, the webhooks reach it."""
        for workspace in self.simulator.world.workspaces.values():
            repository, pushed = workspace.repositories["r0"], self.pushed.setdefault(workspace.slug, [])
            text = b"%d" % len(pushed)
            pushed.append(await asyncio.to_thread(repository.commit, "main", {"a": text}, f"change {text!r}"))
        await asyncio.to_thread(self.simulator.hooks.settle)
        if daemon is not None:
            await daemon.settle()

    @asynccontextmanager
    async def listeners(self, config: Config, _: Live, hooks: HookEvents) -> AsyncIterator[None]:
        """The door for webhooks, as the command opens it."""
        assert config.hooks is not None
        door = open_hooks_door(
            config.hooks, hooks, store=config.store, clock=self.clock, environment=os.environ
        )
        async with door:
            yield

    def living(self, monkeypatch: pytest.MonkeyPatch) -> AbstractAsyncContextManager[Driven]:
        """A daemon from its start to its end."""
        return living(self.load, self.clock, monkeypatch, self.listeners)

    def kept(self) -> dict[str, set[str]]:
        """By workspace, every value that a ref had."""
        with Store.open(self.folder / "store") as store:
            return {
                one.workspace_slug: {
                    line.split()[0] for line in git("show-ref", cwd=one.mirror("code")).splitlines()
                }
                | set(git("rev-list", "--all", cwd=one.mirror("code")).split())
                for one in store.repositories()
                if one.slug == "r0"
            }

    def runs(self) -> list[Ran]:
        """All runs, in their order."""
        with Store.open(self.folder / "store") as store:
            found = [
                Ran(
                    Scope.of_facts(run.data["facts"]).job(run.kind),
                    time_from_text(run.started),
                    run.exit_code,
                )
                for run in store.runs()
                if not run.is_announced
            ]
        return sorted(found, key=lambda one: one.began)

    async def resources(self, daemon: Driven) -> Resources:
        """What is used once connections are closed."""
        await daemon.settle()
        self.simulator.requests.clear()
        files, still = -1, 0
        async with asyncio.timeout(PATIENCE):
            while still < 5:
                now = len(list(Path("/proc/self/fd").iterdir()))
                files, still = now, still + 1 if now == files else 0
                await asyncio.sleep(0.05)
        gc.collect()
        return Resources(threading.active_count(), files, len(gc.get_objects()))

    def lived(self, begin: datetime, end: datetime) -> bool:
        """Whether the daemon lived for a while between these moments, long enough for a run."""
        left = end - begin
        for first, last in self.pauses:
            left -= max(min(end, last) - max(begin, first), timedelta())
        return left > LATE


@pytest.fixture
def month(tmp_path: Path) -> Iterator[Month]:
    clock = DrivenClock(START)
    world = World(tmp_path / "upstream", clock=clock.now)
    for name in ("acme", "beta"):
        workspace = world.add_workspace(name)
        for number in range(REPOSITORIES):
            workspace.add_repository(f"r{number}")
    faults = HookFaults(lost=0.3, doubled=0.2, forged=0.5, seed=7)
    with Simulator(world, hook_faults=faults) as simulator:
        yield Month(tmp_path, simulator, clock)


async def test_a_month(
    month: Month, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock, at = month.clock, START.replace(hour=0, minute=0)
    await month.push()

    async with month.living(monkeypatch) as daemon:
        await daemon.live_until(at + 2 * DAY)
        await month.push(daemon)
        await daemon.live_until(at + 3 * DAY + 11 * HOUR)
    down = clock.now()
    clock.move(20 * 3600)  # the daemon is down for several times of each job
    month.pauses.append((down, clock.now()))

    async with month.living(monkeypatch) as daemon:
        await daemon.live_until(at + 5 * DAY + 7 * HOUR)
        importlib.import_module("mirror.drill")  # as the first drill does
        early = await month.resources(daemon)
        # A server in trouble for a day, then one refused connection in three.
        month.simulator.order(Fault("*", status=503, times=100_000))
        await daemon.live_until(at + 6 * DAY + 7 * HOUR)
        month.simulator.faults.clear()
        month.simulator.order(Fault("GET /2.0/*", "reset", times=50, each=3))
        await month.push(daemon)
        await daemon.live_until(at + 8 * DAY + 7 * HOUR)
        month.simulator.faults.clear()
        # The daemon is stopped while it backs up.
        month.simulator.order(Fault("GET /2.0/repositories/*", "slow", seconds=600, times=100))
        await daemon.live_until_backup()
    month.simulator.faults.clear()

    async with month.living(monkeypatch) as daemon:
        await daemon.live_until(at + 11 * DAY + 7 * HOUR)
        month.rotate("acme")
        await daemon.reload()
        month.path.write_text(month.path.read_text() + "nonsense: 1\n")
        await daemon.reload()
        await daemon.live_until(at + 13 * DAY + 7 * HOUR)
        # A token that is refused: the reload is too, and the runs of that workspace fail.
        good = (month.folder / "beta").read_text()
        (month.folder / "beta").write_text("refused")
        month.write()
        await daemon.reload()
        await daemon.live_until(at + 14 * DAY + 7 * HOUR)
        (month.folder / "beta").write_text(good)
        month.every = EVERY // 2
        month.write()
        changed = clock.now()
        await daemon.reload()
        await daemon.live_until(at + 17 * DAY + 7 * HOUR)
        slept = clock.now()
        clock.set(15 * HOUR)  # the machine sleeps
        clock.move(31)
        month.pauses.append((slept, clock.now()))
        for day in range(18, 31):
            await month.push(daemon)
            await daemon.live_until(at + day * DAY + 7 * HOUR)
        await daemon.live_until(at + 31 * DAY + 7 * HOUR)
        state = daemon.service._hooks.state()
        late = await month.resources(daemon)
    ended = clock.now()

    runs = month.runs()
    if SOAK:
        print(f"{len(runs)} runs; {early}; {late}")
    check_cron(month, runs, "backup of all but acme", cron_times(ended, HOURS), ended)
    sundays = [one for one in berlin_days(ended, 2, 30) if one.astimezone(BERLIN).weekday() == 6]
    check_cron(month, runs, "verify", sundays, ended)
    mondays = [one for one in berlin_days(ended, 5, 0) if one.astimezone(BERLIN).weekday() == 0]
    check_cron(month, runs, "prune", mondays, ended)
    check_cron(month, runs, "drill", [datetime(2026, 4, 1, 4, tzinfo=UTC)], ended)
    check_every(month, runs, "backup of acme", changed, ended)
    codes = {one.exit_code for one in runs}
    assert {0, 12, 75, 130} <= codes, "the month must have had all its troubles"

    assert state.received and state.refused, "true and forged webhooks must have come"
    assert any(one.fate == "lost" for one in month.simulator.deliveries)
    kept = month.kept()
    assert all(set(pushed) <= kept[workspace] for workspace, pushed in month.pushed.items())

    # Connections are kept open, and pools of threads fill up; what leaks, leaks in each of over fifty runs.
    assert late.files <= early.files + 24
    assert late.threads <= early.threads + 24
    assert late.objects < 1.02 * early.objects
    log = capfd.readouterr()
    assert "Traceback" not in log.out + log.err


def cron_times(ended: datetime, hours: int) -> list[datetime]:
    """Every so many hours by the clocks of Berlin."""
    day = datetime(2026, 3, 9, tzinfo=UTC)
    every = [day + n * HOUR for n in range(24 * 40)]
    return [
        one for one in every if one.astimezone(BERLIN).hour % hours == 0 and START - DAY < one < ended + DAY
    ]


def berlin_days(ended: datetime, hour: int, minute: int) -> list[datetime]:
    """This time of each day in Berlin. Where the clocks skip it, right after."""
    found = []
    for n in range(40):
        day = datetime(2026, 3, 9, hour, minute, tzinfo=BERLIN) + n * DAY
        skipped = day.astimezone(UTC).astimezone(BERLIN).replace(tzinfo=None) != day.replace(tzinfo=None)
        found.append(datetime(2026, 3, 29, 1, tzinfo=UTC) if skipped else day.astimezone(UTC))
    return [one for one in found if START < one < ended + 40 * DAY]


def check_cron(month: Month, runs: list[Ran], job: str, times: list[datetime], ended: datetime) -> None:
    """Between each of these times and the next there is one run; none only if the daemon did not live."""
    mine = [one.began for one in runs if one.job == job and one.exit_code != 130]
    assert mine
    for begin, end in pairwise([*times, ended + DAY]):
        end = min(end, ended)
        if end <= START or begin >= ended:
            continue
        within = [one for one in mine if begin <= one < end]
        expected = 1 if month.lived(max(begin, START), end) else 0
        assert len(within) == expected, f"{job} between {begin} and {end}: {within}"


def check_every(month: Month, runs: list[Ran], job: str, changed: datetime, ended: datetime) -> None:
    """Each run begins an interval after the one before, or as soon as the daemon lives again."""
    mine = [one.began for one in runs if one.job == job and one.exit_code != 130]
    for before, after in zip(mine, [*mine[1:], ended + DAY], strict=True):
        due = before + EVERY * HOUR
        if due > changed:
            due = max(changed, before + EVERY / 2 * HOUR)
        for first, last in month.pauses:
            due = last if first < due < last else due
        if after < ended:
            assert abs(after - due) < LATE, f"{job}: {before}, then {after} instead of {due}"
        else:
            assert due > ended - LATE
