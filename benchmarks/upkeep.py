"""Measure what merging many small packs gains, compared with C git's ways to do it.

    python -m benchmarks.upkeep [--fetches 1000] [--rounds 3] REPOSITORY …

The benchmark fetches the last commits of each bare repository's main line one by one, as thin packs that C
git sends and completes. Each row is a copy of the result on which one method has run: its time, the packs and
bytes afterwards, and medians, over alternating rounds, of what readers need: `git clone` of a file:// URL
(both sides), `git fsck --full`, the check of `mirror verify`, and a walk over all commits. Seconds are
processor time of all processes together, so that other work on the machine has little effect.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.measured import Memory
from benchmarks.verify import fsck, ours, tips
from mirror.git.mirrors.fsck import CheckJob
from mirror.git.mirrors.maintenance import MaintenanceJob, MaintenanceLimits
from mirror.git.workers.pool import WorkerPool

_ALONE = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def git(*words: str, stdin: bytes | None = None) -> bytes:
    """Run C git; returns its stdout."""
    done = subprocess.run(["git", *words], input=stdin, capture_output=True, check=True, env=_ALONE)
    return done.stdout


def spent(work: Callable[[], object]) -> float:
    """Processor seconds of the processes that a call starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fetch_one_by_one(source: Path, target: Path, fetches: int) -> None:
    """A mirror of the main line of `source`: all but the last `fetches` commits in one pack, and each of
    these in one."""
    at = f"--git-dir={source}"
    line = git(at, "rev-list", "--first-parent", f"-{fetches + 1}", "HEAD").decode().split()[::-1]
    git("init", "-q", "--bare", str(target))
    for old, new in zip(["", *line], line, strict=False):
        asked = f"{new}\n" + (f"^{old}\n" if old else "")
        words = ("pack-objects", "-q", "--revs", "--thin", "--stdout", "--delta-base-offset")
        pack = git(at, *words, stdin=asked.encode())
        git(f"--git-dir={target}", "index-pack", "--stdin", "--fix-thin", stdin=pack)
    git(f"--git-dir={target}", "update-ref", "refs/heads/main", line[-1])
    git(f"--git-dir={target}", "symbolic-ref", "HEAD", "refs/heads/main")


def run_maintenance(mirror: Path, graph: int) -> None:
    """Run our maintenance in a worker, as a backup does, but remove merged packs at once."""

    async def run() -> None:
        async with WorkerPool(1, environment=_ALONE) as pool:
            await pool.run(MaintenanceJob(str(mirror), time.time(), MaintenanceLimits(grace=0, graph=graph)))

    asyncio.run(run())


WAYS: dict[str, Callable[[Path], object]] = {
    "as they came": lambda _: None,
    "git multi-pack-index": lambda path: git(f"--git-dir={path}", "multi-pack-index", "write"),
    "mirror": lambda path: run_maintenance(path, 1 << 60),
    "mirror, graph": lambda path: run_maintenance(path, 0),
    "git repack --geometric": lambda path: git(f"--git-dir={path}", "repack", "-q", "-d", "--geometric=2"),
    "git repack -adf": lambda path: git(f"--git-dir={path}", "repack", "-q", "-adf"),
    "git repack -adf, bitmap": lambda path: git(f"--git-dir={path}", "repack", "-q", "-adfb"),
}


def readers(mirror: Path, folder: Path) -> dict[str, Callable[[], object]]:
    """The commands that read a mirror."""

    def clone() -> None:
        git("clone", "-q", "--bare", f"file://{mirror}", str(folder / "clone"))
        shutil.rmtree(folder / "clone")

    job = CheckJob(str(mirror), tips(mirror), in_store=False)
    return {
        "clone": clone,
        "fsck": lambda: fsck(mirror),
        "verify": lambda: asyncio.run(ours([job], 1)),
        "walk": lambda: git(f"--git-dir={mirror}", "rev-list", "--count", "--all"),
    }


def measure(source: Path, folder: Path, fetches: int, rounds: int) -> None:
    """Print the rows of one repository."""
    base = folder / "base.git"
    fetch_one_by_one(source, base, fetches)
    print(f"\n{source}, {fetches} fetches")
    print(f"{'':24} {'s':>7} {'MiB ours':>8} {'packs':>6} {'MB':>7}   clone    fsck  verify    walk")
    rows = {}
    for name, way in WAYS.items():
        mirror = folder / f"{name.replace(' ', '-')}.git"
        shutil.copytree(base, mirror)
        with Memory() as memory:
            took = spent(partial(way, mirror))
        rows[name] = (mirror, took, memory.most / 1024, readers(mirror, folder))
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, (_, _, _, several) in rows.items():
            for reader, read in several.items():
                times.setdefault((name, reader), []).append(spent(read))
    for name, (mirror, took, memory_most, several) in rows.items():
        packs = list((mirror / "objects" / "pack").iterdir())
        size = sum(one.stat().st_size for one in packs) / 1e6
        number = sum(one.suffix == ".pack" for one in packs)
        read_in = " ".join(f"{statistics.median(times[name, one]):7.2f}" for one in several)
        print(f"{name:24} {took:7.2f} {memory_most:8.0f} {number:6} {size:7.1f} {read_in}")


def main(words: Sequence[str] | None = None) -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fetches", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("repositories", nargs="+", type=Path)
    options = parser.parse_args(words)
    for one in options.repositories:
        with tempfile.TemporaryDirectory() as folder:
            measure(one, Path(folder), options.fetches, options.rounds)


if __name__ == "__main__":
    main()
