"""The folder of a repository leaves one store and comes into another: both stay whole, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror import backup, verify
from mirror.cluster import carrying
from mirror.config import Config, load
from mirror.errors import DamageFound, Locked, MirrorError, UsageError
from mirror.model import Run
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.store.format import layout
from mirror.store.reading.reader import RepositoryFolder, Store
from mirror.store.writing import moving
from mirror.store.writing.writer import StoreWriter, create_or_open
from tests.clock import FakeClock
from tests.crash.actions import again, changes, small
from tests.e2e.helpers import write_config
from tests.place import Killed


class Hosts:
    """Two stores, `a` with the repository after two backups and `b` without, and the Bitbucket of both."""

    def __init__(self, folder: Path, world: World, config: Config) -> None:
        self.folder, self.world, self.config = folder, world, config
        self.clock = FakeClock()
        self.a, self.b = folder / "a", folder / "b"

    @property
    def uuid(self) -> str:
        return self.world.workspaces["acme"].repositories["website"].uuid

    async def backup(self, store: Path) -> Run:
        self.clock.elapsed += 3600
        config = replace(self.config, store=store)
        return await backup.run(config, [], clock=self.clock, environment=os.environ)

    async def findings(self, store: Path) -> list[str]:
        run = await verify.run(store, clock=self.clock)
        return [f"{one['file']}: {one['problem']}" for one in run.facts["findings"]]

    def held(self, store: Path) -> RepositoryFolder | None:
        with Store.open(store) as opened:
            return opened.folder_of_repository(self.uuid)

    def snapshots(self, store: Path) -> list[str]:
        folder = self.held(store)
        assert folder is not None
        return [one.id for one in folder.metadata.snapshots()]

    async def carry(self, source: Path, target: Path) -> None:
        """Move the repository from one store to the other, as often as it takes."""
        waiting = moving.waiting_place(target, self.uuid)

        async def send(folder: RepositoryFolder) -> None:
            with Store.open(target) as store:
                moving.prepare(store, folder.root / folder.place, self.clock)

        self.clock.elapsed += 60
        await carrying.depart(source, self.uuid, to="b", send=send, clock=self.clock)
        if waiting.exists():
            await carrying.arrive(target, waiting, self.uuid, origin="shard a", clock=self.clock)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    world = World(folder / "upstream")
    small(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world) as simulator:
        hosts = Hosts(folder, world, load(write_config(folder, simulator, token)))
        for one in (hosts.a, hosts.b):
            create_or_open(one, now=hosts.clock.now()).close()
        asyncio.run(hosts.backup(hosts.a))
        changes(world)
        asyncio.run(hosts.backup(hosts.a))
        yield hosts


@pytest.fixture
def hosts(made: Hosts, tmp_path: Path) -> Hosts:
    """The hosts with stores of the test's own."""
    mine = Hosts(tmp_path, made.world, made.config)
    mine.clock.elapsed = made.clock.elapsed
    for one in ("a", "b"):
        shutil.copytree(made.folder / one, tmp_path / one)
    return mine


async def test_both_stores_are_whole_after_a_move_and_the_next_backup_goes_on(hosts: Hosts) -> None:
    before = hosts.snapshots(hosts.a)
    await hosts.carry(hosts.a, hosts.b)

    assert hosts.held(hosts.a) is None
    assert hosts.snapshots(hosts.b) == before and len(before) == 2
    [away] = (hosts.a / layout.QUARANTINE).iterdir()
    assert (away / layout.LEDGER_FILE).is_file()
    assert await hosts.findings(hosts.a) == [] and await hosts.findings(hosts.b) == []

    with Store.open(hosts.b) as store:
        known = store.history().find("repository", hosts.uuid)
        assert known is not None and known.confirmed is not None and known.outcome == "saved"
    again(hosts.world)
    run = await hosts.backup(hosts.b)
    assert [str(one.outcome) for one in run.entries if one.kind == "repository"] == ["saved"]
    assert len(hosts.snapshots(hosts.b)) == 3
    assert await hosts.findings(hosts.b) == []


async def test_a_repository_moves_away_and_back(hosts: Hosts) -> None:
    await hosts.carry(hosts.a, hosts.b)
    await hosts.carry(hosts.b, hosts.a)
    assert hosts.held(hosts.b) is None
    assert len(hosts.snapshots(hosts.a)) == 2
    assert await hosts.findings(hosts.a) == [] and await hosts.findings(hosts.b) == []
    await hosts.carry(hosts.a, hosts.b)
    assert len(list((hosts.a / layout.QUARANTINE).iterdir())) == 2
    assert await hosts.findings(hosts.a) == [] and await hosts.findings(hosts.b) == []


async def test_a_checkpoint_after_it_left_expects_nothing(hosts: Hosts) -> None:
    await hosts.carry(hosts.a, hosts.b)
    for store in (hosts.a, hosts.b):
        with create_or_open(store, now=hosts.clock.now()) as writer:
            hosts.clock.elapsed += 60
            now = hosts.clock.now()
            run = Run(writer.new_run_id(now), "verify", now, now, "mirror")
            writer.write_run(run, checkpoint_every=1)
        assert await hosts.findings(store) == []


async def test_a_snapshot_that_is_lost_after_the_move_is_found(hosts: Hosts) -> None:
    await hosts.carry(hosts.a, hosts.b)
    folder = hosts.held(hosts.b)
    assert folder is not None
    shutil.rmtree(hosts.b / folder.place)
    [finding] = await hosts.findings(hosts.b)
    assert "the folder that run records name is missing" in finding


async def test_what_is_damaged_is_not_taken(hosts: Hosts) -> None:
    with Store.open(hosts.b) as store:
        folder = hosts.held(hosts.a)
        assert folder is not None
        waiting = moving.prepare(store, hosts.a / folder.place, hosts.clock)
    pack, *_ = waiting.glob("workspaces/*/repositories/*/code.git/objects/pack/*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    with pytest.raises(DamageFound, match=r"acme/website is not taken, because it is damaged: .*\.pack"):
        await carrying.arrive(hosts.b, waiting, hosts.uuid, origin="shard a", clock=hosts.clock)
    assert hosts.held(hosts.b) is None


async def test_an_older_copy_of_a_folder_is_not_taken(hosts: Hosts) -> None:
    older = hosts.folder / "older"
    shutil.copytree(hosts.a, older)
    again(hosts.world)
    await hosts.backup(hosts.a)
    folder = hosts.held(hosts.a)
    assert folder is not None
    shutil.rmtree(hosts.a / folder.place)
    shutil.copytree(older / folder.place, hosts.a / folder.place)
    with pytest.raises(DamageFound, match=r"snapshots\.json"):
        await carrying.adopt(hosts.b, hosts.a / folder.place, clock=hosts.clock)


async def test_a_folder_that_a_backup_keeps_changing_stays(hosts: Hosts) -> None:
    async def send(_: RepositoryFolder) -> None:
        again(hosts.world)
        await hosts.backup(hosts.a)

    with pytest.raises(Locked, match="backed up again and again"):
        await carrying.depart(hosts.a, hosts.uuid, to="b", send=send, clock=hosts.clock)
    assert hosts.held(hosts.a) is not None
    assert await hosts.findings(hosts.a) == []


async def test_a_folder_that_somebody_brought_is_adopted_once(hosts: Hosts) -> None:
    folder = hosts.held(hosts.a)
    assert folder is not None
    await carrying.adopt(hosts.b, hosts.a / folder.place, clock=hosts.clock)
    assert hosts.snapshots(hosts.b) == hosts.snapshots(hosts.a)
    assert await hosts.findings(hosts.b) == []
    with pytest.raises(UsageError, match="in this store already"):
        await carrying.adopt(hosts.b, hosts.a / folder.place, clock=hosts.clock)


async def test_a_folder_that_stands_alone_needs_a_known_workspace(hosts: Hosts) -> None:
    folder = hosts.held(hosts.a)
    assert folder is not None
    alone = hosts.folder / "alone"
    shutil.copytree(hosts.a / folder.place, alone)
    with pytest.raises(UsageError, match="does not know its workspace acme"):
        await carrying.adopt(hosts.b, alone, clock=hosts.clock)
    with pytest.raises(UsageError, match="is not the folder of a repository"):
        await carrying.adopt(hosts.b, hosts.folder, clock=hosts.clock)
    await hosts.carry(hosts.a, hosts.b)
    # Here the workspace is known, and the folder's snapshots are all it has.
    await carrying.adopt(hosts.a, alone, clock=hosts.clock)
    assert await hosts.findings(hosts.a) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["bring_back", "write_run", "rebuild_index"])
async def test_what_never_arrived_comes_back_as_it_left(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    """Killed at a step of it, the same call finishes it. An older folder in the quarantine stays there."""
    await hosts.carry(hosts.a, hosts.b)
    await hosts.carry(hosts.b, hosts.a)
    again(hosts.world)
    await hosts.backup(hosts.a)
    before = hosts.snapshots(hosts.a)
    with Store.open(hosts.a) as store:
        known = store.history().find("repository", hosts.uuid)
    assert known is not None and known.confirmed is not None

    async def send(_: RepositoryFolder) -> None:
        pass

    hosts.clock.elapsed += 60
    await carrying.depart(hosts.a, hosts.uuid, to="b", send=send, clock=hosts.clock)
    assert hosts.held(hosts.a) is None and len(list((hosts.a / layout.QUARANTINE).iterdir())) == 2
    place = carrying if step == "bring_back" else StoreWriter
    real = getattr(place, step)

    def dies(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            real(*args, **kwargs)
        raise Killed

    async def come_back() -> Run | None:
        hosts.clock.elapsed += 60
        return await carrying.come_back(hosts.a, hosts.uuid, origin="shard b", clock=hosts.clock)

    with monkeypatch.context() as patched:
        patched.setattr(place, step, dies)
        with pytest.raises(Killed):
            await come_back()
    assert await hosts.findings(hosts.a) == []
    await come_back()
    assert await come_back() is None
    assert hosts.snapshots(hosts.a) == before and len(list((hosts.a / layout.QUARANTINE).iterdir())) == 1
    with Store.open(hosts.a) as store:
        after = store.history().find("repository", hosts.uuid)
    assert after is not None and (after.confirmed, after.outcome) == (known.confirmed, known.outcome)
    assert await hosts.findings(hosts.a) == []


async def test_only_what_lies_in_the_quarantine_as_it_left_comes_back(hosts: Hosts) -> None:
    async def send(_: RepositoryFolder) -> None:
        pass

    async def come_back() -> Run | None:
        return await carrying.come_back(hosts.a, hosts.uuid, origin="shard b", clock=hosts.clock)

    assert await come_back() is None  # it never left
    await carrying.depart(hosts.a, hosts.uuid, to="b", send=send, clock=hosts.clock)
    [aside] = (hosts.a / layout.QUARANTINE).iterdir()
    ledger = aside / layout.LEDGER_FILE
    text = ledger.read_bytes()
    ledger.chmod(0o600)
    ledger.write_bytes(text.replace(b"1", b"2", 1))
    with pytest.raises(MirrorError, match="is not in quarantine/ as it left"):
        await come_back()
    ledger.write_bytes(text)
    assert await come_back() is not None
    found = hosts.held(hosts.a)
    assert found is not None
    shutil.rmtree(hosts.a / found.place)
    with pytest.raises(MirrorError, match="no run record says that"):
        await come_back()
    # Where it never was, nothing is missing.
    assert await carrying.come_back(hosts.b, hosts.uuid, origin="shard a", clock=hosts.clock) is None


STEPS = ("write_run", "put_away", "bring_in", "rebuild_index", "sync_tree", "rmtree")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_move_killed_at_a_step_is_finished_by_the_same_call(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    before = hosts.snapshots(hosts.a)
    deaths = 0

    def dies(real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            nonlocal deaths
            result = real(*args, **kwargs) if when == "after" else None
            deaths += 1
            if deaths <= 2:
                raise Killed
            return real(*args, **kwargs) if when == "before" else result

        return stand_in

    owner = {"write_run": StoreWriter, "rebuild_index": StoreWriter, "rmtree": shutil}
    place = owner.get(step, carrying)
    monkeypatch.setattr(place, step, dies(getattr(place, step)))
    for _ in range(4):
        try:
            await hosts.carry(hosts.a, hosts.b)
        except Killed:
            held = [one for one in (hosts.a, hosts.b) if hosts.held(one) is not None]
            assert len(held) <= 1
            for store in (hosts.a, hosts.b):
                assert await hosts.findings(store) == []
    assert deaths >= 1
    assert hosts.held(hosts.a) is None and hosts.snapshots(hosts.b) == before
    assert await hosts.findings(hosts.a) == [] and await hosts.findings(hosts.b) == []
    assert not moving.waiting_place(hosts.b, hosts.uuid).exists()
