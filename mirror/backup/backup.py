"""One backup run: discover, back up each repository, mark what is missing, write the record.

A run record is written however the run ends, and it says what was not reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from mirror import __version__
from mirror.backup.announcements import Announcements
from mirror.backup.conclusion import conclude
from mirror.backup.context import Request, RunContext
from mirror.backup.listing import Listing
from mirror.backup.results import RunResults
from mirror.backup.visits import api_client, repositories_of, visit_entry
from mirror.bitbucket.client.budget import Budget
from mirror.collect.context import DEFAULT_LIMITS, CheckpointLimits
from mirror.config.settings import Config
from mirror.connect import budget_of, network_of
from mirror.discovery import Rules, discover, workspaces_of
from mirror.errors import Cancelled, MirrorError, NoStore, UsageError
from mirror.git.mirrors.maintenance import DEFAULT_MAINTENANCE, MaintenanceLimits
from mirror.git.workers.pool import WorkerPool
from mirror.logs import get_logger
from mirror.model import (
    EVERYTHING,
    Clock,
    NoProgress,
    Outcome,
    Problem,
    Progress,
    Run,
    RunEntry,
    Scope,
    Selector,
    Workspace,
    snapshot_id,
)
from mirror.model.elsewhere import Elsewhere
from mirror.store.reading.reader import Store
from mirror.store.writing.writer import StoreWriter, open_store

_log = get_logger("backup")


class RunCancelled(Cancelled):
    """The run was stopped; `run` is its record."""

    def __init__(self, run: Run) -> None:
        super().__init__("the backup was stopped; what was finished is kept")
        self.run = run


async def run(
    config: Config,
    selectors: Sequence[Selector] = (),
    *,
    scope: Scope = EVERYTHING,
    clock: Clock,
    environment: Mapping[str, str],
    full: bool = False,
    dry_run: bool = False,
    lock_wait: float = 0.0,
    progress: Progress | None = None,
    budget: Budget | None = None,
    announcements: Announcements | None = None,
    elsewhere: Elsewhere | None = None,
    listed: Listing | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    checkpoint_limits: CheckpointLimits = DEFAULT_LIMITS,
    maintenance_limits: MaintenanceLimits = DEFAULT_MAINTENANCE,
) -> Run:
    """Back up what `config` names, or what `selectors` mean of it, into `config.store`. A run
    of the workspaces in `scope` judges them as one of everything does; one of some repositories does not.

    Secrets are read now. `full` ignores cursors; `dry_run` lists what would be backed up and writes
    nothing; `lock_wait` is in seconds; `announcements` are those of this process's hooks;
    `elsewhere` tells of the other hosts of a cluster, of whom nothing is known without it; where there is
    something `listed`, the run asks for no list. The outcome is in
    the Run and in its record. Raises only where there is no run at all (NoStore, or the store cannot be
    opened), and RunCancelled.
    """
    request = Request(
        config, tuple(selectors), clock, environment, full, lock_wait, progress or NoProgress(),
        budget or budget_of(config, clock), transport,
        clock.monotonic() + config.limits.window.total_seconds(), checkpoint_limits, maintenance_limits,
        scope=scope, announcements=announcements, elsewhere=elsewhere, listed=listed,
    )  # fmt: skip
    if dry_run:
        return await _dry_run(request)
    started = clock.now()
    with open_store(config.store, command="mirror backup") as store:
        results = RunResults(store.new_run_id(started), started)
        history = store.reader.history()
        if announcements is not None:
            announcements.recall(history.hooks)
        _log.info("backup.started", run=results.identifier, store=str(config.store))
        request.budget.share(store.usage(request.budget.id, clock))
        run: RunContext | None = None
        try:
            async with WorkerPool(
                config.limits.git_workers,
                environment=environment,
                memory=config.limits.git_memory << 20,
                network=await network_of(config, environment),
                received=request.progress.received,
            ) as workers:
                run = RunContext(request, store, workers, results, history)
                chosen = [entry for entry in config.workspaces if scope.has(entry.workspace)]
                for entry in chosen:
                    await visit_entry(run, entry, is_last=entry is chosen[-1])
            await conclude(run)
            _check_selectors(request, results)
        except asyncio.CancelledError:
            results.problems.append(Problem(130, "the run was stopped"))
            raise RunCancelled(_write(request, store, results)) from None
        finally:
            await request.budget.settle()
            for visit in run.visits if run is not None else ():
                visit.mark.leave()
        return _write(request, store, results)


def _write(request: Request, store: StoreWriter, results: RunResults) -> Run:
    """The record of the run, and the index."""
    for repository in results.pending.values():
        results.add(RunEntry("repository", repository.full_name, repository.uuid, "", Outcome.PENDING))
    done = Run(
        id=results.identifier,
        kind="backup",
        started=results.started,
        ended=request.clock.now(),
        program=__version__,
        entries=results.entries,
        problems=tuple(results.problems),
        facts={
            "requests": results.requests,
            "brakes": sorted(results.brakes),
            **({"selectors": [str(one) for one in request.selectors]} if request.selectors else {}),
            **request.scope.facts(),
            **({"renamed": dict(request.renamed)} if request.renamed else {}),
            **({"hooks": results.hooks} if results.hooks else {}),
        },
    )
    try:
        store.write_run(done)
        store.rebuild_index(request.clock.now())
    except OSError as error:  # a full disk, say: what the run did is reported all the same
        text = f"the record of this run could not be written: {error.strerror or error}"
        hint = "make room, or mend the disk, then run it again; what was stored stays"
        done = replace(done, problems=(*done.problems, Problem(1, text, hint=hint)))
        _log.error("backup.not_recorded", run=done.id, reason=error.strerror)
    _log.info(
        "backup.finished",
        run=done.id,
        exit_code=done.exit_code,
        repositories=sum(1 for entry in done.entries if entry.kind == "repository"),
        requests=results.requests,
    )
    return done


def _check_selectors(request: Request, results: RunResults) -> None:
    if results.is_incomplete:
        return  # what could not be listed may have it
    for selector in request.selectors:
        if not any(request.matches(selector, entry.full_name) for entry in results.entries):
            hint = _near(request, selector, results.seen)
            results.report_error(UsageError(f"{selector} matches nothing that is backed up", hint=hint))


def _near(request: Request, selector: Selector, seen: set[str]) -> str:
    """A hint with the names that the person may have meant, of those `seen` upstream or stored."""
    known = {one.workspace for one in request.config.workspaces if one.workspace is not None} | seen
    with contextlib.suppress(MirrorError, OSError), Store.open(request.config.store) as store:
        known |= {one.full_name for one in store.repositories(on_damage=lambda _: None)}
    workspaces = {name.partition("/")[0] for name in known}
    if selector.repository is None:
        known = workspaces
    else:  # a workspace that was not listed may have the repository
        known |= {f"{name}/{selector.repository}" for name in workspaces - {selector.workspace}}
    near = difflib.get_close_matches(str(selector), sorted(known), n=3, cutoff=0.75)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "mirror status lists what is held, mirror backup --dry-run what would be backed up"


async def _dry_run(request: Request) -> Run:
    """What a run would back up; nothing is written."""
    started = request.clock.now()
    identifier = f"{snapshot_id(started).lower()}-{secrets.token_hex(3)}"
    results = RunResults(identifier, started)
    for config in request.config.workspaces:
        try:
            async with api_client(request, config) as client:
                for workspace in await workspaces_of(client, config.workspace):
                    if not request.selects_workspace(workspace.slug):
                        continue
                    held = _known(request.config.store, workspace)
                    rules = Rules(config.include, config.exclude)
                    found = await discover(client, workspace, rules, known=held)
                    results.problems += found.problems
                    results.seen.update(one.full_name for one in found.repositories)
                    for one in found.repositories:
                        if request.selects(one.full_name):
                            results.add(RunEntry("repository", one.full_name, one.uuid, "", Outcome.PENDING))
                results.requests += client.requests
        except MirrorError as error:
            results.report_error(error, config.workspace or "")
    _check_selectors(request, results)
    return Run(
        results.identifier, "backup", started, request.clock.now(), __version__, results.entries,
        tuple(results.problems), {"requests": results.requests, "dry_run": True},
    )  # fmt: skip


def _known(path: Path, workspace: Workspace) -> list[tuple[str, str | None]]:
    with contextlib.suppress(NoStore), Store.open(path) as store:
        return [(one.slug, None) for one in repositories_of(store, workspace.uuid, workspace.slug)]
    return []
