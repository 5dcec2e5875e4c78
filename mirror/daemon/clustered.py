"""The service as one host of a cluster: what it does for it, and what it has from it."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from mirror import __version__
from mirror.backup.listing import Listing, list_scope
from mirror.config import Config
from mirror.daemon.jobs import Means
from mirror.daemon.queue import LocalQueue
from mirror.daemon.schedule import Job
from mirror.errors import UsageError
from mirror.model import Clock, Run, Scope
from mirror.model.elsewhere import Elsewhere
from mirror.model.leases import Leases
from mirror.model.queue import Queue, Work

if TYPE_CHECKING:
    from mirror.cluster.discovery import Due
    from mirror.cluster.host import Host


class Clustered:
    """The service's host of a cluster. Where the configuration has none, everything stays in this process.

    `leases` lend its requests; None: it counts for itself. `elsewhere` are the other hosts.
    """

    def __init__(self, config: Config, clock: Clock, environment: Mapping[str, str]) -> None:
        self._config, self._clock = config, clock
        self.leases: Leases | None = None
        self.elsewhere: Elsewhere | None = None
        self._host: Host | None = None
        self._jobs: Sequence[Job] = ()
        if config.cluster is not None:
            from mirror.cluster.brakes import ClusterBrake
            from mirror.cluster.database import Database
            from mirror.cluster.leases import ClusterLeases

            self._database = Database.of(config, environment)
            self._cluster_leases = ClusterLeases(self._database, config.cluster.shard, clock)
            self.leases = self._cluster_leases
            self.elsewhere = ClusterBrake(self._database, config.cluster.shard)

    def take_part(
        self,
        means: Means,
        jobs: Sequence[Job],
        run_part: Callable[[Scope, Listing], Awaitable[Run | None]],
        on_change: Callable[[], None],
    ) -> None:
        """Get ready to take part: `jobs` are those of the schedule. Raises NoStore."""
        if self.leases is None:
            return
        from mirror.cluster.host import Doings, Host
        from mirror.cluster.operations import Contact
        from mirror.cluster.returned import put_aside
        from mirror.cluster.stores import me_of

        assert self._config.cluster is not None
        shard = self._config.cluster.shard
        contact = Contact(self._database, shard, self._clock, means.environment)
        self._jobs = jobs

        async def list_it(scope: Scope, known: Sequence[tuple[str, str]]) -> Listing:
            return await list_scope(
                means.config, scope, clock=means.clock, environment=means.environment, budget=means.budget,
                known=known,
            )  # fmt: skip

        self._host = Host(
            self._config, me_of(self._config, socket.gethostname(), __version__, self._interval()),
            Doings(run_part, list_it, self._schedule, on_change, lambda: contact.run(means.config),
                    lambda: put_aside(self._database, means.config.store, shard, self._clock)),
            database=self._database, leases=self._cluster_leases, clock=self._clock,
        )  # fmt: skip

    def _schedule(self) -> list[Due]:
        from mirror.cluster.discovery import Due

        return [Due(one.name, one.scope, one.due_after) for one in self._jobs if one.kind == "backup"]

    def _interval(self) -> float | None:
        """The longest interval between backups of the schedule, in seconds."""
        found = []
        for job in self._jobs:
            first = job.due_after(self._clock.now()) if job.kind == "backup" else None
            second = job.due_after(first) if first is not None else None
            if first is not None and second is not None:
                found.append((second - first).total_seconds())
        return max(found, default=None)

    def queue_of(self, work: Work) -> Queue:
        """The queue of the hooks' jobs."""
        local = LocalQueue(work, self._clock)
        return local if self._host is None else self._host.queue_of(work, local)

    @property
    def trouble(self) -> str | None:
        """Why this host takes no part in its cluster at the moment; None where it does, or has none."""
        trouble = self._host.trouble if self._host is not None else None
        return None if trouble is None else f"cut off from the cluster: {trouble}"

    def next_times(self) -> dict[str, datetime]:
        """When the cluster's discoveries are due."""
        return {} if self._host is None else dict(self._host.next_times)

    async def start(self) -> None:
        """Join the cluster; see `Host.start`."""
        if self._host is not None:
            await self._host.start()

    async def stop(self) -> None:
        """Leave it."""
        if self._host is not None:
            await self._host.stop()

    def check(self, config: Config) -> None:
        """Raise UsageError where a new configuration would change what only a start can."""
        old, new = self._config, config
        if new.cluster != old.cluster or (new.cluster is not None and new.store != old.store):
            raise UsageError(
                "the cluster, or the store of a shard, is another one now",
                hint="restart the daemon to use it: systemctl restart mirror",
            )

    def use(self, config: Config, jobs: Sequence[Job]) -> None:
        """From now on, do as this configuration says, which `check` has seen."""
        self._config, self._jobs = config, jobs
        if self._host is not None:
            from mirror.cluster.stores import me_of

            self._host.use(config, me_of(config, socket.gethostname(), __version__, self._interval()))
