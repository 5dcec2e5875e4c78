"""What was asked of a backup run, and what it has come to so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import httpx

from mirror.backup.repository import Backed
from mirror.backup.tools import Tools
from mirror.bitbucket.client.budget import Budget
from mirror.config.settings import Config, WorkspaceConfig
from mirror.discovery import Discovered
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, Problem, Progress, Repository, RunEntry, Selector
from mirror.store.reading.reader import RepositoryFolder, RunHistory, Store, StoreDamaged
from mirror.store.writing.unfinished_backup import UnfinishedMark
from mirror.store.writing.writer import WorkspaceWriter

_log = get_logger("backup")


@dataclass
class Tally:
    """What the run has come to so far."""

    identifier: str
    started: datetime
    past: RunHistory = field(default_factory=RunHistory)
    done: dict[tuple[str, str], RunEntry] = field(default_factory=dict)  # by kind and uuid
    problems: list[Problem] = field(default_factory=list)
    pending: dict[str, Repository] = field(default_factory=dict)
    requests: int = 0
    unlisted: bool = False  # some workspace could not be listed
    brakes: list[str] = field(default_factory=list)  # the workspaces' folders that have one
    visits: list[Visit] = field(default_factory=list)
    # The entries of the configuration whose workspaces were found in this run.
    listing: list[WorkspaceConfig] = field(default_factory=list)
    # Repositories of which more is to be asked for, by uuid.
    rests: dict[str, Backed] = field(default_factory=dict)
    # The workspaces that were gone through, by uuid.
    workspaces: set[str] = field(default_factory=set)
    # The full names of all repositories that were listed, selected or not.
    seen: set[str] = field(default_factory=set)

    @property
    def entries(self) -> tuple[RunEntry, ...]:
        """An entry for each repository and workspace that the run has dealt with."""
        return tuple(self.done.values())

    def add(self, entry: RunEntry) -> None:
        """Note an entry, in the place of an earlier one of the same repository or workspace."""
        self.done.pop((entry.kind, entry.uuid), None)
        self.done[entry.kind, entry.uuid] = entry

    def note(self, done: Backed) -> None:
        """Note the result of a repository's turn."""
        self.add(done.entry)
        self.rests.pop(done.entry.uuid, None)
        if done.rest is not None:
            self.rests[done.entry.uuid] = done

    def fail(self, error: MirrorError, where: str = "") -> None:
        """Note something that concerns the run as a whole."""
        self.problems.append(
            Problem(error.exit_code, f"{where}: {error.message}" if where else error.message, hint=error.hint)
        )
        _log.error("backup.failed", where=where or None, reason=error.message, hint=error.hint)


@dataclass(frozen=True)
class Visit:
    """A workspace that the run has been to: what the store held of it before, and what was listed."""

    tools: Tools
    home: WorkspaceWriter
    held: Sequence[RepositoryFolder]
    found: Discovered
    mark: UnfinishedMark
    # False: nothing could be listed nor saved, and it is only to be judged at the end.
    is_reached: bool = True


@dataclass(frozen=True)
class Order:
    """What was asked of the run, and with what."""

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
    # Workspaces that were renamed since the configuration named them: their slug now, and that name.
    renamed: dict[str, str] = field(default_factory=dict)


def selects_workspace(order: Order, workspace: str) -> bool:
    """Whether a run over a part concerns the workspace of this slug."""
    names = names_of(order, workspace)
    return not order.selectors or any(one.matches_workspace(*names) for one in order.selectors)


def may_select_workspace(order: Order, store: Store, name: str, held: str | None) -> bool:
    """Whether a run over a part concerns the workspace that the configuration calls `name`; `held` is the
    uuid that the store has for it: a person may use the name that it has now."""
    if selects_workspace(order, name) or held is None:
        return selects_workspace(order, name)
    return any(
        one.uuid == held and selects_workspace(order, one.slug)
        for one in store.workspaces(on_damage=told_later)
    )


def names_of(order: Order, workspace: str) -> tuple[str, ...]:
    """The names by which a person may mean a workspace: its slug, and the one in the configuration."""
    return (workspace, order.renamed[workspace]) if workspace in order.renamed else (workspace,)


def chooses(order: Order, repository: Repository) -> bool:
    """Whether a run over a part concerns a repository."""
    return selects(order, repository.full_name)


def selects(order: Order, full_name: str) -> bool:
    """Whether a run over a part concerns the repository of this full name."""
    return not order.selectors or any(matches(order, one, full_name) for one in order.selectors)


def matches(order: Order, selector: Selector, full_name: str) -> bool:
    """Whether a selector means the repository of this full name, by any name of its workspace."""
    workspace, _, slug = full_name.partition("/")
    return selector.matches_workspace(*names_of(order, workspace)) and selector.matches_repository(slug)


def told_later(damage: StoreDamaged) -> None:
    """Pass a folder with an unreadable card over: its own entry, or the end of the run, names it."""
