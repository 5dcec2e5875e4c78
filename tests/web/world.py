"""A store that was lived with for weeks: commits, an accident, hostile texts, a rename, and several runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mirror.config import load
from mirror.model import Snapshot
from mirror.simulator import Simulator, World
from mirror.simulator.switches import Switches
from mirror.simulator.world.sample import SCOPES, accident, populate
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Store
from tests.archive.test_hostile import hostile
from tests.archive.world import furnish
from tests.e2e.helpers import write_config
from tests.place import Place

DAY = 86_400


@dataclass(frozen=True)
class Lived:
    """The store, and the world that it is of."""

    world: World
    store: Path

    def folder(self, name: str) -> AnyFolder:
        """The folder of a repository, or of the workspace."""
        with Store.open(self.store) as store:
            several: list[AnyFolder] = [*store.repositories(), *store.workspaces()]
            [found] = [one for one in several if one.full_name == name]
            return found

    def ids(self, name: str) -> list[str]:
        """The ids of the snapshots of a repository, the oldest first."""
        return sorted(self.folder(name).metadata.tags())

    def latest(self, name: str) -> Snapshot:
        """The newest snapshot of a repository."""
        found = self.folder(name).metadata.latest()
        assert found is not None
        return found


async def live(folder: Path) -> Lived:
    """Live with the sample workspace for some weeks, and back it up meanwhile."""
    world = World(folder / "upstream")
    populate(world)
    scopes = SCOPES | {"issue", "wiki", "snippet"}
    token = world.add_workspace_access_token("acme", scopes)
    with Simulator(world, switches=Switches(issue_tracker=True)) as simulator:
        place = Place(folder, simulator, load(write_config(folder, simulator, token)))
        await place.run()
        furnish(world)
        await place.run()
        acme = world.workspaces["acme"]
        for number in range(2):
            place.clock.elapsed += 9 * DAY
            content = b"value = 1\n" * (number + 1)
            acme.repositories["api"].commit("main", {f"src/file{number}.py": content}, f"Add {number}\n")
            await place.run()
        accident(world)
        acme.rename_repository("handbook", "guide")
        await place.run()
        hostile(world)
        await place.run(full=True)
    return Lived(world, place.config.store)
