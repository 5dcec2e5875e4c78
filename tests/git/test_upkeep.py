"""Maintenance of mirrors: nothing is lost whatever happens, C git agrees, readers continue, and it costs
little."""

from __future__ import annotations

import math
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.git.failures import GitFailed
from mirror.git.mirrors.clone import copy_at
from mirror.git.mirrors.fsck import CheckJob, check
from mirror.git.mirrors.maintenance import (
    RETIRED,
    MaintenanceJob,
    MaintenanceLimits,
    choose,
    is_due,
    run_maintenance,
)
from mirror.git.pack import merge
from mirror.git.refs import read_refs
from mirror.git.workers.job import OnProgress
from tests.git.backend import git, need_git
from tests.git.fetched import History, objects, packs

NOW = 1_800_000_000.0
DAY = 24 * 3600


@pytest.fixture
def history(tmp_path: Path) -> History:
    need_git()
    return History(tmp_path, 1)


def job(path: Path, now: float = NOW, **limits: int) -> MaintenanceJob:
    return MaintenanceJob(str(path), now, MaintenanceLimits(**limits))


def check_sound(mirror: Path) -> None:
    """C git finds nothing, and neither do we."""
    assert git("fsck", "--full", "--strict", "--no-dangling", cwd=mirror) == ""
    for pack in packs(mirror):
        git("verify-pack", str(pack.with_suffix(".idx")), cwd=mirror)
    named = tuple(read_refs(mirror).refs.values())
    assert check(CheckJob(str(mirror), named)).problems == ()


@pytest.mark.git
@pytest.mark.parametrize("seed", range(4))
def test_what_is_joined_holds_the_same_objects(tmp_path: Path, seed: int) -> None:
    """For random histories: thin packs, deltas by name and by offset, objects in several packs, unreachable
    objects."""
    need_git()
    history = History(tmp_path, seed)
    history.fetches(24)
    before = objects(history.mirror)
    assert run_maintenance(job(history.mirror)).merged == 24
    assert objects(history.mirror) == before
    assert run_maintenance(job(history.mirror, NOW + DAY)).removed == 24
    [pack] = packs(history.mirror)
    assert objects(history.mirror) == before
    check_sound(history.mirror)
    index, again = pack.with_suffix(".idx"), tmp_path / "again.idx"
    git("index-pack", "-o", str(again), str(pack))
    assert index.read_bytes() == again.read_bytes()
    assert sorted(one.name for one in (history.mirror / "objects" / "pack").iterdir()) == [
        index.name,
        pack.name,
    ]


@pytest.mark.git
def test_it_goes_on_for_long(history: History) -> None:
    """Merged packs are merged again, delta chains stay short, and little space is wasted."""
    before: list[str] = []
    for turn in range(8):
        history.fetches(6)
        before = objects(history.mirror)
        run_maintenance(job(history.mirror, NOW + turn * DAY, packs=5))
    run_maintenance(job(history.mirror, NOW + 9 * DAY))
    assert len(packs(history.mirror)) <= 8
    assert objects(history.mirror) == before
    check_sound(history.mirror)
    told = [
        line.split()
        for pack in packs(history.mirror)
        for line in git("verify-pack", "-v", str(pack), cwd=history.mirror).splitlines()
    ]
    depths = [int(words[5]) for words in told if len(words) == 7]
    assert 5 < max(depths) <= merge.DEPTH_MAX


@pytest.mark.git
def test_an_object_is_written_whole_where_the_chain_gets_too_long(
    history: History,
) -> None:
    history.fetches(24)
    before = objects(history.mirror)
    run_maintenance(job(history.mirror, grace=0, depth=3))
    [pack] = packs(history.mirror)
    told = git("verify-pack", "-v", str(pack), cwd=history.mirror)
    depths = [int(line.split()[5]) for line in told.splitlines() if len(line.split()) == 7]
    # A chain may begin at the last of the three, and be as long as a chain in one pack.
    assert max(depths) == 3
    assert objects(history.mirror) == before
    check_sound(history.mirror)


@pytest.mark.git
def test_what_is_not_its_own_is_left_alone(history: History) -> None:
    """Loose objects, packs that somebody keeps (.keep), and few packs."""
    history.fetches(5)
    assert not is_due(job(history.mirror), with_git=True)
    assert run_maintenance(job(history.mirror)).merged == 0
    blob = git("hash-object", "-w", "--stdin", cwd=history.mirror, stdin=b"loose\n").strip()
    kept = packs(history.mirror)[0]
    kept.with_suffix(".keep").touch()
    assert run_maintenance(job(history.mirror, packs=1, grace=0)).merged == 4
    assert kept.exists()
    assert (history.mirror / "objects" / blob[:2] / blob[2:]).exists()
    check_sound(history.mirror)


@pytest.mark.git
def test_what_an_interrupted_upkeep_left_is_made_good(history: History) -> None:
    """Maintenance removes half a pack, indexes a pack without an index, and removes an index whose merged
    pack is gone."""
    history.fetches(4)
    before, folder = objects(history.mirror), history.mirror / "objects" / "pack"
    first, second, *_ = packs(history.mirror)
    for name in (f"objects/pack/tmp_pack_{'0' * 16}", f"{RETIRED}.tmp-{'0' * 8}"):
        (history.mirror / name).touch()
        assert is_due(job(history.mirror), with_git=True)
        run_maintenance(job(history.mirror))
        assert not (history.mirror / name).exists()
    first.with_suffix(".idx").unlink()
    assert is_due(job(history.mirror), with_git=True)
    run_maintenance(job(history.mirror))
    assert objects(history.mirror) == before
    run_maintenance(job(history.mirror, packs=1))
    second.unlink()
    assert run_maintenance(job(history.mirror, NOW + DAY, packs=1)).removed == 3
    assert len(list(folder.iterdir())) == 2
    assert objects(history.mirror) == before
    check_sound(history.mirror)


@pytest.mark.git
@pytest.mark.parametrize("what", [".pack", ".idx"])
def test_damage_stops_it_and_nothing_is_removed(history: History, what: str) -> None:
    history.fetches(22)
    pack = history.mirror / "objects" / "pack"
    there = sorted(pack.iterdir())
    rng = random.Random(2)
    for _ in range(20):
        victim = rng.choice(packs(history.mirror)).with_suffix(what)
        data = victim.read_bytes()
        # All but the last bytes of a pack, which are also in its index.
        at = rng.randrange(12, len(data) - 20)
        victim.chmod(0o600)
        victim.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        with pytest.raises(GitFailed, match=r"damaged|checksum"):
            run_maintenance(job(history.mirror, grace=0))
        assert sorted(pack.iterdir()) == there
        victim.write_bytes(data)
    assert run_maintenance(job(history.mirror, grace=0)).removed == 22


@pytest.mark.git
def test_joined_packs_stay_a_day_and_until_what_replaced_them_is_sound(history: History) -> None:
    history.fetches(22)
    before = objects(history.mirror)
    old = packs(history.mirror)
    run_maintenance(job(history.mirror))
    [new] = set(packs(history.mirror)) - set(old)
    assert set(old) < set(packs(history.mirror))
    assert not is_due(job(history.mirror, NOW + DAY - 1), with_git=True)
    assert run_maintenance(job(history.mirror, NOW + DAY - 1)).removed == 0
    assert is_due(job(history.mirror, NOW + DAY), with_git=True)
    data = new.read_bytes()
    new.chmod(0o600)
    new.write_bytes(data[:100] + bytes([data[100] ^ 4]) + data[101:])
    with pytest.raises(GitFailed, match="does not match its checksum"):
        run_maintenance(job(history.mirror, NOW + DAY))
    new.write_bytes(data[:-100])
    with pytest.raises(GitFailed, match="does not match its checksum"):
        run_maintenance(job(history.mirror, NOW + DAY))
    for suffix in (".pack", ".idx"):
        new.with_suffix(suffix).unlink()
    # No other pack has their objects any more: they are ordinary packs again, and merged again.
    assert run_maintenance(job(history.mirror, NOW + DAY)).merged == 22
    assert objects(history.mirror) == before
    assert run_maintenance(job(history.mirror, NOW + 2 * DAY)).removed == 22
    assert not (history.mirror / RETIRED).exists()
    assert objects(history.mirror) == before
    check_sound(history.mirror)


@pytest.mark.git
def test_what_the_list_of_joined_packs_says_does_no_harm(history: History) -> None:
    history.fetches(22)
    before = objects(history.mirror)
    run_maintenance(job(history.mirror))
    joined = (history.mirror / RETIRED).read_text()
    history.fetch()
    more = objects(history.mirror)
    # It names everything, also nonsense and packs that do not exist.
    lines = [f"1 {pack.stem}\n" for pack in packs(history.mirror)]
    lines += ["1 pack-" + "0" * 40 + "\n", "1 ../../config\n", "x\n"]
    (history.mirror / RETIRED).write_text("".join(lines))
    run_maintenance(job(history.mirror))
    assert objects(history.mirror) == more
    # It is lost: the merged packs are merged again.
    (history.mirror / RETIRED).unlink(missing_ok=True)
    run_maintenance(job(history.mirror, grace=0))
    assert objects(history.mirror) == more
    assert len(before) < len(more)
    assert joined
    check_sound(history.mirror)


@pytest.mark.git
def test_without_room_it_says_so(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    history.fetches(22)
    usage = shutil.disk_usage(history.mirror)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(GitFailed, match="22 packs were not merged"):
        run_maintenance(job(history.mirror))


@pytest.mark.git
def test_the_graph_of_commits_is_written_checked_and_written_again(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.fetches(3)
    graph = history.mirror / "objects" / "info" / "commit-graph"
    assert is_due(job(history.mirror, graph=1), with_git=True)
    assert not is_due(job(history.mirror, graph=1), with_git=False)
    assert run_maintenance(job(history.mirror, graph=1)).graph
    assert not is_due(job(history.mirror, graph=1), with_git=True)
    check_sound(history.mirror)
    good = graph.read_bytes()
    graph.chmod(0o600)
    graph.write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    [problem] = check(CheckJob(str(history.mirror))).problems
    assert (problem.file, problem.severity) == ("objects/info/commit-graph", "warning")
    graph.with_name("commit-graph.lock").touch()  # as a killed git leaves it
    assert is_due(job(history.mirror, graph=1), with_git=True)
    assert run_maintenance(job(history.mirror, graph=1)).graph
    assert graph.read_bytes() == good
    monkeypatch.setenv("PATH", "")
    graph.unlink()
    assert run_maintenance(job(history.mirror, graph=1)).graph is False


@pytest.mark.git
def test_a_check_goes_on_where_a_pack_was_removed_before_it_came_to_it(history: History) -> None:
    history.fetches(4)
    waiting = [lambda: run_maintenance(job(history.mirror, packs=1, grace=0))]

    def told(text: str, *_: int | None) -> None:
        if text == "checking packs" and waiting:
            waiting.pop()()

    named = tuple(read_refs(history.mirror).refs.values())
    assert check(CheckJob(str(history.mirror), named), progress=OnProgress(told)).problems == ()
    assert waiting == []


@pytest.mark.git
def test_readers_go_on_while_packs_are_joined(history: History, tmp_path: Path) -> None:
    """C git's clone, our own check and copy, again and again, without the day of grace."""
    history.fetches(4)
    git(
        "update-ref",
        "refs/heads/main",
        git("rev-parse", "main", cwd=history.source).strip(),
        cwd=history.mirror,
    )
    over = threading.Event()
    failures: list[str] = []
    rounds = dict.fromkeys(("clone", "check", "copy"), 0)

    def again(name: str) -> None:
        while not over.is_set() or rounds[name] < 3:
            try:
                read(name)
            except BaseException as error:
                failures.append(f"{name}: {error}")
                return
            rounds[name] += 1

    refs = read_refs(history.mirror)

    def read(name: str) -> None:
        if name == "check":
            found = check(CheckJob(str(history.mirror), tuple(refs.refs.values()))).problems
            assert [one for one in found if one.severity == "damage"] == []
            return
        target = tmp_path / name
        if name == "clone":
            git("clone", "-q", "--bare", f"file://{history.mirror}", str(target))
        else:
            copy_at(history.mirror, target, refs)
        assert git("fsck", "--full", "--no-dangling", cwd=target) == ""
        shutil.rmtree(target)

    readers = [threading.Thread(target=again, args=(name,)) for name in rounds]
    for one in readers:
        one.start()
    for _ in range(25):
        history.fetch()
        run_maintenance(job(history.mirror, packs=1, grace=0))
    over.set()
    for one in readers:
        one.join()
    assert failures == []
    assert len(packs(history.mirror)) < 8


def _growth(rng: random.Random, fetches: int, first: int) -> Iterator[int]:
    yield first
    for _ in range(fetches):
        yield int(10 ** rng.uniform(2, 5))


@pytest.mark.parametrize("seed", range(5))
def test_each_byte_is_copied_few_times(seed: int) -> None:
    """And a large pack is not copied every night, and packs never become many."""
    limits, rng = MaintenanceLimits(), random.Random(seed)
    sizes: dict[Path, int] = {}
    copied = came = most = giants = 0
    for number, size in enumerate(_growth(rng, 5000, 10**9)):
        sizes[Path(f"{number}.pack")] = size
        came += size
        chosen = choose(sizes, limits)
        if chosen:
            assert len(chosen) > limits.packs
            total = sum(sizes.pop(one) for one in chosen)
            giants += total >= 10**9
            copied += total
            sizes[Path(f"{number}-joined.pack")] = total
        most = max(most, len(sizes))
    assert giants == 0
    assert copied <= (came - 10**9) * math.log(5000, 1.5)
    assert most <= limits.packs + math.log2(10**9)


def test_no_more_is_copied_at_a_time_than_the_limit() -> None:
    sizes = {Path(f"{number}.pack"): 100 + number for number in range(30)}
    chosen = choose(sizes, MaintenanceLimits(packs=5, size=1000))
    assert sum(sizes[one] for one in chosen) <= 1000
    assert len(chosen) == 9
    assert choose(sizes, MaintenanceLimits(packs=20, size=1000)) == []
