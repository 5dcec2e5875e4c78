"""A world to back up, with everything that a run needs."""

from __future__ import annotations

import os
from pathlib import Path

from mirror import backup
from mirror.config import Config
from mirror.git.mirrors.maintenance import DEFAULT_MAINTENANCE
from mirror.model import Run, Selector
from mirror.simulator import Simulator
from mirror.store.reading.reader import Store
from tests.clock import FakeClock


class Killed(BaseException):
    """Ends a run at once. No code of the program raises or catches it."""


class Place:
    """A world, its simulator, a configuration, and a clock that all runs share."""

    def __init__(self, folder: Path, simulator: Simulator, config: Config) -> None:
        self.folder = folder
        self.simulator = simulator
        self.world = simulator.world
        self.acme = self.world.workspaces["acme"]
        self.config = config
        self.clock = FakeClock()
        self.maintenance_limits = DEFAULT_MAINTENANCE

    async def run(self, *selectors: str, dry_run: bool = False, full: bool = False) -> Run:
        self.clock.elapsed += 3600
        return await backup.run(
            self.config,
            [Selector.parse(text) for text in selectors],
            clock=self.clock,
            environment=os.environ,
            dry_run=dry_run,
            full=full,
            maintenance_limits=self.maintenance_limits,
        )

    def store(self) -> Store:
        return Store.open(self.config.store)
