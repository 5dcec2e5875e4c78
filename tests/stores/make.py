"""Write the kept store of this version: `python -m tests.stores.make VERSION`, once for each release.

Never write a kept store again: it stands for the disks of users.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

from mirror import backup, drill, prune
from mirror.backup.announced import AnnouncedBackups
from mirror.backup.announcements import Announcements
from mirror.bitbucket.client.budget import Budget
from mirror.config import Config, Retention, load
from mirror.config.copies import CopyConfig
from mirror.copy import checking, sending
from mirror.copy.reading import Copy
from mirror.model import Selector
from mirror.model.scope import Scope
from mirror.retention import Policy
from mirror.simulator import Simulator, Switches, World
from mirror.simulator.git.lfs import add_object
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.sample import SCOPES, accident, populate
from mirror.store.writing.writer import open_store
from tests.bucket.servers import moto
from tests.clock import FakeClock
from tests.e2e.helpers import write_config

HERE = Path(__file__).parent


async def make(version: str) -> None:
    """Make two backups with an accident between them, and record what upstream had before it, including an
    LFS object, a wiki and snippets. Then prune snapshots of another repository, erase one of its documents,
    back up what a hook announces between two runs of a workspace's own schedule, rehearse a restore, copy all
    of it to object storage, and check the copy."""
    folder = Path(tempfile.mkdtemp())
    clock = FakeClock()
    world = World(folder / "upstream", clock=clock.now)
    populate(world)
    website = world.workspaces["acme"].repositories["website"]
    website.commit("design", {"logo.psd": add_object(website, b"A logo\n" * 500)}, "A logo\n")
    # No real access token has this scope, but the kept store must contain snippets.
    token = world.add_workspace_access_token("acme", SCOPES | {"snippet"})
    before = {
        name: {ref.decode(): value for ref, value in repository.refs().items()}
        for name, repository in world.workspaces["acme"].repositories.items()
    }
    with Simulator(world, switches=Switches(wikis=True)) as simulator:
        config = load(write_config(folder, simulator, token))
        await backup.run(config, clock=clock, environment=os.environ)
        clock.elapsed += 3600
        accident(world)
        scratch = world.workspaces["acme"].add_repository("scratch")
        for number in range(3):
            scratch.commit("main", {"n.txt": b"%d\n" % number}, "More\n", parents=())
            await backup.run(config, clock=clock, environment=os.environ)
            clock.elapsed += 3600
        rule = Retention(Policy(keep_last=1))
        kept = replace(config, workspaces=tuple(replace(one, retention=rule) for one in config.workspaces))
        selector = Selector("acme", "scratch")
        await prune.prune(kept, [selector], clock=clock, environment=os.environ)
        await prune.erase(
            config.store, selector, prune.ErasureTarget("repository.json"), reason="An example", by="nobody",
            clock=clock, environment=os.environ,
        )  # fmt: skip
        await _announced(config, website, clock)
    rehearsed = await drill.run(config.store, clock=clock, environment=os.environ)
    with open_store(config.store, command="mirror drill") as writer:
        writer.write_run(rehearsed.run)
    with moto() as server:
        name = server.make_bucket()
        to = CopyConfig(f"s3://{name}/acme", endpoint=server.endpoint)
        environment = {**os.environ, **server.environment()}
        copied = await sending.run(config, to, clock=clock, environment=environment)
        assert copied.exit_code == 0, copied.problems
        begun = clock.now()
        async with server.open(name, prefix="acme") as bucket:
            found = await checking.check(await Copy.open(bucket), read=True, store=config.store)
        assert not found.faults
    clock.elapsed += 60
    checking.remember(config.store, [checking.Answer(to.to, begun, clock.now(), found)])
    (HERE / f"{version}.json").write_text(json.dumps(before, indent=2, sort_keys=True) + "\n")
    with tarfile.open(HERE / f"{version}.tar.gz", "w:gz") as archive:
        archive.add(folder / "store", "store")


async def _announced(config: Config, website: SimRepository, clock: FakeClock) -> None:
    """A scheduled run of the workspace that hears hooks, a push that a hook announces, and another run."""
    heard = Announcements(clock)
    scope = Scope(only="acme")
    await backup.run(config, scope=scope, announcements=heard, clock=clock, environment=os.environ)
    clock.elapsed += 60
    website.commit("main", {"pushed.txt": b"announced\n"}, "Announced\n")
    visits = AnnouncedBackups(
        config, heard, clock=clock, environment=os.environ, budget=Budget(clock, reserve=0)
    )
    heard.announce(website.uuid)
    await visits.backup(website.uuid, git_only=False)
    await visits.stop()
    clock.elapsed += 3600
    await backup.run(config, scope=scope, announcements=heard, clock=clock, environment=os.environ)
    clock.elapsed += 3600


if __name__ == "__main__":
    asyncio.run(make(sys.argv[1]))
