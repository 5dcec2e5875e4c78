"""Measure time, memory and growth of the repository of documents, compared with C git's repack.

    python -m benchmarks.metadata [--documents 20000] [--snapshots 1000] [--changes 5]

The benchmark writes documents (3 KB each), then snapshots that change a few of them, and merges packs as a
backup does. Then C git repacks a copy with its own defaults. The benchmark reads documents of old and new
snapshots from both.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.git.documents.repack import consolidate
from mirror.git.documents.repository import Documents
from mirror.model import dumps

START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = [f"word{number}" for number in range(2000)]


def document(number: int, rng: random.Random) -> dict[str, Any]:
    """The document of a pull request, of a usual size."""
    text = " ".join(rng.choices(WORDS, k=60))
    comments = [
        {
            "id": rng.randrange(10**8),
            "content": {"raw": " ".join(rng.choices(WORDS, k=20))},
            "user": {"uuid": "{x}"},
        }
        for _ in range(8)
    ]
    return {"pull_request": {"id": number, "title": text[:60], "description": text}, "comments": comments}


def size(path: Path) -> int:
    """The bytes of all packs and indexes."""
    return sum(one.stat().st_size for one in (path / "objects" / "pack").iterdir())


def write(path: Path, count: int, snapshots: int, changes: int) -> None:
    """Write everything, and print time and size meanwhile."""
    rng = random.Random(count)
    Documents.create(path).close()
    began = time.perf_counter()
    with Documents(path) as documents:
        edit = documents.edit(None)
        held = {number: document(number, rng) for number in range(count)}
        for number, content in held.items():
            edit.put(f"pull-requests/{number // 100}/{number}.json", dumps(content))
        tip = edit.commit(ref="refs/heads/main", tag="t0", message="0\n", when=START, parent=None)
    print(f"  first snapshot: {time.perf_counter() - began:.1f} s, {size(path) / 1e6:.1f} MB", flush=True)
    began, joined = time.perf_counter(), 0.0
    before = size(path)
    for snapshot in range(1, snapshots + 1):
        with Documents(path) as documents:
            edit = documents.edit(documents.tree_of(tip))
            for number in rng.sample(range(count), changes):
                held[number]["comments"].append({"id": snapshot, "content": {"raw": rng.choice(WORDS)}})
                edit.put(f"pull-requests/{number // 100}/{number}.json", dumps(held[number]))
            when = START + timedelta(hours=4 * snapshot)
            tip = edit.commit(
                ref="refs/heads/main", tag=f"t{snapshot}", message=f"{snapshot}\n", when=when, parent=tip
            )
        moment = time.perf_counter()
        consolidate(path)
        joined += time.perf_counter() - moment
    spent = time.perf_counter() - began
    packs = len(list((path / "objects" / "pack").glob("*.pack")))
    each = 1000 * (spent - joined) / snapshots
    print(
        f"  {snapshots} snapshots of {changes} changes: {each:.1f} ms each, and"
        f" {1000 * joined / snapshots:.1f} ms each for joining; {size(path) / 1e6:.1f} MB in {packs} packs,"
        f" {(size(path) - before) / snapshots / 1024:.1f} KiB each",
        flush=True,
    )


def read(path: Path, snapshots: int) -> tuple[float, float]:
    """Milliseconds to read one document of an old snapshot, and of the newest one."""
    with Documents(path) as documents:
        tags = documents.tags()
        found = []
        for name in ("t1", f"t{snapshots}"):
            tree = documents.tree_of(tags[name])
            began = time.perf_counter()
            for number in range(0, 400, 4):
                data = documents.read(tree, f"pull-requests/{number // 100}/{number}.json")
                assert data is not None and json.loads(data)
            found.append((time.perf_counter() - began) * 10)
    return found[0], found[1]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--snapshots", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        ours, theirs = Path(text) / "ours.git", Path(text) / "theirs.git"
        print(f"{asked.documents} documents")
        write(ours, asked.documents, asked.snapshots, asked.changes)
        print(
            "  a document of the first, of the last snapshot: {:.2f} ms, {:.2f} ms".format(
                *read(ours, asked.snapshots)
            )
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  peak memory of this process (it holds every document, too): {peak:.0f} MiB")
        subprocess.run(["git", "-C", str(ours), "fsck", "--full", "--strict", "--no-dangling"], check=True)
        shutil.copytree(ours, theirs)
        began = time.perf_counter()
        subprocess.run(["git", "-C", str(theirs), "repack", "-a", "-d", "-f", "-q"], check=True)
        spent = time.perf_counter() - began
        print(f"  git repack -a -d -f: {spent:.1f} s, {size(theirs) / 1e6:.1f} MB;", end=" ")
        print(f"ours is {size(ours) / size(theirs):.2f} of that")


if __name__ == "__main__":
    main()
