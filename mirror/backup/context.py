"""What a run is handed down: what the caller asked for, the run's store and workers, and one workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import httpx

from mirror.backup.announcements import Announcements
from mirror.backup.listing import Listing
from mirror.backup.results import RunResults
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import Denied
from mirror.collect.context import DEFAULT_LIMITS, CheckpointLimits
from mirror.config.settings import Config, WorkspaceConfig
from mirror.discovery import Discovered
from mirror.git.mirrors.maintenance import DEFAULT_MAINTENANCE, MaintenanceLimits
from mirror.git.workers.job import Tell
from mirror.git.workers.pool import WorkerPool
from mirror.model import EVERYTHING, Clock, Problem, Progress, Repository, Scope, Selector, time_from_text
from mirror.model.elsewhere import Elsewhere, Unheard
from mirror.store.reading.reader import RepositoryFolder, RunHistory, Store, StoreDamaged
from mirror.store.writing.unfinished_backup import UnfinishedMark
from mirror.store.writing.writer import RepositoryWriter, StoreWriter, WorkspaceWriter


@dataclass(frozen=True)
class Request:
    """What the caller asked for. `until` (monotonic) is when waits for the rate limit must end. `renamed`
    are workspaces that were renamed since the configuration named them: by their slug now, that name. Of
    the configuration's entries, those in `scope` are visited. `announcements` are those of hooks, where
    there are any; `elsewhere` are the other hosts of a cluster, and `listed` is what was listed for this
    run already."""

    config: Config
    selectors: tuple[Selector, ...]
    clock: Clock
    environment: Mapping[str, str]
    full: bool
    lock_wait: float
    progress: Progress
    budget: Budget
    transport: httpx.AsyncBaseTransport | None
    until: float
    checkpoint_limits: CheckpointLimits = DEFAULT_LIMITS
    maintenance_limits: MaintenanceLimits = DEFAULT_MAINTENANCE
    renamed: dict[str, str] = field(default_factory=dict)
    scope: Scope = EVERYTHING
    announcements: Announcements | None = None
    elsewhere: Elsewhere | None = None
    listed: Listing | None = None

    @property
    def others(self) -> Elsewhere | None:
        """The other hosts of a cluster; None where this host is none of one."""
        return Unheard() if self.elsewhere is None and self.config.cluster is not None else self.elsewhere

    def why_not(self, uuid: str) -> Problem | None:
        """Why nothing may be written to the folder of a repository; None where it may."""
        return None if self.listed is None else self.listed.contested.get(uuid.lower())

    def _names_of(self, workspace: str) -> tuple[str, ...]:
        """The names that a person may use for a workspace: its slug, and the one in the configuration."""
        return (workspace, self.renamed[workspace]) if workspace in self.renamed else (workspace,)

    def selects_workspace(self, workspace: str) -> bool:
        """Whether the selectors mean anything in the workspace of this slug."""
        names = self._names_of(workspace)
        return not self.selectors or any(one.matches_workspace(*names) for one in self.selectors)

    def may_select_workspace(self, store: Store, name: str, held: str | None) -> bool:
        """Whether the selectors mean anything in the workspace that the configuration calls `name`, by that
        name or by the one that it has now. `held` is the uuid that the store has for it."""
        if self.selects_workspace(name) or held is None:
            return self.selects_workspace(name)
        return any(
            one.uuid == held and self.selects_workspace(one.slug)
            for one in store.workspaces(on_damage=ignore_damage)
        )

    def selects(self, full_name: str) -> bool:
        """Whether the selectors mean the repository of this full name."""
        return not self.selectors or any(self.matches(one, full_name) for one in self.selectors)

    def matches(self, selector: Selector, full_name: str) -> bool:
        """Whether one selector means the repository of this full name, by any name of its workspace."""
        workspace, _, slug = full_name.partition("/")
        return selector.matches_workspace(*self._names_of(workspace)) and selector.matches_repository(slug)

    @property
    def named_workspaces(self) -> set[str]:
        """The workspaces that entries of the configuration name, in lower case."""
        return named_workspaces(self.config)


@dataclass(frozen=True)
class RunContext:
    """One run. `history` is what the records of earlier runs say; `visits` are the workspaces that the run
    has been to; `found` are the entries of the configuration whose workspaces were found, and `listed` the
    uuids of the workspaces that were listed."""

    request: Request
    store: StoreWriter
    workers: WorkerPool
    results: RunResults
    history: RunHistory
    visits: list[Visit] = field(default_factory=list)
    found: list[WorkspaceConfig] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)

    def last_ended(self, entry: WorkspaceConfig) -> datetime | None:
        """When the last run ended that judged the workspaces of an entry of the configuration; None where no
        record says so."""
        ended = []
        for job, last in self.history.scoped.items():
            kind, scope = Scope.of_job(job)
            if kind == "backup" and scope.has(entry.workspace):
                ended.append(time_from_text(last["ended"]))
        return min(max(ended), self.request.clock.now()) if ended else None


@dataclass(frozen=True)
class WorkspaceContext:
    """One workspace of a run, `uuid`. `config` is its entry of the configuration.

    `holds_losses`: a loss counts however old it is, because the brake of the workspace is tripped or was
    not judged. `logins`: by what is fetched, user name and password that git accepted. `is_poll`: the API is
    asked about every repository; otherwise hooks say which. `lost_since`: what was lost from then on is
    judged together. `before_loss` is called before a loss is noted in a folder.
    """

    run: RunContext
    uuid: str
    client: Client
    config: WorkspaceConfig
    holds_losses: bool
    logins: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    lacking_scopes: dict[str, Denied] = field(default_factory=dict)
    is_poll: bool = True
    lost_since: datetime | None = None
    before_loss: Callable[[], None] = lambda: None

    @property
    def store(self) -> StoreWriter:
        """The store of the run."""
        return self.run.store

    @property
    def workers(self) -> WorkerPool:
        """The git workers of the run."""
        return self.run.workers

    @property
    def clock(self) -> Clock:
        """The clock of the run."""
        return self.run.request.clock

    @property
    def progress(self) -> Progress:
        """Where the run reports its progress."""
        return self.run.request.progress

    @property
    def full(self) -> bool:
        """Whether to ignore cursors."""
        return self.run.request.full

    @property
    def checkpoint_limits(self) -> CheckpointLimits:
        """When a checkpoint is due."""
        return self.run.request.checkpoint_limits

    @property
    def maintenance_limits(self) -> MaintenanceLimits:
        """When the packs of a mirror are merged."""
        return self.run.request.maintenance_limits

    @property
    def accepted_missing(self) -> frozenset[str]:
        """The parts and kinds of settings that may be missing."""
        return frozenset(self.config.accept_missing)

    @property
    def lock_wait(self) -> float:
        """How many seconds to wait for the lock of a folder."""
        return self.run.request.lock_wait

    @property
    def silence_timeout(self) -> float:
        """After how many seconds of silence a git server counts as gone."""
        return self.run.request.config.limits.silence_timeout.total_seconds()

    @property
    def git_url(self) -> str:
        """The address of the git server."""
        return self.run.request.config.bitbucket.git_url

    def clone_url_of(self, full_name: str) -> str:
        """Where git fetches the repository of this full name."""
        return f"{self.git_url.rstrip('/')}/{full_name}.git"

    def report_progress(self, subject: str, what: str) -> Tell:
        """A callback for a git job that reports the progress of `what`."""
        return lambda text, *counts: self.progress.report(subject, f"{what}: {text}", *counts)

    def last_confirmed(self, kind: str, uuid: str) -> tuple[str, datetime] | None:
        """The snapshot that an earlier run last found unchanged, and when that was."""
        past = self.run.history.find(kind, uuid)
        if past is None or past.confirmed is None or past.confirmed_as is None:
            return None
        return past.confirmed_as, past.confirmed


@dataclass(frozen=True)
class FolderContext:
    """A repository's folder whose lock is held; `lock` is the lock's descriptor."""

    workspace: WorkspaceContext
    writer: RepositoryWriter
    repository: Repository
    lock: int


@dataclass(frozen=True)
class Visit:
    """A workspace that the run has been to: what the store held of it before, and what was listed.

    Where it is not `is_reached` nothing could be listed or saved; it is only judged at the end. It `began`
    then (monotonic).
    """

    workspace: WorkspaceContext
    home: WorkspaceWriter
    held: Sequence[RepositoryFolder]
    found: Discovered
    mark: UnfinishedMark
    began: float
    is_reached: bool = True


def named_workspaces(config: Config) -> set[str]:
    """The workspaces that entries of the configuration name, in lower case."""
    return {one.workspace.lower() for one in config.workspaces if one.workspace is not None}


def ignore_damage(damage: StoreDamaged) -> None:
    """Skip a damaged folder: its own entry, or the end of the run, names it."""
