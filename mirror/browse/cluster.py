"""A cluster as one of its hosts sees it: the other shards, and what they told of their repositories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirror.browse.attention import Concern, Urgency
from mirror.browse.status import RepositoryStatus, Status
from mirror.metrics import definitions
from mirror.metrics.definitions import Sample

# What needs attention in no single repository is told under this name.
CLUSTER = "The cluster"


@dataclass(frozen=True)
class ShardSeen:
    """A shard: when it last reported (`seen`), its state then (here, silent, unknown, called dead), and its
    repositories and jobs by the database. Of `untold` repositories it has told nothing yet. `copies` are the
    addresses of its copies, `concerns` what somebody should look at."""

    name: str
    state: str
    host: str
    seen: datetime
    repositories: int = 0
    untold: int = 0
    running: int = 0
    waiting: int = 0
    copies: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterSeen:
    """What the database says of the cluster to the shard `shard`. Where it cannot be asked, `trouble` says
    why, and the rest is empty: unknown.

    `rows` are the repositories of other shards, as they told them; `homes` says by full name in which other
    shard each repository is. `discovered` is when Bitbucket was last asked what there is. `concerns` are
    those of no single shard.
    """

    shard: str
    trouble: str | None = None
    shards: tuple[ShardSeen, ...] = ()
    rows: tuple[RepositoryStatus, ...] = ()
    homes: Mapping[str, str] = field(default_factory=dict)
    discovered: datetime | None = None
    concerns: tuple[str, ...] = ()

    def shard_of(self, full_name: str) -> ShardSeen | None:
        """The other shard that has a repository; None: no other one, as far as is known."""
        home = self.homes.get(full_name)
        return next((one for one in self.shards if one.name == home), None)

    def all_concerns(self) -> list[Concern]:
        """What needs attention, beside the repositories."""
        if self.trouble is not None:
            text = f"what the other shards have is not known: {self.trouble}"
            return [Concern(CLUSTER, Urgency.FAILING, text, "doctor")]
        command = "cluster status"
        found = [Concern(CLUSTER, Urgency.FAILING, text, command) for text in self.concerns]
        for one in self.shards:
            is_well = one.state == "here" or (one.state == "called dead" and not one.repositories)
            urgency = Urgency.NOTED if is_well else Urgency.FAILING
            found += [Concern(CLUSTER, urgency, text, command) for text in one.concerns]
        return sorted(found, key=lambda one: one.urgency)


def with_others(found: Status, rows: Sequence[RepositoryStatus]) -> Status:
    """The status of a shard's store, with the rows of other shards. What the store has itself counts. Left
    out are the workspaces whose own documents another shard backs up."""
    # One that was made anew has the name of a deleted one.
    own = {(one.name, one.folder) for one in found.repositories}
    others = (one for one in rows if (one.name, one.folder) not in own)
    workspaces = tuple(one for one in found.workspaces if one.is_tried)
    return replace(found, repositories=(*found.repositories, *others), workspaces=workspaces)


def cluster_figures(seen: ClusterSeen) -> Iterator[Sample]:
    """The samples of a cluster, which every host has alike; what is not known has none."""
    yield Sample(definitions.CLUSTER_KNOWN, seen.trouble is None)
    for one in seen.shards:
        if one.state == "called dead":
            continue
        yield Sample(definitions.SHARD_SEEN, one.seen.timestamp(), (one.name,))
        yield Sample(definitions.SHARD_REPOSITORIES, one.repositories, (one.name,))
        yield Sample(definitions.SHARD_WAITING, one.waiting, (one.name,))
    if seen.discovered is not None:
        yield Sample(definitions.DISCOVERED, seen.discovered.timestamp())
