"""A daemon whose clock the test drives, and the simulator that sends hooks to its door."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.auth.hook_keys import HookKeys
from mirror.auth.secrets import Secret
from mirror.backup import announcements
from mirror.collect.kinds import numbered
from mirror.config import Config, load
from mirror.daemon import hooks as hooks_module
from mirror.daemon.hooks import AGAIN_SECONDS
from mirror.model import JsonObject
from mirror.model.live import HookEvents, HooksState, Live
from mirror.simulator import HookFaults, Simulator, Switches, World
from mirror.simulator.world.sample import SCOPES
from mirror.simulator.writes.hooks import EVENTS
from mirror.store.reading.reader import RepositoryFolder, Store
from mirror.store.writing.writer import create_or_open
from mirror.web.hooks_door import open_hooks_door
from tests.daemon.driven import PATIENCE, Driven, DrivenClock, living
from tests.e2e.helpers import MADE

SECRET = "a secret of the hooks, long enough to sign"
NAMES = ("website", "shop", "tools")
PULL_REQUEST = "pull-requests/0/1.json"
# Longer than the naps that the driven clock takes at once: hooks come together before the first visit.
DEBOUNCE = 40.0
# Naps move the clock a little, and a hook is late by more than that.
LATE = 900.0
HOURS_OF_TRUST = 6


class Hooked:
    """A workspace with a hook, and a daemon that backs it up each hour. `website` has a pull request."""

    def __init__(self, folder: Path, simulator: Simulator, clock: DrivenClock) -> None:
        self.simulator, self.clock = simulator, clock
        self.acme = simulator.world.workspaces["acme"]
        self.store, self.path = folder / "store", folder / "config.yaml"
        token = simulator.world.add_workspace_access_token("acme", SCOPES)
        for name, text in (("token", token), ("secret", SECRET)):
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(text)
        with create_or_open(self.store, now=MADE) as store:
            self.door = HookKeys(Secret(SECRET), None, store.reader.id).path
        self.path.write_text(
            "store: store\nlimits: {git_workers: 2, api_limit: 100000}\n"
            f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}'}}\n"
            "schedule: {backup: '0 * * * *', jitter: none}\n"
            "hooks: {listen: '127.0.0.1:0', url: https://m.example.org, secret: {file: secret},"
            f" poll_every: {HOURS_OF_TRUST}h}}\n"
            "workspaces: [{workspace: acme, credential:"
            " {kind: workspace_access_token, token: {file: token}}}]\n"
        )

    # -- the daemon

    @asynccontextmanager
    async def listeners(self, config: Config, _: Live, hooks: HookEvents) -> AsyncIterator[None]:
        """The door, and the hook that leads to it."""
        assert config.hooks is not None
        door = open_hooks_door(
            config.hooks, hooks, store=config.store, clock=self.clock, environment=os.environ
        )
        async with door as address:
            hook = {"uuid": "{f0}", "active": True, "events": list(EVENTS)}
            self.acme.settings["hooks"] = [hook | {"url": f"http://{address.text}{self.door}"}]
            self.simulator.world.secrets["{f0}"] = SECRET
            yield

    @asynccontextmanager
    async def living(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """The life of the daemon, from the start of its first backup."""
        async with living(lambda: load(self.path), self.clock, monkeypatch, self.listeners) as daemon:
            self.daemon: Driven = daemon
            yield

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, while the clock stands still but for naps, which wake those who are due."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.clock.move(0)
                for _ in range(20):
                    await asyncio.sleep(0)
                await asyncio.sleep(0.002)

    def is_quiet(self) -> bool:
        """Whether no job runs, and no visit runs or is due."""
        queue, now = self.daemon.service._hooks._queue, self.clock.monotonic()
        places = queue._places.values()  # type: ignore[attr-defined]
        visits = any(one.waiting is None or one.due <= now for one in places)
        return self.daemon.is_settled() and not visits

    async def quiet(self) -> None:
        await self.until(self.is_quiet)

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass, and what is due then be done."""
        self.clock.move(seconds)
        await self.quiet()

    async def deliver(self) -> None:
        """Wait until every hook that is not held has reached the door."""
        await asyncio.to_thread(self.simulator.hooks.settle)

    async def visits(self) -> None:
        """Let all visits take place: the first, those of hooks that came twice, and the second looks."""
        await self.pass_time(DEBOUNCE)
        for _ in range(10):
            if not len(self.daemon.service._hooks._queue):  # type: ignore[arg-type]
                return
            await self.pass_time(AGAIN_SECONDS)
        raise AssertionError("visits follow visits without an end")

    async def run(self) -> JsonObject:
        """The next scheduled run; returns its record."""
        before = len(self.runs())
        self.daemon.move_to_next_run()
        await self.quiet()
        runs = self.runs()
        assert len(runs) == before + 1
        return runs[-1]

    def state(self) -> HooksState:
        """What the daemon tells about hooks."""
        return self.daemon.service._hooks.state()

    # -- upstream

    async def push(self, name: str, text: str) -> str:
        repository = self.acme.repositories[name]
        pushed: str = await asyncio.to_thread(repository.commit, "main", {"a.txt": text.encode()}, text)
        return pushed

    def comment(self, text: str) -> None:
        """A comment on the pull request of `website`."""
        [ann] = self.simulator.world.users.values()
        self.acme.repositories["website"].pull_requests[1].comment(text, author=ann)

    def git_requests(self, name: str) -> int:
        return sum(f"/{name}.git/" in one.path for one in self.simulator.requests)

    # -- the store

    def runs(self) -> list[JsonObject]:
        """The records of scheduled runs."""
        with Store.open(self.store) as store:
            records = [one.data for one in store.runs("backup")]
        return [one for one in records if not one["facts"].get("announced")]

    def folder(self, name: str) -> RepositoryFolder:
        with Store.open(self.store) as store:
            [found] = [one for one in store.repositories() if one.slug == name]
            return found

    def has(self, name: str) -> bool:
        """Whether a repository has a snapshot."""
        with Store.open(self.store) as store:
            found = [one.metadata.latest() for one in store.repositories() if one.slug == name]
        return found not in ([], [None])

    def tip(self, name: str) -> str | None:
        """The main branch in the last snapshot of a repository."""
        metadata = self.folder(name).metadata
        latest = metadata.latest()
        assert latest is not None
        known = metadata.code_refs(latest)
        return None if known is None else known[0].refs.get(b"refs/heads/main")

    def comments(self) -> str:
        """The pull request in the last snapshot of `website`, as text."""
        metadata = self.folder("website").metadata
        latest = metadata.latest()
        assert latest is not None
        return json.dumps(metadata.read(latest, PULL_REQUEST))


@asynccontextmanager
async def hooked_world(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, faults: HookFaults | None = None, early: bool = False
) -> AsyncIterator[Hooked]:
    """The world and its simulator. `early`: hooks come before what they announce can be seen."""
    monkeypatch.setattr(hooks_module, "DEBOUNCE_SECONDS", DEBOUNCE)
    monkeypatch.setattr(announcements, "LATE", LATE)
    monkeypatch.setattr(numbered, "FRESH", timedelta(seconds=LATE))
    clock = DrivenClock(datetime(2026, 3, 10, 7, 13, tzinfo=UTC))
    world = World(folder / "upstream", clock=clock.now)
    ann = world.add_user("Ann Archer", "ann@acme.example")
    acme = world.add_workspace("acme", "Acme")
    for name in NAMES:
        acme.add_repository(name).commit("main", {"a.txt": b"0\n"}, "Begin\n")
    website = acme.repositories["website"]
    website.commit("topic", {"b.txt": b"0\n"}, "Topic\n")
    website.open_pull_request(title="Topic", source="topic", destination="main", author=ann)
    with Simulator(world, switches=Switches(hooks_precede_changes=early), hook_faults=faults) as simulator:
        yield Hooked(folder, simulator, clock)
