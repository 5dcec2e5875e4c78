"""Measure mirroring against C git and stock dulwich, alternating, from the same local `git http-backend`.

    python -m benchmarks.mirror [--rounds 5] [--only first,change,nothing,many,refs] [REPOSITORY …]

Name bare repositories by path, small to large; without any, the benchmark generates one. Printed are medians:
wall and processor seconds of the client, peak memory of all its processes together (anonymous and shared,
MiB), and the ratio of our wall time to C git's. Our side is a job in a worker process that already runs, as
in the daemon. The job does all that the fetch of a backup does: it hashes every object, checks every link of
commits, trees and tags, and fsyncs pack, index and refs.

- first: a first mirror, against `git clone --mirror` and stock dulwich (`client.fetch`, then the refs).
- change: the last commits of a branch, against `git remote update --prune`.
- nothing: a fetch without changes, against `git ls-remote` and `git remote update --prune`.
- many: a hundred small repositories, against the best parallel loop of `git clone --mirror`.
- refs: a first mirror of 20,000 refs, and a fetch without changes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.made import make
from benchmarks.measured import Cost, Memory, command, median, processor_seconds
from benchmarks.served import served
from mirror.git.mirrors.fetch import FetchJob, fetch
from mirror.git.workers.pool import WorkerPool

SMALL = 100
REFS = 20_000
CHANGE = 100
LOOKS = 30
_STOCK = """
import sys
from dulwich.client import HttpGitClient
from dulwich.repo import Repo
url, path = sys.argv[1:]
repo = Repo.init_bare(path, mkdir=True)
refs = HttpGitClient(url).fetch(b"", repo).refs
repo.refs.add_packed_refs({name: value for name, value in refs.items() if name.startswith(b"refs/")})
"""


def git(*words: str, stdin: str = "") -> str:
    """Run C git; returns its stdout."""
    done = subprocess.run(["git", *words], input=stdin, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Ours:
    """Async context manager: running workers, as in the daemon."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def __aenter__(self) -> Ours:
        self._pool = await WorkerPool(self._size, environment=os.environ).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__(None, None, None)

    async def fetch(self, url: str, path: Path) -> int:
        """Run one fetch job; returns the number of objects received."""
        return (await self._pool.run(FetchJob(str(path), url))).received_objects

    def pids(self) -> list[int]:
        """The process ids of the workers."""
        tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
        below = [int(one) for task in tasks for one in (task / "children").read_text().split()]
        return [
            one for one in below if b"mirror.git.workers.main" in Path(f"/proc/{one}/cmdline").read_bytes()
        ]

    async def measured(self, url: str, path: Path) -> tuple[Cost, int]:
        """The cost of one job, and the number of objects received."""
        pids = self.pids()
        before = processor_seconds(pids)
        with Memory(own=False) as memory:
            begun = time.perf_counter()
            count = await self.fetch(url, path)
            wall = time.perf_counter() - begun
        return Cost(wall, processor_seconds(pids) - before, memory.most / 1024), count


def row(name: str, costs: dict[str, list[Cost]], *, unit: float = 1.0) -> None:
    """Print the medians, and our ratio to each of the others. `unit`: 1000 for milliseconds."""
    middle = {who: median(found) for who, found in costs.items()}
    mine = middle["mirror"]
    for who, cost in middle.items():
        ratio = f"{mine.wall / cost.wall:>8.2f}" if who != "mirror" else f"{'':>8}"
        wall, cpu = cost.wall * unit, cost.cpu * unit
        memory = f"{cost.memory:>8.0f}" if cost.memory else f"{'':>8}"
        print(f"{name:28} {who:26} {wall:>9.2f} {cpu:>9.2f} {memory} {ratio}", flush=True)
        name = ""


async def first(url: str, name: str, folder: Path, rounds: int) -> None:
    """A first mirror."""
    costs: dict[str, list[Cost]] = {"mirror": [], "git clone --mirror": [], "stock dulwich": []}
    count = 0
    # The start of a worker does not count: in the daemon the workers already run.
    async with Ours(1) as ours:
        await ours.fetch(f"{url}/{name}", folder / "warm.git")
        for number in range(rounds):
            path = folder / f"{number}.git"
            cost, count = await ours.measured(f"{url}/{name}", path)
            costs["mirror"].append(cost)
            shutil.rmtree(path)
            words = ["git", "clone", "-q", "--mirror", f"{url}/{name}", str(path)]
            costs["git clone --mirror"].append(command(words, memory=True))
            shutil.rmtree(path)
            if number < 2:
                words = [sys.executable, "-c", _STOCK, f"{url}/{name}", str(path)]
                costs["stock dulwich"].append(command(words, memory=True))
                shutil.rmtree(path)
    shutil.rmtree(folder / "warm.git")
    row(f"first, {count} objects", costs)


async def change(root: Path, url: str, name: str, folder: Path, rounds: int) -> None:
    """The last commits of the branch that moved last."""
    source, served_name = root / name, f"change-{name}"
    words = ["for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(objectname)", "refs/heads"]
    tip = git("-C", str(source), *words)
    depth = min(CHANGE, int(git("-C", str(source), "rev-list", "--count", "--first-parent", tip)) - 1)
    old = git("-C", str(source), "rev-parse", f"{tip}~{depth}")
    git("init", "-q", "--bare", "-b", "main", str(root / served_name))
    (root / served_name / "objects/info/alternates").write_text(f"{(source / 'objects').resolve()}\n")
    git("-C", str(root / served_name), "update-ref", "refs/heads/main", old)
    theirs, mine = folder / "theirs.git", folder / "mine.git"
    git("clone", "-q", "--mirror", f"{url}/{served_name}", str(theirs))
    fetch(FetchJob(str(mine), f"{url}/{served_name}"))
    git("-C", str(root / served_name), "update-ref", "refs/heads/main", tip)
    costs: dict[str, list[Cost]] = {"mirror": [], "git remote update --prune": []}
    count = 0
    async with Ours(1) as ours:
        await ours.fetch(f"{url}/{name}", folder / "warm.git")
        for number in range(rounds):
            copy = folder / f"{number}.git"
            shutil.copytree(mine, copy)
            cost, count = await ours.measured(f"{url}/{served_name}", copy)
            costs["mirror"].append(cost)
            shutil.rmtree(copy)
            shutil.copytree(theirs, copy)
            words = ["git", "-C", str(copy), "-c", "gc.auto=0", "remote", "update", "--prune"]
            costs["git remote update --prune"].append(command(words))
            shutil.rmtree(copy)
    row(f"{depth} commits, {count} objects", costs)


async def nothing(url: str, name: str, folder: Path, label: str = "nothing changed, ms") -> None:
    """A fetch without changes."""
    mine, theirs = folder / "mine.git", folder / "theirs.git"
    git("clone", "-q", "--mirror", f"{url}/{name}", str(theirs))
    costs: dict[str, list[Cost]] = {"mirror": [], "git ls-remote": [], "git remote update --prune": []}
    async with Ours(1) as ours:
        await ours.fetch(f"{url}/{name}", mine)
        for _ in range(LOOKS):
            pids = ours.pids()
            before, begun = processor_seconds(pids), time.perf_counter()
            await ours.fetch(f"{url}/{name}", mine)
            costs["mirror"].append(Cost(time.perf_counter() - begun, processor_seconds(pids) - before))
            costs["git ls-remote"].append(command(["git", "ls-remote", "-q", f"{url}/{name}"]))
            costs["git remote update --prune"].append(
                command(["git", "-C", str(theirs), "-c", "gc.auto=0", "remote", "update", "--prune"])
            )
    row(label, costs, unit=1000.0)


async def many(root: Path, url: str, folder: Path, rounds: int) -> None:
    """A hundred small repositories, several at a time. Here the start of our workers counts."""
    for number in range(SMALL):
        make(root / f"small-{number}.git", 50, folders=5, files=4, seed=number)
    names = [f"small-{number}.git" for number in range(SMALL)]
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for size in (2, 4, 8):
            into = folder / "mine"
            into.mkdir()
            with Memory() as memory:
                begun, before = time.perf_counter(), os.times()
                async with Ours(size) as ours:
                    await asyncio.gather(*(ours.fetch(f"{url}/{name}", into / name) for name in names))
                wall, after = time.perf_counter() - begun, os.times()
            cpu = sum(after[:4]) - sum(before[:4])
            costs.setdefault(f"mirror, {size} workers", []).append(Cost(wall, cpu, memory.most / 1024))
            shutil.rmtree(into)
        for size in (2, 4, 8):
            into = folder / "theirs"
            into.mkdir()
            script = f'git clone -q --mirror "{url}/$1" "{into}/$1"'
            words = ["xargs", "-P", str(size), "-n", "1", "sh", "-c", script, "sh"]
            costs.setdefault(f"git, {size} at a time", []).append(
                command(words, memory=True, stdin="\n".join(names))
            )
            shutil.rmtree(into)
    best = min((who for who in costs if who.startswith("git")), key=lambda who: median(costs[who]).wall)
    for who in [one for one in costs if one.startswith("mirror")]:
        row(f"{SMALL} small, {who.partition(', ')[2]}", {"mirror": costs[who], best: costs[best]})


async def refs(root: Path, url: str, folder: Path, rounds: int) -> None:
    """Very many refs."""
    path = root / "refs.git"
    make(path, 200)
    commits = git("-C", str(path), "rev-list", "main").split()
    lines = [f"create refs/heads/b/{n} {commits[n % len(commits)]}\n" for n in range(REFS)]
    git("-C", str(path), "update-ref", "--stdin", stdin="".join(lines))
    git("-C", str(path), "pack-refs", "--all")
    print(f"{REFS} refs:")
    await first(url, path.name, folder, rounds)
    await nothing(url, path.name, folder)


async def measure(options: argparse.Namespace, root: Path, folder: Path) -> None:
    """Run the selected measurements."""
    wanted = set(options.only.split(","))
    sources: Sequence[Path] = options.repositories
    if not sources:
        make(root / "made.git", 12_000)
    for source in sources:
        (root / f"{source.stem}.git").symlink_to(source.resolve())
    names = [f"{source.stem}.git" for source in sources] or ["made.git"]
    print(f"{'':28} {'':26} {'wall':>9} {'cpu':>9} {'MiB':>8} {'ratio':>8}")
    with served(root) as url:
        for name in names:
            print(f"{name}:")
            for kind in ("first", "change", "nothing"):
                if kind not in wanted:
                    continue
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    if kind == "first":
                        await first(url, name, Path(place), options.rounds)
                    elif kind == "change":
                        await change(root, url, name, Path(place), options.rounds)
                    else:
                        await nothing(url, name, Path(place))
        with tempfile.TemporaryDirectory(dir=folder) as place:
            if "many" in wanted:
                await many(root, url, Path(place), options.rounds)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            if "refs" in wanted:
                await refs(root, url, Path(place), options.rounds)


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="first,change,nothing,many,refs")
    parser.add_argument("repositories", nargs="*", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options, Path(root), Path(folder)))


if __name__ == "__main__":
    main()
