"""An empty simulated workspace to restore into, and the restore itself, in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.auth.credentials import ApiToken, Credential, WorkspaceAccessToken
from mirror.auth.secrets import SecretSource
from mirror.bitbucket.client.budget import Budget
from mirror.cli.system import SystemClock
from mirror.config.settings import BitbucketUrls, Config, Limits, NetworkConfig, WorkspaceConfig
from mirror.connect import client_of
from mirror.model import Selector
from mirror.restore import into
from mirror.restore.carry.report import Report
from mirror.restore.plan.shown import Planned
from mirror.restore.plan.source import Options
from mirror.restore.session import Settings
from mirror.simulator import Simulator, Switches, World
from mirror.simulator.world.world import SimWorkspace
from tests.simulator.helpers import EVERYTHING

WORKSPACE, EMAIL = "spare", "rita@spare.example"
PEOPLE = {"Ann Archer": "ann@acme.example", "Bob Baker": "bob@acme.example", "Eve Eng": "eve@acme.example"}


class Hasty(SystemClock):
    """The real clock, for those who do not wait for real."""

    async def sleep(self, seconds: float) -> None:
        """Sleep a hundredth of it."""
        await super().sleep(seconds / 100)


@dataclass
class Upstream:
    """A simulated Bitbucket with one empty workspace, and who restores into it."""

    simulator: Simulator
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> SimWorkspace:
        """The workspace that is restored into."""
        return self.simulator.world.workspaces[WORKSPACE]

    @property
    def requests(self) -> list[tuple[str, str]]:
        """The method and path of every request to the API so far."""
        return [(one.method, one.path) for one in self.simulator.requests if one.path.startswith("/2.0")]

    def config(self, store: Path, *credentials: Credential) -> Config:
        """A configuration that reaches it."""
        urls = BitbucketUrls(self.simulator.api_url, self.simulator.git_url, self.simulator.oauth_url)
        several = credentials or (ApiToken(EMAIL, SecretSource("env", "RITA")),)
        entry = WorkspaceConfig(WORKSPACE, several)
        limits = Limits(api_limit=1_000_000)
        return Config(store, urls, (entry,), limits=limits, network=NetworkConfig(proxy="none"))

    def token(self, *scopes: str) -> Credential:
        """An access token of the workspace."""
        secret = self.simulator.world.add_workspace_access_token(WORKSPACE, scopes)
        self.environment["TOKEN"] = secret
        return WorkspaceAccessToken(SecretSource("env", "TOKEN"))

    async def restore(
        self, store: Path, selector: str = "acme", to: str = f"bitbucket:{WORKSPACE}", *,
        credentials: tuple[Credential, ...] = (), options: Options | None = None, **more: Any,
    ) -> Report | Planned:  # fmt: skip
        """Restore in this process."""
        config = self.config(store, *credentials)
        settings = Settings(
            state=self.folder / "state", options=options or Options(),
            environment=os.environ, **more,
        )  # fmt: skip
        clock = Hasty()
        async with client_of(
            config, config.workspaces[0], clock=clock, environment=self.environment, budget=Budget(clock)
        ) as client:
            return await into.run(
                store,
                Selector.parse(selector),
                into.Place.parse(to),
                settings,
                client=client,
                git_url=config.bitbucket.git_url,
                clock=clock,
            )


@contextmanager
def upstream(folder: Path, switches: Switches | None = None) -> Iterator[Upstream]:
    """Run one, until the block ends."""
    world = World(folder / "target", limit=1_000_000)
    world.limits["git"] = 1_000_000
    for name, email in PEOPLE.items():
        world.add_user(name, email)
    rita = world.add_user("Rita Restores", EMAIL)
    world.add_workspace(WORKSPACE).groups["developers"] = "Developers"
    with Simulator(world, switches=switches or Switches()) as simulator:
        yield Upstream(simulator, folder, {"RITA": world.add_api_token(rita, EVERYTHING)})
