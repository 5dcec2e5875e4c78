"""Measure what runs cost as a store grows older, and as it grows larger.

    python -m benchmarks.history [--repositories 1000] [--few 10] [--many 1000] [--large 10000]

The benchmark backs up this many repositories once, for real. It makes two stores of that: one with a history
of few runs, one with a history of many runs. In each run some repositories change. The store's own writers
write the snapshots, ledgers and run records, and the real `prune` removes old ones. Then each command runs on
each store in a process of its own. Printed are time, peak memory of all processes, bytes written, and the
ratio of the older store to the younger one. `--large` repositories are backed up once, and once more without
changes (0: not at all).

Only code is backed up (`parts`), so that making the stores does not take hours. The simulator runs in a
process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.measured import Memory
from benchmarks.simulated import NO_LIMIT, serve, small_repositories, upstream
from mirror import backup, browse, daemon, prune, restore, verify
from mirror.config import load
from mirror.logs import configure
from mirror.model import Outcome, Run, RunEntry, Selector
from mirror.simulator import World
from mirror.store.reading.reader import RepositoryFolder
from mirror.store.writing.writer import RepositoryWriter, StoreWriter, create_or_open, open_store
from tests.clock import FakeClock

HERE = "benchmarks.history"
OFF = (
    "pull_requests", "issues", "pipelines", "pipeline_logs", "downloads", "settings", "snippets", "wiki",
    "lfs", "commit_comments",
)  # fmt: skip
# How many repositories change in each run of a history, and how many snapshots of each are kept.
CHANGES = 3
KEPT = 2
HOURS = 4
# Seconds, MiB, KB written, bytes of the run record.
Figures = dict[str, float]


@contextmanager
def served(folder: Path, count: int) -> Iterator[Path]:
    """A configuration for a simulator with `count` repositories, which runs inside the context."""
    with upstream([HERE, "--serve", str(folder / "upstream"), "--repositories", str(count)]) as there:
        yield there.configured(
            folder,
            f"    parts: {{{', '.join(f'{part}: false' for part in OFF)}}}\n"
            "limits: {window: 100h, git_workers: 2, api_limit: 10000}\n"
            f"retention: {{keep_last: {KEPT}}}\n"
            'schedule: {backup: "every 4h", verify: "every 7d"}\n',
        )


def at(hours: float) -> FakeClock:
    """A clock that is this long after the first backup."""
    clock = FakeClock()
    clock.elapsed += hours * 3600
    return clock


async def grow(config: Path, runs: int) -> None:
    """Give the store a history of runs, in each of which some repositories change.

    In the first runs all of them change, so that each store ends with the same number of snapshots.
    """
    loaded = load(config)
    with open_store(loaded.store, command="benchmark") as store:
        folders = store.reader.repositories()
        home = store.reader.workspaces()[0]
        known = {one.uuid: _as_it_is(one) for one in folders}
        workspace = replace(_as_it_is(home), kind="workspace")
        for number in range(runs):
            clock = at(HOURS * (number + 1))
            changed = {
                folders[(number * CHANGES + more) % len(folders)].uuid
                for more in range(len(folders) if number < KEPT else CHANGES)
            }
            entries = []
            for folder in folders:
                if folder.uuid in changed:
                    known[folder.uuid] = await _change(store, folder, clock, number)
                    entries.append(replace(known[folder.uuid], outcome=Outcome.SAVED, seconds=0.1))
                else:
                    entries.append(known[folder.uuid])
            begun = clock.now()
            run = Run(
                store.new_run_id(begun), "backup", begun, begun + timedelta(minutes=5), "benchmark",
                (*entries, workspace), facts={"requests": 11, "brakes": []},
            )  # fmt: skip
            store.write_run(run)
    clock = at(HOURS * (runs + 1))
    await prune.prune(loaded, clock=clock, environment=os.environ)
    await backup.run(loaded, clock=clock, environment=os.environ)  # upstream did not change
    await prune.prune(loaded, clock=clock, environment=os.environ)


def _as_it_is(folder: Any) -> RunEntry:
    ledger = folder.ledger()
    return RunEntry(
        "repository", folder.full_name, folder.uuid, folder.place, Outcome.CONFIRMED, ledger.latest.id,
        ledger.latest.tree, None, ledger.sha256, ledger.latest.parts,
    )  # fmt: skip


async def _change(store: StoreWriter, folder: RepositoryFolder, clock: FakeClock, number: int) -> RunEntry:
    """Take a snapshot in which the profile of the repository differs, as a run does."""
    writer = store.writer_of(folder)
    assert isinstance(writer, RepositoryWriter)
    async with writer.lock(0, clock):
        state = writer.read_state()
        draft = writer.draft()
        draft.put("repository.json", {**(draft.get("repository.json") or {}), "size": number})
        last = folder.metadata.latest()
        assert last is not None
        taken = writer.snapshot(draft, begun=clock.now(), program="benchmark", parts=last.parts)
        writer.write_state(state)
    return RunEntry(
        "repository", folder.full_name, folder.uuid, folder.place, Outcome.CONFIRMED, taken.snapshot.id,
        taken.snapshot.tree, taken.refs_sha256, taken.ledger, last.parts,
    )  # fmt: skip


async def _ready(config: Path, clock: FakeClock) -> None:
    """Start the daemon, and stop it when it is ready."""
    address = config.parent / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(address))
        told.setblocking(False)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address)}
        service = asyncio.ensure_future(
            daemon.serve(lambda: load(config), clock=clock, environment=environment)
        )
        while b"READY=1" not in await asyncio.get_running_loop().sock_recv(told, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        await service


async def _restore(config: Path, clock: FakeClock) -> None:
    target = config.parent / "nowhere"
    when = (clock.now() - timedelta(hours=1)).isoformat()
    done = await restore.run(
        load(config).store, Selector("acme", None), target=str(target), at=when, dry_run=True,
        environment=os.environ,
    )  # fmt: skip
    assert done.exit_code == 0, done.to_json()


async def _unchanged(config: Path, clock: FakeClock) -> None:
    done = await backup.run(load(config), clock=clock, environment=os.environ)
    assert {str(one.outcome) for one in done.entries} == {"confirmed"}, done.problems


async def _status(config: Path, clock: FakeClock) -> None:
    found = browse.status(load(config).store)
    # A run moves the clock while it waits; this command has its own clock.
    late = browse.stale(found, most=timedelta(days=3), now=clock.now() + timedelta(days=1))
    assert not late, late


async def _verify(config: Path, clock: FakeClock) -> None:
    done = await verify.run(load(config).store, level="refs", clock=clock, environment=os.environ)
    assert done.exit_code == 0, done.facts


async def _first(config: Path, clock: FakeClock) -> None:
    create_or_open(load(config).store, now=clock.now()).close()
    done = await backup.run(load(config), clock=clock, environment=os.environ)
    assert done.exit_code == 0, done.problems


MEASURED: dict[str, Callable[[Path, FakeClock], Any]] = {
    "nothing changed": _unchanged,
    "status": _status,
    "verify --level refs": _verify,
    "daemon ready": _ready,
    "restore --at --dry-run": _restore,
}


def measure(name: str, config: Path, hours: float) -> Figures:
    """Run one command in this process."""
    work = {"first": _first, **MEASURED}[name]
    store = load(config).store
    before = _written(store)
    with Memory() as memory:
        begun = time.perf_counter()
        asyncio.run(work(config, at(hours)))
        wall = time.perf_counter() - begun
    after = _written(store)
    wrote = sum(size for path, (size, *_) in after.items() if after[path] != before.get(path))
    record = [after[path][0] for path in after.keys() - before.keys() if Path(path).parent.name == "runs"]
    return {
        "s": wall,
        "MiB": memory.most / 1024,
        "KB": wrote / 1000,
        "record": max(record, default=0),
    }


def _written(store: Path) -> dict[str, tuple[int, int, int]]:
    """Size and modification mark of every file of a store."""
    found = {}
    for base, _, names in os.walk(store):
        for name in names:
            path = Path(base, name)
            state = path.stat()
            found[path.relative_to(store).as_posix()] = state.st_size, state.st_ino, state.st_mtime_ns
    return found


def apart(name: str, config: Path, hours: float) -> Figures:
    """Run one command in a process of its own."""
    words = [*HERE, "--measure", name, "--config", str(config), "--hours", str(hours)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    figures: Figures = json.loads(done.stdout)
    return figures


def told(figures: Figures) -> str:
    """The figures as text."""
    record = f", record {figures['record'] / 1024:.1f} KiB" if figures["record"] else ""
    return f"{figures['s']:.2f} s, {figures['MiB']:.0f} MiB, {figures['KB']:.0f} KB written{record}"


def compare(folder: Path, count: int, histories: list[int], rounds: int) -> dict[str, Figures]:
    """Compare two stores of the same repositories, one older than the other. Returns the figures of the older
    one."""
    with served(folder, count) as config:
        print(f"{count} repositories, first: {told(apart('first', config, 0))}", flush=True)
        aside = folder / "first"
        (folder / "store").rename(aside)
        figures: list[dict[str, Figures]] = []
        for runs in histories:
            shutil.rmtree(folder / "store", ignore_errors=True)
            shutil.copytree(aside, folder / "store")
            asyncio.run(grow(config, runs))
            hours = HOURS * (runs + 2)
            seen: dict[str, Figures] = {}
            for name in MEASURED:
                each = [apart(name, config, hours + number) for number in range(rounds)]
                seen[name] = min(each, key=lambda one: one["s"])
            figures.append(seen)
            size = sum(path.stat().st_size for path in (folder / "store" / "runs").rglob("*.json"))
            print(f"after {runs} runs: {size / 1e6:.2f} MB of run records and lists", flush=True)
        for name in MEASURED:
            few, many = figures[0][name], figures[-1][name]
            ratio = f"time {many['s'] / few['s']:.2f}, memory {many['MiB'] / max(few['MiB'], 1):.2f}"
            print(f"  {name}: {told(few)} | {told(many)} | {ratio}", flush=True)
    return figures[-1]


def large(folder: Path, count: int) -> None:
    """Back up many repositories once, then without changes; then run status."""
    with served(folder, count) as config:
        for name, hours in (("first", 0), ("nothing changed", 5), ("nothing changed", 10), ("status", 11)):
            print(f"{count} repositories, {name}: {told(apart(name, config, hours))}", flush=True)


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int, default=1000)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--config", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--hours", type=float, default=0.0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        world = World(asked.serve, clock=FakeClock().now, limit=NO_LIMIT)
        serve(world, small_repositories(world, asked.repositories, pull_requests=False))
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        configure(stream=nowhere)
        if asked.measure is not None:
            print(json.dumps(measure(asked.measure, asked.config, asked.hours)))
            return
        with tempfile.TemporaryDirectory() as text:
            compare(Path(text), asked.repositories, [asked.few, asked.many], asked.rounds)
        if asked.large:
            with tempfile.TemporaryDirectory() as text:
                large(Path(text), asked.large)


if __name__ == "__main__":
    main()
