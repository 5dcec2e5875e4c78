"""Pruning: remove the snapshots that the configured retention does not keep. See `prune`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mirror.bitbucket import fields
from mirror.bitbucket.people import without_people
from mirror.config.settings import Config, Retention, WorkspaceConfig
from mirror.errors import UsageError
from mirror.git.workers.pool import WorkerPool
from mirror.model import (
    DONE,
    EVERYTHING,
    Clock,
    Json,
    NoProgress,
    Outcome,
    Problem,
    Progress,
    Run,
    RunEntry,
    Scope,
    Selector,
    Snapshot,
    time_from_text,
)
from mirror.model.elsewhere import Elsewhere, Unheard
from mirror.prune.blockers import find_blocker, find_obstacle
from mirror.prune.common import (
    RunCancelled,
    Started,
    entry_of,
    finish,
    guarded,
    outcome,
    start,
    with_ledger,
)
from mirror.reclaim.erasing import finish_erasures
from mirror.reclaim.freeing import (
    Freed,
    ListedFiles,
    check_hashes_held,
    free_space,
    kept_trees,
    list_files,
)
from mirror.reclaim.pruning import begin_pruning, drop_logs, estimate_freed, finish_pruning
from mirror.retention import Decision, decide, obstacle, while_gone
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder, StoreDamaged, WorkspaceFolder, current_workspace
from mirror.store.writing.folder_writer import AnyWriter
from mirror.store.writing.writer import StoreWriter, open_store

_PIPELINES = "pipelines/"


@dataclass(frozen=True)
class _PruneContext:
    config: Config
    clock: Clock
    progress: Progress
    workers: WorkerPool
    dry_run: bool
    lock_wait: float
    begun: Started
    selectors: tuple[Selector, ...]
    scope: Scope
    elsewhere: Elsewhere | None


async def prune(
    config: Config,
    selectors: Sequence[Selector] = (),
    *,
    scope: Scope = EVERYTHING,
    clock: Clock,
    environment: Mapping[str, str],
    dry_run: bool = False,
    lock_wait: float = 0.0,
    progress: Progress | None = None,
    elsewhere: Elsewhere | None = None,
) -> Run:
    """Remove the snapshots that the retention of `config` does not keep, and free their bytes: in every
    folder of the workspaces in `scope`, or in those that `selectors` match.

    Nothing is removed from a repository whose newest snapshot lacks what the last complete one has, whose
    brake or workspace's brake is tripped, whose workspace has an unfinished backup, or of which `elsewhere`,
    the other hosts of a cluster, do not tell what was lost; its entry says why. `dry_run` reports what would
    be removed, and how many bytes, without a change or a record. `lock_wait` is in seconds. Raises NoStore,
    and UsageError where no retention is configured.
    """
    if not any(one.retention for one in config.workspaces):
        raise UsageError(
            "no retention is configured, so nothing may be removed",
            hint="add `retention: {keep_last: 10, keep_daily: 30}` to the configuration",
        )
    with open_store(config.store, command="mirror prune") as store:
        begun = start(store, "prune", clock.now())
        entries: list[RunEntry] = []
        problems: list[Problem] = []
        async with WorkerPool(config.limits.git_workers, environment=environment) as workers:
            context = _PruneContext(
                config,
                clock,
                progress or NoProgress(),
                workers,
                dry_run,
                lock_wait,
                begun,
                tuple(selectors),
                scope,
                Unheard() if elsewhere is None and config.cluster is not None else elsewhere,
            )
            try:
                await _folders(context, store, entries, problems)
            except asyncio.CancelledError:
                problems.append(Problem(130, "the run was interrupted"))
                raise RunCancelled(_end(context, store, entries, problems)) from None
        return _end(context, store, entries, problems, with_records=not selectors)


def _end(
    context: _PruneContext,
    store: StoreWriter,
    entries: list[RunEntry],
    problems: list[Problem],
    *,
    with_records: bool = False,
) -> Run:
    """Record the run; `with_records` removes old run records after that."""
    facts: dict[str, Any] = {
        "dropped": sum(len(one.facts.get("dropped", ())) for one in entries),
        "freed": sum(one.facts.get("freed", {}).get("total", 0) for one in entries),
        **({"selectors": [str(one) for one in context.selectors]} if context.selectors else {}),
        **context.scope.facts(),
    }
    before, records = 1, 0
    if with_records:
        before, records = store.removable_records(context.config.runs.keep, context.begun.at)
    if records:
        facts |= {"records": records, "records_from": before}
    if context.dry_run:
        facts["dry_run"] = True
        return outcome(context.begun, context.clock, entries, problems=problems, facts=facts)
    run = finish(store, context.begun, context.clock, entries, problems=problems, facts=facts)
    store.remove_records(before)
    return run


async def _folders(
    context: _PruneContext,
    store: StoreWriter,
    entries: list[RunEntry],
    problems: list[Problem],
) -> None:
    """Prune one folder after another: the disk is the bottleneck, and backups wait for one folder only."""

    def note(damage: StoreDamaged) -> None:
        problems.append(Problem(4, f"{damage.file}: {damage.problem}"))

    selectors = context.selectors
    only_repositories = bool(selectors) and all(one.repository is not None for one in selectors)
    workspaces = store.reader.workspaces((), note)
    chosen: list[AnyFolder] = [] if only_repositories else list(store.reader.workspaces(selectors, note))
    chosen += store.reader.repositories(selectors, note)
    several = [(one, _config_of(context.config, workspaces, one)) for one in chosen]
    judged = [
        (folder, config, config.retention)
        for folder, config in several
        if config is not None and config.retention is not None and context.scope.has(config.workspace)
    ]
    context.progress.expect({folder.full_name: 1.0 for folder, _, _ in judged})
    for folder, config, retention in judged:
        context.progress.report(folder.full_name, "retention")
        one = _FolderPruning(context, store, store.writer_of(folder), config, retention)
        entry = await guarded(folder, one.prune)
        entries.append(entry)
        context.progress.report(folder.full_name, DONE)


def _config_of(
    config: Config, workspaces: Sequence[WorkspaceFolder], folder: AnyFolder
) -> WorkspaceConfig | None:
    """The configuration for a folder: by the slug or uuid of its workspace, else the one for all workspaces.

    It applies to repositories that it excludes, too: their snapshots were taken under it.
    """
    if not isinstance(folder, RepositoryFolder):
        return config.entry_of((folder.slug, folder.uuid))
    home = current_workspace(folder, workspaces)
    names = (home.slug, home.uuid) if home is not None else ()
    return config.entry_of((folder.workspace_slug, *names))


@dataclass(frozen=True)
class _FolderPruning:
    """The pruning of one folder."""

    context: _PruneContext
    store: StoreWriter
    writer: AnyWriter
    config: WorkspaceConfig
    retention: Retention

    async def prune(self) -> RunEntry:
        """Decide and remove, under the folder's lock; returns the folder's entry."""
        context, folder = self.context, self.writer.folder
        async with self.writer.lock(context.lock_wait, context.clock) as lock:
            if not context.dry_run:
                await finish_erasures(
                    self.writer, workers=context.workers, lock=lock.fileno, without_people=without_people
                )
            snapshots = folder.metadata.snapshots()
            if not snapshots:
                return entry_of(folder, Outcome.KEPT, facts={"reason": "it has no snapshot"})
            blocker = find_blocker(self.store.reader, folder)
            if blocker is None and context.elsewhere is not None:
                blocker = await find_obstacle(context.elsewhere, self.store.reader, folder)
            if blocker is not None:
                problem = Problem(blocker.code, f"nothing was removed: {blocker.reason}")
                # Without the ledger: the next backup must see that the records name another one.
                return entry_of(folder, Outcome.KEPT, problem, facts={"reason": blocker.reason})
            reason = self._reason(snapshots)
            if reason is not None:
                return with_ledger(entry_of(folder, Outcome.KEPT, facts={"reason": reason}), folder)
            decisions = decide(
                self.retention.policy,
                snapshots,
                now=context.begun.at,
                accept_missing=self.config.accept_missing,
            )
            return await self._remove(decisions, lock.fileno)

    def _reason(self, snapshots: Sequence[Snapshot]) -> str | None:
        """Why nothing may be removed, by the folder's own snapshots; None where it may."""
        folder = self.writer.folder
        gone_since = folder.gone_since if isinstance(folder, RepositoryFolder) else None
        if gone_since is not None:
            reason = while_gone(gone_since, self.retention.keep_gone, now=self.context.begun.at)
            if reason is not None:
                return reason
        return obstacle(snapshots, accept_missing=self.config.accept_missing)

    async def _remove(self, decisions: Sequence[Decision], lock: int) -> RunEntry:
        """Remove the snapshots that `decisions` do not keep, and old step logs."""
        context, writer, folder = self.context, self.writer, self.writer.folder
        drop = [one.snapshot.id for one in decisions if not one.keep]
        logs = self._old_logs(writer)
        pruned = folder.pruned()
        unfinished = pruned is not None and not pruned.done
        if context.dry_run:
            freed = (
                await estimate_freed(writer, context.workers, drop, logs.old) if drop or logs.old else Freed()
            )
        else:
            freed = Freed()
            if drop:
                check_hashes_held(folder, [one.snapshot for one in decisions])
                begin_pruning(writer, context.begun.id, drop)
            if logs.old:
                freed += Freed(files=drop_logs(writer, logs.old, context.clock.now(), logs.listed))
            if drop or unfinished:
                freed += await free_space(
                    writer, context.workers, lock, rewrite=unfinished, collect=unfinished
                )
                finish_pruning(writer)
        facts = {
            "decisions": [
                {"snapshot": one.snapshot.id, "keep": one.keep, "reasons": list(one.reasons)}
                for one in decisions
            ],
            "dropped": drop,
            "logs": len(logs.old),
            "freed": freed.to_json(),
        }
        entry = entry_of(folder, Outcome.PRUNED if drop or logs.old else Outcome.KEPT, facts=facts)
        return with_ledger(entry, folder)

    def _old_logs(self, writer: AnyWriter) -> _Logs:
        """The step logs that are older than the retention, and that nothing else points to."""
        keep, folder = self.retention.pipeline_logs, writer.folder
        if keep is None or not isinstance(folder, RepositoryFolder):
            return _Logs(ListedFiles(), frozenset())
        since = self.context.begun.at - keep
        listed = list_files(writer.documents, kept_trees(writer), _ended)
        old = frozenset(
            sha256
            for sha256, ends in listed.files.items()
            if all(end is not None and end < since for end in ends) and folder.find_file(sha256) is not None
        )
        return _Logs(listed, old)


@dataclass(frozen=True)
class _Logs:
    """Step logs to remove, and all files that kept snapshots list."""

    listed: ListedFiles
    old: frozenset[str]


def _ended(path: str, value: Json) -> datetime | None:
    """When the pipeline of a document ended; None for other documents, whose files stay."""
    if not path.startswith(_PIPELINES) or not isinstance(value, dict):
        return None
    try:
        text = fields.pipeline_ended(value.get("pipeline"))
        return None if text is None else time_from_text(text)
    except ValueError:
        return None
