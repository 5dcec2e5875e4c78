"""Measure the pages of one repository with many snapshots and pull requests, in this process.

    python -m benchmarks.snapshots [--snapshots 1000] [--pull-requests 20000] [--commits 5000]

Each page is asked for twice: what is read for the first time, and what is known by then.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import subprocess
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.made import make
from mirror.git.refs import read_refs
from mirror.model import Part, PartState
from mirror.store.reading.reader import Store
from tests.clock import FakeClock
from tests.store.helpers import MovedClock, adopt, open_store, website
from tests.web.helpers import client

WORDS = [f"word{number}" for number in range(2000)]
STATES = ("MERGED",) * 12 + ("DECLINED",) * 3 + ("OPEN",)


def pull_request(number: int, rng: random.Random) -> dict[str, Any]:
    """The document of a pull request, of a usual size."""
    person = {"display_name": rng.choice(("Ann Archer", "Bob Baker", "Eve Eng")), "uuid": "{x}"}
    comments = [
        {
            "id": rng.randrange(10**8),
            "content": {"raw": " ".join(rng.choices(WORDS, k=20))},
            "user": person,
            "created_on": f"2026-0{rng.randint(1, 9)}-11T10:00:00+00:00",
        }
        for _ in range(rng.randint(0, 8))
    ]
    return {
        "pull_request": {
            "id": number, "title": " ".join(rng.choices(WORDS, k=6)), "state": rng.choice(STATES),
            "description": " ".join(rng.choices(WORDS, k=60)), "author": person,
            "created_on": "2026-01-11T10:00:00+00:00", "updated_on": "2026-02-11T10:00:00+00:00",
            "source": {"branch": {"name": "feature/x"}}, "destination": {"branch": {"name": "main"}},
        },
        "comments": comments, "activity": [], "tasks": [], "statuses": None, "commits": None,
    }  # fmt: skip


async def make_large(path: Path, *, snapshots: int, pull_requests: int, commits: int) -> None:
    """Create a store at `path` with the repository `acme/large`: each snapshot changes five pull requests and
    moves a branch."""
    rng, clock = random.Random(7), MovedClock()
    with open_store(path) as store:
        writer = adopt(store, website("large"))
        make(writer.path / "code.git", commits)
        (writer.path / "code.git" / "config").unlink()
        refs = read_refs(writer.path / "code.git")
        tips = _first_parents(writer.path / "code.git", refs.refs[b"refs/heads/main"])
        held = {number: pull_request(number, rng) for number in range(1, pull_requests + 1)}
        changed = list(held)
        parts = {
            "code": Part(PartState.COMPLETE, {"refs": 2}),
            "pull_requests": Part(PartState.COMPLETE, {"pull_requests": pull_requests}),
            "pipelines": Part(PartState.DENIED, {}, "the token lacks a scope", "pipeline"),
        }
        for number in range(snapshots):
            clock.move(hours=4)
            moved = {**refs.refs, b"refs/heads/moving": tips[-1 - number % len(tips)]}
            async with writer.lock(0, clock):
                draft = writer.draft()
                draft.put("repository.json", {"name": "large", "description": "Very large"})
                for one in changed:
                    draft.put(f"pull-requests/{one // 100}/{one}.json", held[one])
                writer.snapshot(
                    draft, begun=clock.now() - timedelta(minutes=1), program="mirror", parts=parts,
                    refs=type(refs)(moved, refs.head), pins={},
                )  # fmt: skip
            changed = rng.sample(sorted(held), 5)
            for one in changed:
                held[one]["pull_request"]["title"] = " ".join(rng.choices(WORDS, k=6))


def _first_parents(path: Path, tip: str) -> list[str]:
    text = subprocess.run(
        ["git", "-C", str(path), "rev-list", "--first-parent", tip],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return text.split()


# Addresses below the repository; `last` and `middle` are ids of snapshots.
_PAGES = (
    "", "/snapshots", "/snapshots?before={middle}", "/{last}", "/{last}/pull-requests",
    "/{middle}/pull-requests?before=10000", "/{last}/pull-requests?state=OPEN",
    "/{last}/pull-requests?state=SUPERSEDED", "/{last}/pull-requests/12345", "/{last}/search?q=word7",
    "/{last}/code", "/{last}/code/log", "/{last}/code/log?skip=4500", "/{last}/code/tree?path=src",
    "/{last}/code/commit", "/compare", "/compare?old={first}",
)  # fmt: skip


async def measure(path: Path) -> None:
    """Print the processor time that each page takes, and (in brackets) how long it takes, the first and the
    second time; then the memory of all."""
    with Store.open(path) as store:
        [folder] = store.repositories()
        ids = sorted(folder.metadata.tags())
    places = {"first": ids[0], "middle": ids[len(ids) // 2], "last": ids[-1]}
    async with client(path, FakeClock()) as web:
        await web.get("/repositories/acme/large/latest")  # imports and templates
        for page in _PAGES:
            spent = []
            for _ in range(2):
                began, busy = time.perf_counter(), time.process_time()
                answer = await web.get("/repositories/acme/large" + page.format(**places))
                spent += [time.process_time() - busy, time.perf_counter() - began]
            texts = (f"{one * 1000:5.0f} ms ({two * 1000:5.0f})" for one, two in (spent[:2], spent[2:]))
            print(*texts, f"{answer.status_code} {page or '/'}", flush=True)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--snapshots", type=int, default=1000)
    parser.add_argument("--pull-requests", type=int, default=20_000)
    parser.add_argument("--commits", type=int, default=5000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = make_large(
            Path(folder), snapshots=asked.snapshots, pull_requests=asked.pull_requests, commits=asked.commits
        )
        asyncio.run(made)
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
