"""Measure the keep rule with very many refs, and check that its cost grows no faster than the refs.

    python -m benchmarks.refs [--refs 50000] [--keeps 50000] [--snapshots 50]

A mirror has this many refs, and as many keep refs that snapshots need; the store has this many snapshots that
differ in a few refs each. Printed are the time of each step and the peak of Python's memory for it, at a
tenth of the size and at the full size. The second should be about ten times the first.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.git import bare
from mirror.git.objects import COMMIT, TREE
from mirror.git.pack.writer import PackWriter
from mirror.git.refs import KEEP, name_fault, packed_fault, read_all, read_refs, write_packed
from mirror.model import Head, Part, PartState, Refs, Repository, Selector, Workspace
from mirror.reclaim.freeing import check_hashes_held, remove_refs, unneeded_keeps
from mirror.store.reading.reader import RepositoryFolder, Store
from mirror.store.writing.writer import RepositoryWriter, create_or_open
from mirror.verify.snapshots import check_snapshots

MOVES = 20
HEAD = Head("symref", b"refs/heads/team-0/topic-0")
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.at = BEGUN

    def now(self) -> datetime:
        """The time of day."""
        return self.at

    def monotonic(self) -> float:
        """Seconds of a monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Move the clock."""
        await asyncio.sleep(seconds)


def commits(mirror: Path, count: int) -> list[str]:
    """`count` commits in a row, all of one empty tree."""
    pack = PackWriter(mirror / "objects")
    tree = pack.add(TREE, b"")
    found, parent = [], b""
    for number in range(count):
        who = b"A <a@example.org> %d +0000\n" % (1_700_000_000 + number)
        parent = pack.add(COMMIT, b"tree %s\n%sauthor %scommitter %s\n%d\n" % (
            tree.encode(), parent and b"parent " + parent + b"\n", who, who, number,
        )).encode()  # fmt: skip
        found.append(parent.decode())
    pack.publish()
    return found


@dataclass
class Made:
    """A store with one repository, and what its snapshots name."""

    root: Path
    refs: dict[bytes, str]
    clock: Clock

    def folder(self, store: Store) -> RepositoryFolder:
        """The folder of the repository."""
        return store.repository(Selector.parse("acme/many"))


async def make(root: Path, refs: int, keeps: int, snapshots: int) -> Made:
    """Create the store. Nothing needs the keep refs beyond those of its snapshots, so prune may remove
    them."""
    clock, uuid = Clock(), "{00000000-0000-0000-0000-000000000000}"
    with create_or_open(root, now=BEGUN, command="benchmark") as store:
        home = store.adopt_workspace(Workspace(uuid, "acme"), BEGUN)
        writer = store.adopt_repository(home, Repository(uuid, "acme", "many"), BEGUN)
        code = writer.folder.code
        bare.create(code)
        values = commits(code, refs + keeps)
        now = {b"refs/heads/team-%d/topic-%d" % (n % 50, n): values[n] for n in range(refs)}
        names, held = sorted(now), dict(now)
        async with writer.lock(0, clock) as _:
            for number in range(snapshots):
                _snapshot(writer, clock, now)
                for move in range(MOVES):
                    name = names[(number * MOVES + move) * 7919 % refs]
                    held[KEEP + now[name].encode()] = now[name]
                    now[name] = values[refs + number * MOVES + move]
            _snapshot(writer, clock, now)
        held |= now
        for value in values[refs + snapshots * MOVES :]:
            held[KEEP + value.encode()] = value
        write_packed(code, held, {}, HEAD)
    return Made(root, now, clock)


def _snapshot(writer: RepositoryWriter, clock: Clock, refs: dict[bytes, str]) -> None:
    clock.at += timedelta(hours=1)
    parts = {"code": Part(PartState.COMPLETE, {"refs": len(refs)})}
    writer.snapshot(
        writer.draft(), begun=clock.at, program="benchmark", parts=parts, refs=Refs(refs, HEAD), pins={}
    )


async def steps(made: Made) -> dict[str, Callable[[], Any]]:
    """The measured steps, by name."""
    store = Store.open(made.root)
    folder = made.folder(store)
    snapshots = folder.metadata.snapshots()
    code = folder.code

    def written(changed: dict[bytes, str]) -> None:
        before = read_all(code)
        new = {**before, **changed}
        for name in changed:
            new[KEEP + before[name].encode()] = before[name]
        write_packed(code, new, {}, HEAD)

    def change() -> None:
        some = sorted(made.refs)[:MOVES]
        written(dict(zip(some, [made.refs[name] for name in some[1:]] + [made.refs[some[0]]], strict=True)))
        written({name: made.refs[name] for name in some})

    def removal() -> None:
        check_hashes_held(folder, snapshots)
        unneeded = unneeded_keeps(code, folder.metadata.hash_usage(snapshots)["code"])
        remove_refs(code, lambda name, value: name.startswith(KEEP) and value in unneeded)

    return {
        "refs read": lambda: read_refs(code),
        "names checked": lambda: [name_fault(name) for name in made.refs],
        "refs written, twice": change,
        "checksum of packed-refs": lambda: packed_fault(code),
        "refs of the last snapshot": lambda: folder.metadata.code_refs(snapshots[-1]),
        "verify --level refs": lambda: check_snapshots(folder, None, "refs"),
        "prune: held, unneeded, removed": removal,
    }


async def measure(refs: int, keeps: int, snapshots: int) -> dict[str, tuple[float, float]]:
    """Seconds and MiB of each step."""
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        made = await make(Path(folder) / "store", refs, keeps, snapshots)
        found[f"{snapshots + 1} snapshots taken"] = time.perf_counter() - began, 0.0
        clock = made.clock
        with create_or_open(made.root, now=clock.now(), command="benchmark") as store:
            writer = store.writer_of(made.folder(store.reader))
            assert isinstance(writer, RepositoryWriter)
            async with writer.lock(0, clock):
                writer.read_state()
                _snapshot(writer, clock, made.refs)
                writer.write_state({})
            began = time.perf_counter()
            async with writer.lock(0, clock):
                writer.read_state()
                _snapshot(writer, clock, made.refs)
            found["nothing changed: snapshot confirmed"] = time.perf_counter() - began, 0.0
        for name, step in (await steps(made)).items():
            began = time.perf_counter()
            if name.startswith("prune"):
                step()
                found[name] = time.perf_counter() - began, 0.0
                continue
            step()
            seconds = time.perf_counter() - began
            tracemalloc.start()
            step()
            found[name] = seconds, tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
    return found


def main() -> None:
    """Run the benchmark, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--refs", type=int, default=50_000)
    parser.add_argument("--keeps", type=int, default=50_000)
    parser.add_argument("--snapshots", type=int, default=50)
    options = parser.parse_args()
    small = asyncio.run(measure(options.refs // 10, options.keeps // 10, options.snapshots))
    large = asyncio.run(measure(options.refs, options.keeps, options.snapshots))
    print(f"{'':<36} {options.refs // 10:>8} refs {options.refs:>10} refs {'ratio':>7} {'MiB':>7}")
    for name, (seconds, memory) in large.items():
        before = small[name][0]
        print(f"{name:<36} {before:>11.3f} s {seconds:>13.3f} s {seconds / before:>7.1f} {memory:>7.1f}")


if __name__ == "__main__":
    main()
