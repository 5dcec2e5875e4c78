"""Measure what one job for each repository costs PostgreSQL: deferred, fetched and finished by procrastinate.

    python -m benchmarks.queued [--jobs 10000] [--rounds 3] [--shards 3]

In each round, one job is deferred for each repository, in the queue of its shard, with `lock` and
`queueing_lock` on its uuid; then a worker for each shard does them all, `--side` at a time. The jobs
themselves do nothing. Finished ones stay until the last round, and are removed then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from procrastinate import App, PsycopgConnector

from benchmarks.measured import processor_seconds
from tests.cluster.postgres import Postgres, need_postgres

# So late, at most, a session of PostgreSQL adds to the statistics.
STATISTICS_SECONDS = 1.2


@dataclass(frozen=True)
class Spent:
    """What PostgreSQL has spent so far: processor seconds, bytes of WAL, transactions; the bytes of a
    database and its dead rows now."""

    cpu: float
    wal: int
    transactions: int
    size: int
    dead: int

    @classmethod
    def of(cls, server: Postgres, database: str) -> Spent:
        """As of now."""
        time.sleep(STATISTICS_SECONDS)
        [[wal]] = server.query("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        [[transactions]] = server.query(
            f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'"
        )
        [[size, dead]] = server.query(
            "SELECT pg_database_size(current_database()), coalesce(sum(n_dead_tup), 0)"
            " FROM pg_stat_user_tables",
            database,
        )
        return cls(_processor_seconds(server), int(wal), int(transactions), int(size), int(dead))

    def since(self, before: Spent) -> str:
        """What was spent since then, in words."""
        return (
            f"PostgreSQL: {self.cpu - before.cpu:.2f} s of processor, {(self.wal - before.wal) / 1e6:.1f} MB"
            f" of WAL, {self.transactions - before.transactions} transactions, then"
            f" {self.size / 1e6:.1f} MB in all, {self.dead} dead rows"
        )


def _processor_seconds(server: Postgres) -> float:
    """Of all processes that the server has and had."""
    total = 0.0
    for one in server.processes():
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            total += processor_seconds([one])
    return total


class Clock:
    """Prints how long each step took, and what PostgreSQL spent on it."""

    def __init__(self, server: Postgres, database: str) -> None:
        self._server, self._database = server, database
        self.begin()

    def begin(self) -> None:
        """What follows counts."""
        self._spent, self._begun = Spent.of(self._server, self._database), time.perf_counter()

    def tell(self, what: str, count: int) -> None:
        """Print a step of so many jobs, and begin the next."""
        took = time.perf_counter() - self._begun
        spent = Spent.of(self._server, self._database)
        rate = f", {count / took:.0f}/s" if count else ""
        print(f"  {what}: {took:.1f} s{rate}; {spent.since(self._spent)}", flush=True)
        self.begin()


async def measure(server: Postgres, *, jobs: int, rounds: int, shards: int, side: int) -> None:
    """Run the rounds, and print what each step took."""
    database = server.make_database()
    app = App(connector=PsycopgConnector(conninfo=server.url(database)))
    uuids = [str(uuid.UUID(int=number)) for number in range(jobs)]

    @app.task(name="backup")
    async def backup(subject: str) -> None:
        del subject

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        clock = Clock(server, database)
        for number in range(1, rounds + 1):
            print(f"round {number}: {jobs} jobs, {shards} shards, {side} side by side in each", flush=True)
            clock.begin()
            await _defer(app, uuids, shards)
            clock.tell("deferred", jobs)
            await asyncio.gather(*(_work(app, shard, side) for shard in range(shards)))
            clock.tell("fetched and finished", jobs)
        await app.job_manager.delete_old_jobs(nb_hours=0, include_failed=True)
        clock.tell("removed", jobs * rounds)
    server.query("VACUUM FULL", database)
    clock.tell("vacuumed", 0)


async def _defer(app: App, uuids: Sequence[str], shards: int) -> None:
    for number, one in enumerate(uuids):
        queue = f"shard-{number % shards}"
        task = app.configure_task("backup", queue=queue, lock=one, queueing_lock=one)
        await task.defer_async(subject=one)


async def _work(app: App, shard: int, side: int) -> None:
    await app.run_worker_async(
        queues=[f"shard-{shard}"],
        concurrency=side,
        wait=False,
        install_signal_handlers=False,
        listen_notify=False,
    )


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("jobs", 10_000), ("rounds", 3), ("shards", 3), ("side", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    server = Postgres(need_postgres(), durable=True)
    try:
        work = measure(server, jobs=asked.jobs, rounds=asked.rounds, shards=asked.shards, side=asked.side)
        asyncio.run(work)
    finally:
        server.close()


if __name__ == "__main__":
    main()
