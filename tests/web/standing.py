"""A service that stands still, as the page sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from mirror.auth.secrets import SecretSource
from mirror.browse import RepositoryStatus
from mirror.browse.cluster import ClusterSeen, ShardSeen
from mirror.config import load_text
from mirror.config.cluster import ClusterConfig
from mirror.config.copies import CopyConfig
from mirror.model.live import Activity, BudgetLeft, HooksState, NextJob, Picture, RunningJob
from tests.web.large_world import HOSTILE, NOW

CONFIG = load_text(
    'store: store\nschedule: {backup: "every 1d", verify: "30 3 * * sun", drill: "0 6 1 * *"}\n'
    "credential: {kind: api_token, email: ann@acme.example, token: {env: TOKEN}, expires: 2026-12-05}\n"
    "workspaces: [{workspace: acme}]\n",
    "config.yaml",
    folder=Path("/etc/mirror"),
)


COPIES = ("s3://acme-offsite-backups/mirror/production/shard-a", "s3://second-region/mirror/shard-a")
# The same, as the shard a of a cluster, with two copies.
CLUSTERED = replace(
    CONFIG, copies=tuple(CopyConfig(to=one) for one in COPIES),
    cluster=ClusterConfig(SecretSource("env", "DATABASE"), "a"),
)  # fmt: skip


def cluster_for_tests() -> ClusterSeen:
    """Two shards beside this one: one is well, one is not heard of any more."""
    well = RepositoryStatus(
        "acme/tools", "tools~1a2b3c4d", "confirmed", "20261123T020000Z", "20261123T020000Z",
        NOW - timedelta(minutes=20), 12, 48_000_000,
    )  # fmt: skip
    lost = replace(
        well, name="acme/ledger", state="unknown since 2026-11-20T02:00:00Z", last_confirmed=None,
        last_complete=None,
    )  # fmt: skip
    shards = (
        ShardSeen("a", "here", "backup-1.acme.example", NOW - timedelta(seconds=4), 500, 0, 1, 2, COPIES),
        ShardSeen(
            "b", "here", "backup-2.acme.example", NOW - timedelta(seconds=7), 14, 13, 0, 3,
            ("s3://acme-offsite-backups/mirror/production/shard-b",),
        ),
        ShardSeen(
            "c", "unknown", "backup-3.acme.example", NOW - timedelta(days=3), 1, 0, 0, 9, (),
            ("the shard c is unknown since 2026-11-20T02:00:00Z (3 days ago)",),
        ),
    )  # fmt: skip
    homes = {"acme/tools": "b", "acme/ledger": "c", "acme/told-of-nothing": "b"}
    return ClusterSeen("a", None, shards, (well, lost), homes, NOW - timedelta(minutes=25))


class LiveForTests:
    """A backup and a verification run; the drill is overdue. `subject` is what the backup works on."""

    def __init__(self, subject: str = f"acme/{HOSTILE}") -> None:
        self._subject = subject

    def since(self) -> datetime:
        """Twelve days ago."""
        return NOW - timedelta(days=12)

    def running(self) -> Sequence[RunningJob]:
        """Two jobs, of which one knows how much is left."""
        doing = Activity(self._subject, "fetching git objects", 1200, 40_000)
        picture = Picture(
            (doing, Activity("acme/docs-client-011", "pull requests", 40)), done=131, total=500,
            objects=18_231, bytes=44_000_000, requests=412, requests_left=588, seconds=180, seconds_left=540,
        )  # fmt: skip
        began = NOW - timedelta(minutes=3)
        return [RunningJob("backup", "acme", began, picture), RunningJob("verify", None, began)]

    def following(self) -> Sequence[NextJob]:
        """What the schedule says."""
        return [
            NextJob("backup", None, NOW + timedelta(hours=2, minutes=30), "every 1d"),
            NextJob("verify", None, NOW + timedelta(days=5), "30 3 * * sun"),
            NextJob("drill", None, None, "0 6 1 * *", is_overdue=True),
        ]

    def budget(self) -> Sequence[BudgetLeft]:
        """One credential, two groups."""
        return [BudgetLeft("credential", "api", 412, 1000), BudgetLeft("credential", "git", 2000, 60_000)]

    def hooks(self) -> HooksState | None:
        """Hooks that prove true."""
        return HooksState(1203, 4, 700, 2, True, NOW - timedelta(minutes=1))

    def not_ready(self) -> Sequence[str]:
        """Ready."""
        return ()
