"""The requests of commands that ask Bitbucket beside the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mirror.cli.context import Context
from mirror.config import Config

if TYPE_CHECKING:
    from mirror.bitbucket.client.budget import Budget

# In seconds: so long a person waits for the rate limit where a command answers a question.
SHORT_PATIENCE = 10.0


@asynccontextmanager
async def borrowing(
    context: Context, config: Config, *, reserve: int | None = 0, patience: float | None = None
) -> AsyncIterator[Budget]:
    """The budget of a command; in a cluster it borrows of what all hosts share. Where the cluster's database
    cannot be used, that is said, and the command counts for itself. `reserve` and `patience` as for
    `connect.budget_of`; a backup leaves a reserve of each hour for such commands."""
    from mirror.bitbucket.client.budget import PATIENCE
    from mirror.connect import budget_of

    patience = PATIENCE if patience is None else patience
    if config.cluster is None:
        yield budget_of(config, context.clock, reserve=reserve, patience=patience)
        return
    from mirror.cluster.borrowing import borrowed

    async with borrowed(config, context.clock, context.environment) as leases:
        budget = budget_of(config, context.clock, leases=leases, reserve=reserve, patience=patience)
        try:
            yield budget
        finally:
            await budget.settle()
