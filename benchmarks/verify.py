"""Measure verification against `git fsck --full` on the same mirrors, alternating.

    python -m benchmarks.verify [--rounds 5] [--workers 2] [REPOSITORY …]

Name bare repositories by path; without any, the benchmark generates two. Printed are medians: first each
repository in one process, then all of them, with as many worker processes as `git fsck`s at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.made import make
from benchmarks.measured import Memory, seconds
from mirror.git.mirrors.fsck import CheckJob
from mirror.git.workers.pool import WorkerPool


def fsck(repository: Path) -> None:
    """Run C git's own check. It must find nothing, or the comparison is meaningless."""
    done = subprocess.run(
        ["git", "-C", str(repository), "fsck", "--full", "--no-progress"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{repository} is not whole, says git fsck: {done.stderr.splitlines()[:1]}")


def tips(repository: Path) -> tuple[str, ...]:
    """The values of all refs."""
    words = ["git", "-C", str(repository), "for-each-ref", "--format=%(objectname)"]
    return tuple(
        sorted(set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()))
    )


async def ours(jobs: Sequence[CheckJob], workers: int) -> int:
    """Run our check; returns the number of objects read."""
    async with WorkerPool(workers, environment=os.environ) as pool:
        results = await asyncio.gather(*(pool.run(job) for job in jobs))
    for job, result in zip(jobs, results, strict=True):
        if result.problems:
            sys.exit(f"{job.path}: {result.problems[0]}")
    return sum(result.objects for result in results)


def compare(name: str, repositories: Sequence[Path], rounds: int, workers: int) -> None:
    """Print one row: medians over `rounds`, alternating."""
    jobs = [CheckJob(str(one), tips(one), in_store=False) for one in repositories]
    theirs, mine, objects = [], [], 0
    with Memory() as memory:
        for _ in range(rounds):
            with ThreadPoolExecutor(workers) as threads:
                theirs.append(seconds(lambda: list(threads.map(fsck, repositories))))
            begun = time.perf_counter()
            objects = asyncio.run(ours(jobs, workers))
            mine.append(time.perf_counter() - begun)
    a, b = statistics.median(theirs), statistics.median(mine)
    print(f"{name:24} {objects:>9} {a:>9.2f} {b:>9.2f} {b / a:>7.2f} {memory.most / 1024:>9.0f}")


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("repositories", nargs="*", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repositories: list[Path] = options.repositories
        if not repositories:
            for commits in (2_000, 12_000):
                repositories.append(Path(folder) / f"made-{commits}.git")
                make(repositories[-1], commits)
        print(f"{'':24} {'objects':>9} {'git fsck':>9} {'mirror':>9} {'ratio':>7} {'MiB ours':>9}")
        for one in repositories:
            compare(one.name, [one], options.rounds, 1)
        compare(f"all, {options.workers} at a time", repositories, options.rounds, options.workers)


if __name__ == "__main__":
    main()
