"""Git LFS from end to end: pushed with the real git-lfs, backed up, lost upstream, and restored."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirror import prune, restore, verify
from mirror.browse.export import export
from mirror.browse.status import status
from mirror.config import Retention, load
from mirror.git.lfs.transfer import object_path, part_path
from mirror.git.wire.client import GitLogin
from mirror.model import Run, RunEntry, Selector
from mirror.retention import Policy
from mirror.simulator import Fault, Simulator, Switches, World
from mirror.simulator.git.lfs import add_object, object_file
from mirror.simulator.world.sample import SCOPES
from tests.e2e.helpers import json_of, mirror, write_config
from tests.git.backend import git, need_git
from tests.place import Place

pytestmark = pytest.mark.git

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
# What `git lfs install` would write, for these commands only.
FILTERS = (
    "-c", "filter.lfs.smudge=git-lfs smudge -- %f", "-c", "filter.lfs.clean=git-lfs clean -- %f",
    "-c", "filter.lfs.process=git-lfs filter-process", "-c", "filter.lfs.required=true",
    "-c", "lfs.locksverify=false",
)  # fmt: skip


def content(number: int, size: int = 40_000) -> bytes:
    return random.Random(number).randbytes(size)


def oid_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lfs(*words: str, cwd: Path | None = None) -> str:
    """Run git with git-lfs's filters."""
    return git(*FILTERS, *words, cwd=cwd)


@pytest.fixture(autouse=True)
def _needs_git() -> None:
    need_git()
    if shutil.which("git-lfs") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have git-lfs")
        pytest.skip("git-lfs is not installed")


@pytest.fixture(params=[Switches.default(), replace(Switches(), lfs_ranges=False, lfs_expiry_is_a_time=True,
                                                    lfs_wants_verify=False)])  # fmt: skip
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    world = World(tmp_path / "upstream")
    world.add_workspace("acme").add_repository("game")
    token = world.add_workspace_access_token("acme", SCOPES)
    with Simulator(world, switches=request.param) as simulator:
        yield Place(tmp_path, simulator, load(write_config(tmp_path, simulator, token)))


def game(run: Run) -> RunEntry:
    [entry] = [one for one in run.entries if one.full_name == "acme/game"]
    return entry


def held(place: Place) -> set[str]:
    """The objects that the store has."""
    with place.store() as store:
        return {path.name for path in store.repository(Selector("acme", "game")).lfs_objects()}


def address(place: Place, slug: str, scopes: frozenset[str]) -> str:
    token = place.world.add_workspace_access_token("acme", scopes)
    return place.simulator.git_url.replace("://", f"://x-token-auth:{token}@") + f"/acme/{slug}.git"


def push_with_git_lfs(place: Place, folder: Path) -> None:
    """Create and push a history with the real git-lfs."""
    url = address(place, "game", SCOPES | {"repository:write"})
    work = folder / "work"
    lfs("init", "-q", "-b", "main", str(work))
    (work / ".gitattributes").write_bytes(ATTRIBUTES)
    for number in range(3):
        (work / "model.bin").write_bytes(content(number))
        (work / f"level{number}.bin").write_bytes(content(10 + number))
        lfs("add", "-A", cwd=work)
        lfs("commit", "-q", "-m", f"step {number}", cwd=work)
    lfs("tag", "-a", "-m", "one", "v1", cwd=work)
    git("remote", "add", "origin", url, cwd=work)
    lfs("lfs", "push", "--all", "origin", cwd=work)
    lfs("push", "-q", "origin", "main", "v1", cwd=work)


async def test_from_git_lfs_and_back(place: Place, tmp_path: Path) -> None:
    push_with_git_lfs(place, tmp_path)
    wanted = {oid_of(content(number)) for number in (0, 1, 2, 10, 11, 12)}
    run = await place.run()
    assert run.exit_code == 0, run
    assert game(run).parts["lfs"].to_json() == {
        "state": "complete", "counts": {"objects": 6, "bytes": 240_000, "missing": 0},
    }  # fmt: skip
    assert held(place) == wanted
    # Upstream rewrote the branch and removed its objects; the store keeps them.
    work = tmp_path / "work"
    lfs("reset", "-q", "--hard", "HEAD~2", cwd=work)
    (work / "model.bin").write_bytes(content(99))
    lfs("commit", "-q", "-a", "-m", "another way", cwd=work)
    lfs("push", "-q", "-f", "origin", "main", cwd=work)
    git("lfs", "push", "--all", "origin", cwd=work)
    for number in (1, 2, 11, 12):
        object_file(place.acme.repositories["game"], oid_of(content(number))).unlink(missing_ok=True)
    run = await place.run()
    assert (run.exit_code, held(place)) == (0, {*wanted, oid_of(content(99))})
    again = await place.run()
    assert game(again).outcome == "confirmed"
    store = place.config.store
    report = await verify.run(store, (), clock=place.clock, environment=os.environ)
    assert report.exit_code == 0, report.facts
    # git-lfs can clone from the mirror directly.
    with place.store() as opened:
        folder = opened.repository(Selector("acme", "game"))
        first = folder.metadata.snapshots()[0]
    git("lfs", "fsck", cwd=folder.code)
    lfs("clone", "-q", f"file://{folder.code}", str(tmp_path / "from-mirror"))
    assert (tmp_path / "from-mirror" / "model.bin").read_bytes() == content(99)
    # The repository is deleted upstream, and restored in each way, as of the first snapshot.
    place.acme.delete_repository("game")
    await _to_a_folder(place, first.id, tmp_path)
    await _to_urls(place, first.id, tmp_path)


async def _to_a_folder(place: Place, at: str, tmp_path: Path) -> None:
    selector, store = Selector("acme", "game"), place.config.store
    report = await restore.run(store, selector, target=str(tmp_path / "back"), at=at)
    assert (report.exit_code, report.items[0].lfs_objects, report.items[0].lfs_absent) == (0, 6, 0)
    bare = tmp_path / "back" / "code.git"
    git("lfs", "fsck", cwd=bare)
    lfs("clone", "-q", f"file://{bare}", str(tmp_path / "clone"))
    for number, name in ((2, "model.bin"), (10, "level0.bin"), (12, "level2.bin")):
        assert (tmp_path / "clone" / name).read_bytes() == content(number)
    [exported] = export(store, selector, tmp_path / "out", at=at)
    assert exported.problems == ()
    code = tmp_path / "out" / "code"
    lfs("lfs", "checkout", cwd=code)
    git("lfs", "fsck", cwd=code)
    assert (code / "model.bin").read_bytes() == content(2)


async def _to_urls(place: Place, at: str, tmp_path: Path) -> None:
    selector, store = Selector("acme", "game"), place.config.store
    target = place.acme.add_repository("again")
    token = place.world.add_workspace_access_token("acme", SCOPES | {"repository:write"})
    login = GitLogin("x-token-auth", token)
    url = f"{place.simulator.git_url}/acme/again.git"
    dry = await restore.run(store, selector, target=url, at=at, login=login, dry_run=True)
    assert (dry.exit_code, dry.items[0].lfs_absent) == (0, 0)
    report = await restore.run(store, selector, target=url, at=at, login=login)
    assert (report.exit_code, report.items[0].lfs_objects) == (0, 6), report
    clone = tmp_path / "clone-again"
    lfs("clone", "-q", address(place, "again", SCOPES), str(clone))
    assert (clone / "model.bin").read_bytes() == content(2)
    git("lfs", "fetch", "--all", cwd=clone)
    git("lfs", "fsck", cwd=clone)
    assert target.branch("main") is not None
    # A server without LFS: Mirror pushes the code and lists the missing objects.
    place.acme.add_repository("without")
    place.simulator.order(Fault("POST */info/lfs/*", status=404, times=9))
    url = f"{place.simulator.git_url}/acme/without.git"
    report = await restore.run(store, selector, target=url, at=at, login=login)
    place.simulator.faults.clear()
    assert report.exit_code == 3
    assert "6 of 6 LFS objects were not restored" in report.items[0].problems[0][1]
    assert place.acme.repositories["without"].branch("main") is not None
    # A repository on this machine.
    bare = tmp_path / "bare.git"
    git("init", "-q", "-b", "main", "--bare", str(bare))
    report = await restore.run(store, selector, target=f"file://{bare}", at=at)
    assert (report.exit_code, report.items[0].lfs_objects) == (0, 6)
    git("lfs", "fsck", cwd=bare)


def commit(place: Place, *numbers: int, keep: bool = True, branch: str = "main") -> list[str]:
    """Commit pointers on a branch, with their objects upstream."""
    repository = place.acme.repositories["game"]
    files = {f"{number}.bin": add_object(repository, content(number)) for number in numbers}
    if not keep:
        for number in numbers:
            object_file(repository, oid_of(content(number))).unlink()
    repository.commit(branch, {".gitattributes": ATTRIBUTES, **files}, "More\n")
    return [oid_of(content(number)) for number in numbers]


async def test_what_is_missing_is_told_everywhere_until_it_is_there(place: Place) -> None:
    [good] = commit(place, 1)
    [lost] = commit(place, 2, keep=False)
    run = await place.run()
    assert run.exit_code == 3
    part = game(run).parts["lfs"]
    assert part.state == "partial" and part.counts == {"objects": 2, "bytes": 80_000, "missing": 1}
    assert lost[:12] in str(part.reason) and "404" in str(part.reason)
    words = "the server does not have it (404): Object does not exist"
    assert game(run).facts["lfs"]["first_missing"] == {lost: words}
    [row] = status(place.config.store).repositories
    assert "1 of 2 objects are missing" in row.missing["lfs"]
    with place.store() as store:
        folder = store.repository(Selector("acme", "game"))
        latest = folder.metadata.latest()
        assert latest is not None
        assert folder.metadata.lfs(latest) == {good: (40_000, True), lost: (40_000, False)}
    # The next run reports it again; with accept_missing it is no failure.
    assert (await place.run()).exit_code == 3
    agreed = tuple(replace(one, accept_missing=("lfs",)) for one in place.config.workspaces)
    strict, place.config = place.config, replace(place.config, workspaces=agreed)
    assert (await place.run()).exit_code == 0
    place.config = strict
    report = await verify.run(place.config.store, (), clock=place.clock, environment=os.environ)
    assert report.exit_code == 0
    item = (await restore.run(place.config.store, Selector("acme", "game"),
                              target=str(place.folder / "back"))).items[0]  # fmt: skip
    assert (item.lfs_objects, item.lfs_absent, item.problems) == (1, 1, ())
    assert "lfs" in item.not_whole
    add_object(place.acme.repositories["game"], content(2))
    run = await place.run()
    assert (run.exit_code, held(place)) == (0, {good, lost})


async def test_a_network_that_fails_is_another_failure(place: Place) -> None:
    commit(place, 1)
    place.simulator.order(Fault("POST */info/lfs/*", status=500, times=99))
    assert (await place.run()).exit_code == 75
    place.simulator.faults.clear()
    # Without the code, the stored LFS objects do not change.
    await place.run()
    place.simulator.order(Fault("/acme/game.git/*", status=500, times=99))
    run = await place.run()
    assert run.exit_code == 75
    assert game(run).parts["lfs"].state == "complete"


@pytest.mark.parametrize("lasting", [False, True])
async def test_what_is_missing_stays_what_it_is_while_the_code_cannot_be_had(
    place: Place, lasting: bool
) -> None:
    """The run distinguishes what a later run may get from what nobody has, although it asks for neither
    now."""
    [oid] = commit(place, 1, keep=not lasting)
    if not lasting:
        place.simulator.order(Fault("POST */info/lfs/*", status=500, times=99))
    expected = 3 if lasting else 75
    assert (await place.run()).exit_code == expected
    place.simulator.faults.clear()
    for _ in range(2):
        place.simulator.order(Fault("/acme/game.git/*", status=500, times=99))
        run = await place.run()
        assert run.exit_code == expected
        assert oid[:12] in str(game(run).parts["lfs"].reason)
        place.simulator.faults.clear()
    assert (await place.run()).exit_code == (3 if lasting else 0)
    place.simulator.order(Fault("/acme/game.git/*", status=500, times=99))
    assert (await place.run()).exit_code == expected


async def test_switched_off_nobody_is_asked_and_nothing_goes(place: Place) -> None:
    [oid] = commit(place, 1)
    await place.run()
    off = tuple(replace(one, parts=replace(one.parts, lfs=False)) for one in place.config.workspaces)
    on, place.config = place.config, replace(place.config, workspaces=off)
    place.simulator.requests.clear()
    commit(place, 2)
    run = await place.run()
    assert game(run).parts["lfs"].state == "skipped"
    assert not [one for one in place.simulator.requests if "lfs" in one.path]
    await pruned(place, keep_last=1)
    assert held(place) == {oid}
    place.config = on
    assert (await place.run()).exit_code == 0
    assert len(held(place)) == 2


async def pruned(place: Place, *, keep_last: int) -> None:
    rule = Retention(Policy(keep_last=keep_last))
    config = replace(
        place.config, workspaces=tuple(replace(one, retention=rule) for one in place.config.workspaces)
    )
    run = await prune.prune(config, clock=place.clock, environment=os.environ)
    assert run.exit_code == 0, run
    report = await verify.run(place.config.store, (), clock=place.clock, environment=os.environ)
    assert report.exit_code == 0, report.facts


async def test_prune_lets_go_of_what_no_kept_snapshot_lists(place: Place) -> None:
    repository = place.acme.repositories["game"]
    base = repository.commit("main", {"readme": b"x"}, "First\n")
    [old] = commit(place, 1)
    await place.run()
    repository.force("main", base)
    [new] = commit(place, 2)
    await place.run()
    assert held(place) == {old, new}
    await pruned(place, keep_last=2)
    assert held(place) == {old, new}
    # The last snapshot still lists what an earlier value of main reached at that time.
    await pruned(place, keep_last=1)
    assert held(place) == {old, new}
    repository.commit("main", {"more": b"x"}, "More\n")
    await place.run()
    await pruned(place, keep_last=1)
    assert held(place) == {new}
    assert (await place.run()).exit_code == 0


async def with_two_snapshots(place: Place) -> str:
    """Take two snapshots, so that there is something to prune; returns the object that both list."""
    [oid] = commit(place, 1)
    await place.run()
    place.acme.repositories["game"].commit("main", {"readme": b"more"}, "More\n")
    await place.run()
    return oid


async def test_what_came_and_is_in_no_snapshot_yet_is_not_let_go(place: Place) -> None:
    first = await with_two_snapshots(place)
    [second] = commit(place, 2)
    # The state after a run that was killed before its snapshot.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mirror.store.writing.folder_writer.FolderWriter.snapshot", _die)
        await place.run()
    assert held(place) == {first, second}
    await pruned(place, keep_last=1)
    assert held(place) == {first, second}


async def test_what_came_with_a_head_and_is_in_no_snapshot_yet_is_not_let_go(place: Place) -> None:
    """Only a pin reaches it: no ref of the repository itself moved."""
    first = await with_two_snapshots(place)
    repository = place.acme.repositories["game"]
    fork = place.acme.add_repository("game-fork", parent=repository)
    tip = repository.branch("main")
    assert tip is not None
    fork.commit("idea", {"2.bin": add_object(repository, content(2))}, "An idea\n", parents=[tip])
    ann = place.world.add_user("Ann", "ann@acme.example")
    repository.open_pull_request(source="idea", title="An idea", author=ann, fork=fork)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mirror.store.writing.folder_writer.FolderWriter.snapshot", _die)
        await place.run("acme/game")
    both = {first, oid_of(content(2))}
    assert held(place) == both
    await pruned(place, keep_last=1)
    assert held(place) == both
    # Once a snapshot has it, the snapshot lists it, and prune may remove what nothing lists.
    assert (await place.run("acme/game")).exit_code == 0
    with place.store() as store:
        stray = object_path(store.repository(Selector("acme", "game")).code / "lfs", "ab" * 32)
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"of nothing")
    await pruned(place, keep_last=1)
    assert held(place) == both


def _die(*_: object, **__: object) -> None:
    raise OSError(5, "as if killed")


async def test_an_erased_ref_takes_its_objects_along(place: Place) -> None:
    [stays] = commit(place, 1)
    [both] = commit(place, 2)
    repository = place.acme.repositories["game"]
    tip = repository.branch("main")
    assert tip is not None
    repository.set_ref(b"refs/heads/secret", tip)
    [goes] = commit(place, 3, branch="secret")
    await place.run()
    repository.delete_ref(b"refs/heads/secret")
    await place.run()
    assert held(place) == {stays, both, goes}
    with place.store() as store:
        parts = store.repository(Selector("acme", "game")).code / "lfs"
    # Leftovers of killed runs: of erased objects, and of objects that are still needed.
    for oid in (stays, goes):
        part_path(parts, oid).write_bytes(content(3)[:1000])
    run = await prune.erase(
        place.config.store, Selector("acme", "game"), prune.ErasureTarget(ref="refs/heads/secret"),
        reason="asked for", by="ann", clock=place.clock, environment=os.environ,
    )  # fmt: skip
    assert run.exit_code == 0, run
    assert held(place) == {stays, both}
    assert list((parts / "incomplete").iterdir()) == [part_path(parts, stays)]
    with place.store() as store:
        folder = store.repository(Selector("acme", "game"))
        for snapshot in folder.metadata.snapshots():
            assert set(folder.metadata.lfs(snapshot) or {}) == {stays, both}
    report = await verify.run(place.config.store, (), clock=place.clock, environment=os.environ)
    assert report.exit_code == 0, report.facts
    assert (await place.run()).exit_code == 0
    assert held(place) == {stays, both}


async def test_damage_is_found_restored_from_never_and_healed_by_the_next_run(place: Place) -> None:
    [oid] = commit(place, 1)
    await place.run()
    with place.store() as store:
        path = store.repository(Selector("acme", "game")).lfs_object(oid)
    assert path is not None
    for harm in (path.read_bytes()[:-1] + b"?", None):
        if harm is None:
            path.unlink()
        else:
            path.write_bytes(harm)
        report = await verify.run(place.config.store, (), clock=place.clock, environment=os.environ)
        assert report.exit_code == 4
        assert oid in json.dumps(report.facts["findings"])
        target = place.folder / ("flipped" if harm else "lost")
        back = await restore.run(place.config.store, Selector("acme", "game"), target=str(target))
        assert back.exit_code == 4 and any(oid in text for _, text in back.items[0].problems)
        assert (target / "code.git").exists() and not object_path(target / "code.git" / "lfs", oid).exists()
    assert (await place.run()).exit_code == 0
    assert path.read_bytes() == content(1)


def _part(store: Path) -> Path | None:
    return next(store.rglob("*.part"), None)


async def test_killed_in_the_middle_of_an_object_nothing_is_asked_for_twice(tmp_path: Path) -> None:
    world = World(tmp_path / "upstream")
    repository = world.add_workspace("acme").add_repository("game")
    token = world.add_workspace_access_token("acme", SCOPES)
    data = content(1, 3_000_000)
    repository.commit("main", {"a.bin": add_object(repository, data)}, "First\n")
    with Simulator(world) as simulator:
        config = write_config(tmp_path, simulator, token)
        simulator.order(Fault("GET /storage/lfs/*", "stall", after=1_000_000, seconds=60))
        words = [sys.executable, "-m", "mirror", "backup", "-c", str(config)]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while (part := _part(tmp_path / "store")) is None or part.stat().st_size < 900_000:
                assert process.poll() is None
                await asyncio.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        left = part.stat().st_size
        simulator.requests.clear()
        deadline = time.monotonic() + 60
        while True:  # the workers die with their parent, and so does the lock
            done = mirror("backup", "-c", str(config), "--json")
            if done.returncode != 11 or time.monotonic() > deadline:
                break
        assert done.returncode == 0, done.stderr
        [asked] = [one for one in simulator.requests if one.kind == "storage"]
        assert asked.headers["range"] == f"bytes={left}-"
        [entry] = [one for one in json_of(done)["entries"] if one["kind"] == "repository"]
        assert entry["facts"]["lfs"]["received_bytes"] == len(data) - left
        verified = mirror("verify", "-c", str(config))
        assert verified.returncode == 0, verified.stdout
    assert _part(tmp_path / "store") is None


async def test_a_store_of_before_lfs_is_taken_up(place: Place) -> None:
    """Snapshots that know nothing of LFS prevent prune from removing any object."""
    off = tuple(replace(one, parts=replace(one.parts, lfs=False)) for one in place.config.workspaces)
    on, place.config = place.config, replace(place.config, workspaces=off)
    repository = place.acme.repositories["game"]
    base = repository.commit("main", {"readme": b"x"}, "First\n")
    [old] = commit(place, 1)
    await place.run()
    repository.force("main", base)
    place.config = on
    run = await place.run()
    assert (run.exit_code, held(place)) == (0, {old})  # of a ref that only the mirror keeps
    repository.commit("main", {"readme": b"y"}, "More\n")
    await place.run()
    await pruned(place, keep_last=3)
    assert held(place) == {old}
