"""A world of three repositories, its backups by schedule, and those that hooks cause."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from mirror import backup
from mirror.backup.announced import AnnouncedBackups, Visited
from mirror.backup.announcements import Announcements
from mirror.bitbucket.client.budget import Budget
from mirror.config import Config, load
from mirror.model import JsonObject, Part, Run, time_from_text
from mirror.simulator import Simulator, World
from mirror.simulator.world.people import User
from mirror.simulator.world.sample import SCOPES
from mirror.store.reading.reader import RepositoryFolder, Store
from mirror.store.writing.writer import create_or_open
from tests.clock import HeldClock
from tests.e2e.helpers import MADE, write_config

NAMES = ("website", "shop", "tools")


class Hooked:
    """See the module. `website` has a pull request."""

    def __init__(self, simulator: Simulator, config: Config, ann: User) -> None:
        self.simulator, self.config, self.ann = simulator, config, ann
        self.acme = simulator.world.workspaces["acme"]
        self.clock = HeldClock()
        self.budget = Budget(self.clock, reserve=10, limit=1000)
        self.start()

    def start(self) -> None:
        """Begin as a process does that knows nothing yet."""
        self.announcements = Announcements(self.clock, poll_every=86_400)
        self.announced = AnnouncedBackups(
            self.config, self.announcements, clock=self.clock, environment=os.environ, budget=self.budget
        )

    # -- upstream

    def repository(self, name: str) -> Any:
        return self.acme.repositories[name]

    def push(self, name: str, text: str) -> str:
        value: str = self.repository(name).commit("main", {"a.txt": text.encode()}, f"{text}\n")
        return value

    def comment(self, text: str) -> None:
        self.repository("website").pull_requests[1].comment(text, author=self.ann)

    def paths(self) -> list[str]:
        """The requests since this was asked last."""
        seen = [f"{one.method} {one.path}" for one in self.simulator.requests]
        self.simulator.requests.clear()
        return seen

    # -- backups

    async def run(self, after: float = 3600) -> Run:
        """A scheduled run, so much later."""
        self.clock.elapsed += after
        return await backup.run(
            self.config, clock=self.clock, environment=os.environ, budget=self.budget,
            announcements=self.announcements,
        )  # fmt: skip

    async def hook(self, name: str, *, again: bool = False) -> Visited:
        """A hook about a repository, and the visit that it causes. `again`: it came before."""
        uuid = self.repository(name).uuid
        self.announcements.announce(uuid, again=again)
        self.clock.elapsed += 2
        return await self.announced.backup(uuid, git_only=again)

    async def quiet(self) -> None:
        """Two runs, after which nothing is left to ask for."""
        await self.run()
        await self.run()
        self.paths()

    async def trusted(self) -> None:
        """Runs until the hooks are trusted."""
        await self.quiet()
        await self.hook("tools")
        for _ in range(3):
            await self.run()
        assert self.announcements.are_trusted()
        self.paths()

    async def gathered(self) -> None:
        """Write what was gathered, as at the end of the process."""
        await self.announced.stop()

    async def wait(self, seconds: float, condition: Callable[[], bool]) -> None:
        """Let so much time pass, and wait for what follows."""
        await self.clock.pass_time(seconds)
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0.01)

    @contextmanager
    def nearly_used_up(self) -> Iterator[None]:
        """As if others had used most of the hour's requests."""
        [identity] = {identity for identity, group in self.budget._purses if group == "api"}
        limit = self.budget.used(identity, "api")[1]
        self.budget.learn(identity, "api", limit=limit, remaining=limit // 5)
        yield
        self.clock.elapsed += 3600

    # -- the store

    def store(self) -> Store:
        return Store.open(self.config.store)

    def folder(self, name: str) -> RepositoryFolder:
        with self.store() as store:
            [found] = [one for one in store.repositories() if one.full_name == f"acme/{name}"]
            return found

    def snapshots(self, name: str) -> int:
        return len(self.folder(name).metadata.snapshots())

    def document(self, name: str, path: str) -> Any:
        """A document of a repository's last snapshot."""
        metadata = self.folder(name).metadata
        latest = metadata.latest()
        assert latest is not None
        return metadata.read(latest, path)

    def tip(self, name: str) -> str | None:
        """The main branch of a repository's last snapshot."""
        metadata = self.folder(name).metadata
        latest = metadata.latest()
        assert latest is not None
        known = metadata.code_refs(latest)
        return None if known is None else known[0].refs.get(b"refs/heads/main")

    def part(self, name: str, part: str) -> Part:
        latest = self.folder(name).metadata.latest()
        assert latest is not None
        return latest.parts[part]

    def records(self) -> list[JsonObject]:
        with self.store() as store:
            return [one.data for one in store.runs("backup")]

    def last_ended(self) -> datetime:
        return time_from_text(self.records()[-1]["ended"])


@asynccontextmanager
async def hooked_world(folder: Path) -> AsyncIterator[Hooked]:
    """The world, its simulator, and an empty store."""
    world = World(folder / "upstream")
    ann = world.add_user("Ann Archer", "ann@acme.example")
    acme = world.add_workspace("acme", "Acme")
    for name in NAMES:
        acme.add_repository(name).commit("main", {"a.txt": b"0\n"}, "Begin\n")
    website = acme.repositories["website"]
    website.commit("topic", {"b.txt": b"0\n"}, "Topic\n")
    website.open_pull_request(title="Topic", source="topic", destination="main", author=ann)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        config = load(write_config(folder, simulator, token))
        create_or_open(config.store, now=MADE, command="test").close()
        made = Hooked(simulator, config, ann)
        yield made
        await made.announced.stop()
