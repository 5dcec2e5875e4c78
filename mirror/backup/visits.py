"""Visiting the workspaces of a run: list each, back up its repositories, then ask for the details left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from mirror.backup.context import Request, RunContext, Visit, WorkspaceContext, ignore_damage
from mirror.backup.entries import problem_of_identity
from mirror.backup.failures import as_mirror_error
from mirror.backup.listing import ListedWorkspace
from mirror.backup.repository import backup_repository, resume_repository
from mirror.backup.stored import missing_in_broken_list, stored_repositories, stored_workspaces
from mirror.backup.turn import PRIORITIES
from mirror.backup.workspace import backup_workspace
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError
from mirror.config.settings import WorkspaceConfig
from mirror.connect import client_of
from mirror.discovery import Discovered, Rules, discover, workspaces_of
from mirror.errors import CredentialRefused, TryLater, UsageError
from mirror.logs import get_logger
from mirror.model import Outcome, Repository, RunEntry, Workspace
from mirror.store.reading.reader import (
    RepositoryFolder,
    Store,
    StoreDamaged,
    WorkspaceFolder,
    current_workspace,
)
from mirror.store.reading.run_history import GOOD
from mirror.store.writing.unfinished_backup import UnfinishedMark, has_unfinished_backup
from mirror.store.writing.writer import WorkspaceWriter

# What a new repository costs, and for how many bytes of it as much as one that has not changed.
_COST_NEW, _COST_BYTES = 5.0, 4 << 20
_log = get_logger("backup")


def api_client(request: Request, config: WorkspaceConfig) -> AbstractAsyncContextManager[Client]:
    """A client for the workspaces of one entry of the configuration."""
    return client_of(
        request.config,
        config,
        clock=request.clock,
        environment=request.environment,
        budget=request.budget,
        transport=request.transport,
        until=request.until,
        progress=request.progress,
    )


async def visit_entry(run: RunContext, config: WorkspaceConfig, *, is_last: bool) -> None:
    """Back up all workspaces that one entry of the configuration stands for. What goes wrong is reported.
    `is_last`: no other entry follows, so that what there is to do is known."""
    request, results, store = run.request, run.results, run.store.reader
    where = config.workspace or "workspaces of the credential"
    held = store.uuid_of_workspace(config.workspace) if config.workspace is not None else None
    if config.workspace is not None and not request.may_select_workspace(store, config.workspace, held):
        return
    try:
        async with api_client(request, config) as client:
            try:
                listed = None if request.listed is None else request.listed.entry(config)
                if listed is None:
                    found = await workspaces_of(client, config.workspace, held=held)
                else:
                    results.problems += listed.refusals
                    found = listed.take()
                run.found.append(config)
                for workspace in found:
                    _note_name(request, config, workspace)
                    if request.selects_workspace(workspace.slug):
                        more = not is_last or workspace is not found[-1]
                        several = None if listed is None else listed.of(workspace)
                        await _visit(run, client, config, workspace, several, more=more)
            except (CredentialRefused, UsageError, TryLater, ApiError) as error:
                # Nothing can be listed; what is stored can be asked for by its name.
                results.is_incomplete |= not isinstance(error, UsageError)
                results.report_error(error, where)
                # A server in trouble, or without requests left, is not asked for each repository again.
                left = client.failing(error) if isinstance(error, TryLater) else client
                await _backup_stored(run, left, config, more=not is_last)
            else:
                _visit_unfinished(run, client, config)
                for who, refusal in client.refusals:
                    results.report_error(refusal, f"{where}: {who.label}")
            finally:
                results.requests += client.requests
    except Exception as error:  # noqa: BLE001 - the record is written, whatever it is
        results.is_incomplete = True
        results.report_error(as_mirror_error(error, str(request.config.store)), where)


def _note_name(request: Request, config: WorkspaceConfig, workspace: Workspace) -> None:
    """Note and log that a workspace has another name than the configuration gives it."""
    name = config.workspace
    if name is None or name.lower() in (workspace.slug.lower(), workspace.uuid.lower()):
        return
    if workspace.slug in request.renamed:
        return
    request.renamed[workspace.slug] = name
    _log.warning("backup.workspace_renamed", workspace=name, now=workspace.slug, uuid=workspace.uuid)


# -- a workspace that was listed


async def _visit(
    run: RunContext,
    client: Client,
    config: WorkspaceConfig,
    workspace: Workspace,
    listed: ListedWorkspace | None,
    *,
    more: bool,
) -> None:
    request, results, store = run.request, run.results, run.store.reader
    uuid = workspace.uuid or store.uuid_of_workspace(workspace.slug) or ""
    held = repositories_of(store, uuid, workspace.slug)
    if listed is not None and listed.concerns_nobody and not held:
        return  # it is other hosts' alone
    if listed is not None and listed.found is not None:
        found = listed.found
    else:
        known = [(one.slug, None) for one in held]
        rules = Rules(config.include, config.exclude)
        found = await discover(client, workspace, rules, known=known, held=uuid or None)
    _note_name(request, config, found.workspace)
    if not _is_first(run, config, found.workspace):
        return
    results.problems += [replace(p, text=f"{found.workspace.slug}: {p.text}") for p in found.problems]
    results.seen.update(one.full_name for one in found.repositories)
    home = run.store.adopt_workspace(found.workspace, request.clock.now())
    if home.identity_damage is not None:
        results.problems.append(problem_of_identity(home.identity_damage))
    visit = _begin(run, client, config, home, held, found)
    missing = missing_in_broken_list(store, config, request.named_workspaces, found)
    chosen = [one for one in (*found.repositories, *missing) if _may_back_up(request, one)]
    results.pending.clear()
    request.progress.expect({one.full_name: _cost(run, one) for one in chosen}, more=more)
    await _backup_repositories(visit, _by_need(run, chosen))
    await _resume_repositories(visit.workspace, home)
    if listed is not None and not listed.is_home:
        return
    if not request.selectors or any(one.repository is None for one in request.selectors):
        whole = found if listed is None else listed.whole()
        results.add(await backup_workspace(visit.workspace, home, whole))


def _may_back_up(request: Request, repository: Repository) -> bool:
    return request.selects(repository.full_name) and request.why_not(repository.uuid) is None


def repositories_of(store: Store, uuid: str, slug: str) -> list[RepositoryFolder]:
    """What the store has of a workspace, by its uuid or, where that is hidden, its slug."""
    workspaces = store.workspaces(on_damage=ignore_damage)
    folder = next((one for one in workspaces if one.uuid.lower() == uuid.lower()), None)
    if folder is None and uuid:
        return []  # it is new here: another workspace had its name before
    every = store.repositories(on_damage=ignore_damage)
    if folder is None:
        return [one for one in every if one.workspace_slug == slug]
    return [one for one in every if current_workspace(one, workspaces) == folder]


def _is_first(run: RunContext, config: WorkspaceConfig, workspace: Workspace) -> bool:
    """Whether this entry of the configuration is the one for `workspace`. An entry for all that a credential
    sees skips those that have their own. Raises UsageError where two entries name it, by slug and by uuid."""
    is_known = workspace.uuid in run.listed
    names = {workspace.uuid, workspace.slug}
    if config.workspace is None and (is_known or run.request.named_workspaces & names):
        return False
    if is_known:
        raise UsageError(
            f"another entry under workspaces names {workspace.slug} already ({workspace.uuid})",
            hint="keep one of the two entries, with the rules of both",
        )
    run.listed.add(workspace.uuid)
    return True


def _by_need(run: RunContext, repositories: Sequence[Repository]) -> list[Repository]:
    """New ones first, then those that the last run did not get whole, then the rest."""
    store = run.store.reader

    def need(one: Repository) -> tuple[bool, bool, str]:
        past = run.history.find("repository", one.uuid)
        is_held = bool(store.folder_lookup.repositories(one.uuid))
        return is_held, past is not None and past.outcome in GOOD, one.full_name

    return sorted(repositories, key=need)


def _cost(run: RunContext, repository: Repository) -> float:
    """What a repository is likely to cost, in times of one of which nothing is new."""
    past = run.history.find("repository", repository.uuid)
    if past is not None and past.outcome in GOOD:
        return 1.0
    size = repository.profile.get("size")  # in bytes, as far as Bitbucket knows
    return _COST_NEW + (size / _COST_BYTES if isinstance(size, int | float) else 0.0)


async def _backup_repositories(visit: Visit, repositories: Sequence[Repository]) -> None:
    """Back up repositories, some side by side. One that fails never stops the others."""
    run = visit.workspace.run
    run.results.pending |= {one.uuid: one for one in repositories}
    slots = asyncio.Semaphore(2 * run.request.config.limits.git_workers + 2)

    async def turn(repository: Repository) -> None:
        async with slots:
            run.results.add_turn(await backup_repository(visit.workspace, visit.home, repository))
            run.results.pending.pop(repository.uuid, None)
            run.request.progress.due(run.results.requests_due)

    async with asyncio.TaskGroup() as group:
        for repository in repositories:
            group.create_task(turn(repository))


async def _resume_repositories(workspace: WorkspaceContext, home: WorkspaceWriter) -> None:
    """Ask for the details for which there were no requests left, now that every repository has had its turn:
    by priority, over all of them. What outlasts the window waits for the next run."""
    results = workspace.run.results
    for priority in PRIORITIES:
        is_last = priority is PRIORITIES[-1]
        for before in list(results.remaining.values()):
            workspace.progress.report(before.entry.full_name, f"asking for what is {priority.name.lower()}")
            result = await resume_repository(workspace, home, before, priority, last=is_last)
            results.add_turn(result)


# -- a workspace of which no list can be had


async def _backup_stored(run: RunContext, client: Client, config: WorkspaceConfig, *, more: bool) -> None:
    """Back up what is stored of the workspaces that the API refuses to list: git decides for itself."""
    results, named = run.results, run.request.named_workspaces
    done = {entry.uuid for entry in results.entries}
    visited = {visit.home.folder.place for visit in run.visits}
    for folder, several in stored_repositories(run.store.reader, config, named):
        chosen = [one for one in several if one.uuid not in done and _may_back_up(run.request, one)]
        _report_contested(run, several)
        if chosen and folder.place not in visited:
            run.request.progress.expect({one.full_name: _cost(run, one) for one in chosen}, more=more)
            visit = _begin_unlisted(run, client, config, folder)
            await _backup_repositories(visit, chosen)
    _visit_unfinished(run, client, config)


def _report_contested(run: RunContext, several: Sequence[Repository]) -> None:
    """Entries of stored repositories whose folders may not be written to."""
    for one in several:
        why, folder = run.request.why_not(one.uuid), run.store.reader.folder_of_repository(one.uuid)
        if why is not None and run.request.selects(one.full_name):
            place = folder.place if folder is not None else ""
            run.results.add(
                RunEntry("repository", one.full_name, one.uuid, place, Outcome.FAILED, problems=(why,))
            )


def _visit_unfinished(run: RunContext, client: Client, config: WorkspaceConfig) -> None:
    """Visit the workspaces of an entry that this run cannot list, and that a killed backup left unfinished:
    what they lost is judged at the end, and prune may go on."""
    visited = {visit.home.folder.place for visit in run.visits}
    for folder in stored_workspaces(run.store.reader, config, run.request.named_workspaces):
        if folder.place not in visited and has_unfinished_backup(folder.root / folder.place):
            _begin_unlisted(run, client, config, folder, is_reached=False)


def _begin_unlisted(
    run: RunContext,
    client: Client,
    config: WorkspaceConfig,
    folder: WorkspaceFolder,
    *,
    is_reached: bool = True,
) -> Visit:
    home = run.store.writer_of(folder)
    assert isinstance(home, WorkspaceWriter)
    unlisted = Discovered(Workspace(folder.uuid, folder.slug), (), False, frozenset())
    return _begin(run, client, config, home, [], unlisted, is_reached=is_reached)


def _begin(
    run: RunContext,
    client: Client,
    config: WorkspaceConfig,
    home: WorkspaceWriter,
    held: Sequence[RepositoryFolder],
    found: Discovered,
    *,
    is_reached: bool = True,
) -> Visit:
    """Begin the visit of a workspace, and mark its backup as unfinished."""
    mark = UnfinishedMark.begin(home.path, run.results.identifier)
    holds_losses = mark.was_unfinished or is_tripped(home)
    uuid, announcements = home.folder.uuid, run.request.announcements
    workspace = WorkspaceContext(
        run, uuid, client, config, holds_losses,
        is_poll=announcements is None or announcements.is_poll_due(uuid),
        lost_since=None if announcements is None else run.last_ended(config),
    )  # fmt: skip
    visit = Visit(workspace, home, held, found, mark, run.request.clock.monotonic(), is_reached)
    run.visits.append(visit)
    return visit


def is_tripped(home: WorkspaceWriter) -> bool:
    """Whether the mass-loss brake of a workspace is tripped, as far as it can be read."""
    try:
        return bool(home.folder.brake().losses)
    except StoreDamaged:
        return True
