"""Measure a cluster of shards on this machine: its first backup, and runs without changes.

    python -m benchmarks.shards [--repositories 10000] [--shards 1,2,3] [--runs 3] [--whole]

The simulator runs in a process of its own, and so does each shard's daemon. PostgreSQL is as Debian sets it,
and writes to the disk. Requests have no limit here, but each is lent by the database all the same. Without
`--whole`, code, profiles and pull requests are backed up, and nothing else. A time is from when a discovery
is due to the end of the last shard's run, as the database has it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measured import most_memory, processor_seconds
from benchmarks.queued import Spent
from benchmarks.simulated import NO_LIMIT, Upstream, serve, small_repositories, upstream
from mirror.cluster.schema import migrate
from mirror.simulator import World
from mirror.store.writing.writer import create_or_open
from tests.cluster.clusters import database_at
from tests.cluster.postgres import Postgres, need_postgres
from tests.e2e.helpers import MADE

HERE = "benchmarks.shards"
NOT_WHOLE = (
    "    parts: {issues: false, pipelines: false, pipeline_logs: false, downloads: false, settings: false,"
    " snippets: false, wiki: false, lfs: false, commit_comments: false}\n"
)


class Shards:
    """Daemons of a cluster."""

    def __init__(
        self, folder: Path, server: Postgres, database: str, upstream: Upstream, *, whole: bool
    ) -> None:
        self._folder, self._server, self.database = folder, server, database
        self._upstream, self._whole = upstream, whole
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, count: int) -> None:
        """Start so many of them, on empty stores and an empty database."""
        asyncio.run(_migrate(self._server.url(self.database)))
        for number in range(count):
            folder = self._folder / f"shard-{number}"
            folder.mkdir(parents=True)
            secret = folder / "database"
            secret.touch(mode=0o600)
            secret.write_text(self._server.url(self.database))
            self._upstream.configured(
                folder,
                ("" if self._whole else NOT_WHOLE)
                + "limits: {window: 100h, git_workers: 2}\nschedule: {backup: '@yearly', jitter: none}\n"
                f"cluster: {{database: {{file: database}}, shard: shard-{number}}}\n",
            )
            create_or_open(folder / "store", now=MADE).close()
        for number in range(count):
            config = self._folder / f"shard-{number}" / "config.yaml"
            with (config.parent / "log").open("wb") as log:
                words = [sys.executable, "-m", "mirror", "daemon", "-c", str(config), "--log-format", "json"]
                self.processes.append(subprocess.Popen(words, stdout=log, stderr=log))

    def begin(self) -> None:
        """Have everything backed up again: the next report of any host finds a discovery due."""
        self._server.query(
            "DELETE FROM mirror.parts; UPDATE mirror.discoveries SET due = '-infinity'", self.database
        )

    def wait(self, count: int) -> float:
        """Wait until all shards have done their parts; returns the seconds since the discovery was due."""
        query = (
            "SELECT count(*), count(ended), coalesce(max(exit_code), 0),"
            " coalesce(extract(epoch FROM max(ended) - (SELECT min(due) FROM mirror.discoveries)), 0)"
            " FROM mirror.parts"
        )
        while True:
            time.sleep(0.5)
            assert all(one.poll() is None for one in self.processes), "a daemon has ended"
            [[given, ended, code, seconds]] = self._server.query(query, self.database)
            if int(given) == int(ended) == count:
                assert int(code) == 0, f"a shard's run ended with {code}"
                return float(seconds)

    def stop(self) -> None:
        """Stop them."""
        for one in self.processes:
            one.terminate()
        for one in self.processes:
            one.wait()


async def _migrate(url: str) -> None:
    database = database_at(url)
    await migrate(database)
    await database.close()


def measure(folder: Path, server: Postgres, there: Upstream, count: int, runs: int, *, whole: bool) -> None:
    """Measure a cluster of so many shards."""
    database = server.make_database()
    shards = Shards(folder, server, database, there, whole=whole)
    try:
        there.requests()
        before = Spent.of(server, database)
        shards.start(count)
        for number in range(runs + 1):
            pids = [one.pid for one in shards.processes]
            used = processor_seconds(pids)
            if number:
                shards.begin()
            took = shards.wait(count)
            api, git = there.requests()
            spent = Spent.of(server, database)
            name = "first" if number == 0 else f"nothing changed, {number}"
            print(
                f"{count} shards, {name}: {took:.1f} s; {api} requests of the API, {git} of git; daemons"
                f" {processor_seconds(pids) - used:.1f} s of processor, {most_memory(pids)} MiB at most;"
                f" {spent.since(before)}",
                flush=True,
            )
            before = spent
    finally:
        shards.stop()
        server.drop_database(database)


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int, default=10_000)
    parser.add_argument("--shards", default="1,2,3")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        world = World(asked.serve, limit=NO_LIMIT)
        serve(world, small_repositories(world, asked.repositories))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Postgres(need_postgres(), durable=True)
        stack.callback(server.close)
        there = stack.enter_context(
            upstream([HERE, "--repositories", str(asked.repositories), "--serve", str(folder / "upstream")])
        )
        print(f"{asked.repositories} repositories, {os.cpu_count()} cores", flush=True)
        for count in map(int, asked.shards.split(",")):
            measure(folder / str(count), server, there, count, asked.runs, whole=asked.whole)


if __name__ == "__main__":
    main()
