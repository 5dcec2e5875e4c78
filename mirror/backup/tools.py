"""What every repository and workspace of a run is backed up with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import Denied
from mirror.config.settings import WorkspaceConfig
from mirror.git.workers.pool import WorkerPool
from mirror.model import Clock, Progress
from mirror.store.reading.reader import RunHistory
from mirror.store.writing.writer import StoreWriter


@dataclass(frozen=True)
class Tools:
    """What every repository of a workspace is backed up with.

    `began` is when the run did. `until` (monotonic) is how long the run may wait for requests; `others`
    tells how many repositories have not had their turn, and need requests, too. `holds_losses`: what is
    missing stays told however old it is, because the sum over the workspace is tripped or was not taken.
    `lacking` is what the workspace's only credential was refused for want of a scope, by scope.
    """

    store: StoreWriter
    client: Client
    workers: WorkerPool
    config: WorkspaceConfig
    git_url: str
    silence_timeout: float
    clock: Clock
    progress: Progress
    full: bool
    lock_wait: float
    began: datetime
    until: float
    others: Callable[[], int]
    holds_losses: bool
    # What the records of earlier runs tell.
    past: RunHistory
    # By name, user name and password that git was let in with.
    logins: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    lacking: dict[str, Denied] = field(default_factory=dict)

    def last_confirmed(self, kind: str, uuid: str) -> tuple[str, datetime] | None:
        """The snapshot that an earlier run last found unchanged, and when that was."""
        told = self.past.find(kind, uuid)
        if told is None or told.confirmed is None or told.confirmed_as is None:
            return None
        return told.confirmed_as, told.confirmed
