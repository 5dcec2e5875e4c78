"""A process that borrows requests from the cluster's lender and spends them as fast as it may."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import mirror.cluster.leases
from mirror.auth.secrets import SecretSource
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.failures import RateLimited
from mirror.cli.system import SystemClock
from mirror.cluster.database import Database
from mirror.cluster.leases import ClusterLeases
from mirror.errors import TryLater
from tests.cluster.clocked import end_with

# Not an hour: the limit holds for any time of this length, in seconds.
WINDOW, LEASE, MARGIN = 8.0, 1.5, 0.5
SIDE = 4


def main() -> int:
    """Spend until somebody ends this process. The arguments: its name, the limit, and the file that gets the
    time of each request (of CLOCK_MONOTONIC)."""
    import sys

    name, limit, file = sys.argv[1:]
    end_with(int(os.environ["TESTS"]))
    for constant, value in (("HOUR", WINDOW), ("LEASE_SECONDS", LEASE), ("MARGIN_SECONDS", MARGIN)):
        setattr(mirror.cluster.leases, constant, value)
    with Path(file).open("a", buffering=1) as stream:
        asyncio.run(_spend(name, int(limit), stream.write))
    return 0


async def _spend(name: str, limit: int, sent: object) -> None:
    clock = SystemClock()
    database = Database(SecretSource("env", "DATABASE"), os.environ, label=f"borrower {name}")
    budget = Budget(clock, limit=limit, leases=ClusterLeases(database, name, clock, limit=limit))
    await asyncio.gather(*(_client(budget, clock, sent) for _ in range(SIDE)))


async def _client(budget: Budget, clock: SystemClock, sent: object) -> None:
    while True:
        try:
            right = await budget.acquire("somebody", "api")
        except (RateLimited, TryLater):
            await asyncio.sleep(0.1)
            continue
        await asyncio.sleep(random.random() * 0.1)  # a request waits for its connection
        now = time.monotonic()
        if now < right:
            assert callable(sent)
            sent(f"{now}\n")
