"""One backup run: discover, back up each repository, mark what is missing, write it all down.

A run record is written however the run ends, and it says what was not reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import httpx

from mirror import __version__
from mirror.backup.conclusion import conclude
from mirror.backup.failures import understood
from mirror.backup.held import beyond_list, known_repositories, known_workspaces
from mirror.backup.order import (
    Order,
    Tally,
    Visit,
    chooses,
    matches,
    may_select_workspace,
    selects,
    selects_workspace,
    told_later,
)
from mirror.backup.repository import ORDER, backup_repository, fill_repository, problem_of_remade
from mirror.backup.tools import Tools
from mirror.backup.workspace import backup_workspace
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError
from mirror.config.settings import Config, WorkspaceConfig
from mirror.connect import client_of, network_of
from mirror.discovery import Discovered, Rules, discover, workspaces_of
from mirror.errors import Cancelled, CredentialRefused, MirrorError, NoStore, TryLater, UsageError
from mirror.git.workers.pool import WorkerPool
from mirror.logs import get_logger
from mirror.model import (
    Clock,
    NoProgress,
    Outcome,
    Problem,
    Progress,
    Repository,
    Run,
    RunEntry,
    Selector,
    Workspace,
    snapshot_id,
)
from mirror.store.reading.reader import (
    RepositoryFolder,
    RunHistory,
    Store,
    StoreDamaged,
    WorkspaceFolder,
    current_workspace,
)
from mirror.store.reading.run_history import GOOD
from mirror.store.writing.unfinished_backup import UnfinishedMark, has_unfinished_backup
from mirror.store.writing.writer import StoreWriter, WorkspaceWriter, open_store

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
    clock: Clock,
    environment: Mapping[str, str],
    full: bool = False,
    dry_run: bool = False,
    lock_wait: float = 0.0,
    progress: Progress | None = None,
    budget: Budget | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Run:
    """Back up what `config` names, or of that what `selectors` mean, into `config.store`.

    Secrets are read now. `full` ignores cursors; `dry_run` lists what would be backed up and writes
    nothing; `lock_wait` is in seconds. The outcome is in the Run and in the record it leaves. Raises
    only where there is no run to speak of (NoStore, or the store cannot be opened), and RunCancelled.
    """
    order = Order(
        config, tuple(selectors), clock, environment, full, lock_wait, progress or NoProgress(),
        budget or _budget(config, clock, progress), transport,
        clock.monotonic() + config.limits.window.total_seconds(),
    )  # fmt: skip
    if dry_run:
        return await _dry_run(order)
    started = clock.now()
    with open_store(config.store, command="mirror backup") as store:
        tally = Tally(store.new_run_id(started), started, store.reader.history())
        _log.info("backup.started", run=tally.identifier, store=str(config.store))
        order.budget.share(store.usage(order.budget.id, clock))
        try:
            async with WorkerPool(
                config.limits.git_workers,
                environment=environment,
                memory=config.limits.git_memory << 20,
                network=await network_of(config, environment),
            ) as workers:
                for workspace in config.workspaces:
                    await _workspaces(order, store, workers, workspace, tally)
            await conclude(order, store.reader, tally)
            _check_selectors(order, tally)
        except asyncio.CancelledError:
            tally.problems.append(Problem(130, "the run was stopped"))
            raise RunCancelled(_write(order, store, tally)) from None
        finally:
            order.budget.exchange()
            for visit in tally.visits:
                visit.mark.leave()
        return _write(order, store, tally)


def _budget(config: Config, clock: Clock, progress: Progress | None) -> Budget:
    limits = config.limits
    return Budget(clock, reserve=limits.api_reserve, limit=limits.api_limit, progress=progress)


def _write(order: Order, store: StoreWriter, tally: Tally) -> Run:
    """The record of the run, and the index."""
    for repository in tally.pending.values():
        tally.add(RunEntry("repository", repository.full_name, repository.uuid, "", Outcome.PENDING))
    done = Run(
        id=tally.identifier,
        kind="backup",
        started=tally.started,
        ended=order.clock.now(),
        program=__version__,
        entries=tally.entries,
        problems=tuple(tally.problems),
        facts={
            "requests": tally.requests,
            "brakes": sorted(tally.brakes),
            **({"renamed": dict(order.renamed)} if order.renamed else {}),
        },
    )
    try:
        store.write_run(done)
        store.rebuild_index(order.clock.now())
    except OSError as error:  # a full disk, say: what the run did is told all the same
        text = f"the record of this run could not be written: {error.strerror or error}"
        hint = "make room, or mend the disk, then run it again; what was stored stays"
        done = replace(done, problems=(*done.problems, Problem(1, text, hint=hint)))
        _log.error("backup.not_recorded", run=done.id, reason=error.strerror)
    _log.info(
        "backup.finished",
        run=done.id,
        exit_code=done.exit_code,
        repositories=sum(1 for entry in done.entries if entry.kind == "repository"),
        requests=tally.requests,
    )
    return done


def _check_selectors(order: Order, tally: Tally) -> None:
    if tally.unlisted:
        return  # what could not be listed may well have it
    for selector in order.selectors:
        if not any(matches(order, selector, entry.full_name) for entry in tally.entries):
            hint = _near(order, selector, tally.seen)
            tally.fail(UsageError(f"{selector} matches nothing that is backed up", hint=hint))


def _near(order: Order, selector: Selector, seen: set[str]) -> str:
    """The names that a person may have meant, of those that are `seen` upstream or held."""
    known = {one.workspace for one in order.config.workspaces if one.workspace is not None} | seen
    with contextlib.suppress(MirrorError, OSError), Store.open(order.config.store) as store:
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


def _client(order: Order, workspace: WorkspaceConfig) -> AbstractAsyncContextManager[Client]:
    return client_of(
        order.config,
        workspace,
        clock=order.clock,
        environment=order.environment,
        budget=order.budget,
        transport=order.transport,
        until=order.until,
    )


async def _workspaces(
    order: Order, store: StoreWriter, workers: WorkerPool, config: WorkspaceConfig, tally: Tally
) -> None:
    """All workspaces that one entry of the configuration stands for."""
    where = config.workspace or "workspaces of the credential"
    held = store.reader.uuid_of_workspace(config.workspace) if config.workspace is not None else None
    if config.workspace is not None and not may_select_workspace(order, store.reader, config.workspace, held):
        return
    try:
        async with _client(order, config) as client:
            try:
                found = await workspaces_of(client, config.workspace, held=held)
                tally.listing.append(config)
                for workspace in found:
                    _note_name(order, config, workspace)
                    if selects_workspace(order, workspace.slug):
                        await _workspace(order, store, workers, client, config, workspace, tally)
            except (CredentialRefused, UsageError, TryLater, ApiError) as error:
                # Nothing can be listed; what is held can be asked for by its name.
                tally.unlisted |= not isinstance(error, UsageError)
                tally.fail(error, where)
                # What is in trouble, or has no requests left, is not asked for each repository again.
                left = client.failing(error) if isinstance(error, TryLater) else client
                await _held_by_git(order, store, workers, left, config, tally)
            else:
                _take_up_unfinished(order, store, workers, client, config, tally)
                _tell_refusals(client, where, tally)
            finally:
                tally.requests += client.requests
    except Exception as error:  # noqa: BLE001 - the record is written, whatever it is
        tally.unlisted = True
        tally.fail(understood(error, str(order.config.store)), where)


def _note_name(order: Order, config: WorkspaceConfig, workspace: Workspace) -> None:
    """Note, and say, that a workspace has another name than the configuration gives it."""
    name = config.workspace
    if name is None or name.lower() in (workspace.slug.lower(), workspace.uuid.lower()):
        return
    if workspace.slug in order.renamed:
        return
    order.renamed[workspace.slug] = name
    _log.warning("backup.workspace_renamed", workspace=name, now=workspace.slug, uuid=workspace.uuid)


def _tell_refusals(client: Client, where: str, tally: Tally) -> None:
    """Report a refused credential, even where the others gave everything."""
    for who, refusal in client.refusals:
        tally.fail(refusal, f"{where}: {who.label}")


async def _held_by_git(
    order: Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    tally: Tally,
) -> None:
    """Back up what is held of a workspace that the API refuses to list: git decides for itself."""
    done = {entry.uuid for entry in tally.entries}
    visited = {visit.home.folder.place for visit in tally.visits}
    for folder, several in known_repositories(store.reader, config, order.config.workspaces):
        chosen = [one for one in several if one.uuid not in done and selects(order, one.full_name)]
        if not chosen or folder.place in visited:
            continue
        visit = _visit_unlisted(order, store, workers, client, config, folder, tally)
        tally.pending |= {one.uuid: one for one in chosen}
        await _repositories(visit.tools, visit.home, chosen, tally, _width(order))
    _take_up_unfinished(order, store, workers, client, config, tally)


def _take_up_unfinished(
    order: Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    tally: Tally,
) -> None:
    """Visit the workspaces of an entry that this run has no way to list, and that a killed backup left
    unfinished: what they lost is judged at the end, and prune may go on."""
    visited = {visit.home.folder.place for visit in tally.visits}
    for folder in known_workspaces(store.reader, config, order.config.workspaces):
        if folder.place not in visited and has_unfinished_backup(folder.root / folder.place):
            _visit_unlisted(order, store, workers, client, config, folder, tally, is_reached=False)


def _visit_unlisted(
    order: Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    folder: WorkspaceFolder,
    tally: Tally,
    *,
    is_reached: bool = True,
) -> Visit:
    """Begin the visit of a workspace of which no list can be had."""
    home = store.writer_of(folder)
    assert isinstance(home, WorkspaceWriter)
    mark = UnfinishedMark.begin(home.path, tally.identifier)
    tools = _tools(order, store, workers, client, config, tally, home, mark)
    unlisted = Discovered(Workspace(folder.uuid, folder.slug), (), False, frozenset())
    visit = Visit(tools, home, [], unlisted, mark, is_reached)
    tally.visits.append(visit)
    return visit


def _held(store: Store, uuid: str, slug: str) -> list[RepositoryFolder]:
    """What the store holds of a workspace, by its uuid or, where that is hidden, its slug."""
    workspaces = store.workspaces(on_damage=told_later)
    folder = next((one for one in workspaces if one.uuid.lower() == uuid.lower()), None)
    if folder is None and uuid:
        return []  # it is new here: who had its name before was another one
    if folder is None:
        return [one for one in store.repositories(on_damage=told_later) if one.workspace_slug == slug]
    every = store.repositories(on_damage=told_later)
    return [one for one in every if current_workspace(one, workspaces) == folder]


async def _workspace(
    order: Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    workspace: Workspace,
    tally: Tally,
) -> None:
    uuid = workspace.uuid or store.reader.uuid_of_workspace(workspace.slug) or ""
    held = _held(store.reader, uuid, workspace.slug)
    known = [(one.slug, None) for one in held]
    rules = Rules(config.include, config.exclude)
    found = await discover(client, workspace, rules, known=known, held=uuid or None)
    _note_name(order, config, found.workspace)
    if not _is_first(order, config, found.workspace, tally):
        return
    tally.problems += [replace(p, text=f"{found.workspace.slug}: {p.text}") for p in found.problems]
    tally.seen.update(one.full_name for one in found.repositories)
    home = store.adopt_workspace(found.workspace, order.clock.now())
    if home.identity_damage is not None:
        tally.problems.append(problem_of_remade(home.identity_damage))
    mark = UnfinishedMark.begin(home.path, tally.identifier)
    tools = _tools(order, store, workers, client, config, tally, home, mark)
    tally.visits.append(Visit(tools, home, held, found, mark))
    several = [*found.repositories, *beyond_list(store.reader, config, order.config.workspaces, found)]
    chosen = [one for one in several if chooses(order, one)]
    wanted = _by_need(tally.past, store.reader, chosen)
    tally.pending = {one.uuid: one for one in wanted}
    await _repositories(tools, home, wanted, tally, _width(order))
    await _fill(tools, home, tally)
    if not order.selectors or any(one.repository is None for one in order.selectors):
        tally.add(await backup_workspace(tools, home, found))


def _width(order: Order) -> int:
    """How many repositories are backed up at a time."""
    return 2 * order.config.limits.git_workers + 2


def _tools(
    order: Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    tally: Tally,
    home: WorkspaceWriter,
    mark: UnfinishedMark,
) -> Tools:
    return Tools(
        store=store,
        client=client,
        workers=workers,
        config=config,
        git_url=order.config.bitbucket.git_url,
        silence_timeout=order.config.limits.silence_timeout.total_seconds(),
        clock=order.clock,
        progress=order.progress,
        full=order.full,
        lock_wait=order.lock_wait,
        began=tally.started,
        until=order.until,
        others=lambda: len(tally.pending),
        holds_losses=mark.was_unfinished or _is_tripped(home),
        past=tally.past,
    )


def _is_tripped(home: WorkspaceWriter) -> bool:
    try:
        return bool(home.folder.brake().losses)
    except StoreDamaged:
        return True


def _is_first(order: Order, config: WorkspaceConfig, workspace: Workspace, tally: Tally) -> bool:
    """Whether this entry of the configuration is the one for `workspace`. An entry for all that a credential
    sees passes over what has its own. Raises UsageError where two entries name it, by slug and by uuid."""
    named = {one.workspace.lower() for one in order.config.workspaces if one.workspace is not None}
    is_known = workspace.uuid in tally.workspaces
    if config.workspace is None and (is_known or named & {workspace.uuid, workspace.slug}):
        return False
    if is_known:
        raise UsageError(
            f"another entry under workspaces names {workspace.slug} already ({workspace.uuid})",
            hint="keep one of the two entries, with the rules of both",
        )
    tally.workspaces.add(workspace.uuid)
    return True


def _by_need(past: RunHistory, store: Store, repositories: Sequence[Repository]) -> list[Repository]:
    """New ones first, then those that the last run did not get whole, then the rest."""

    def need(one: Repository) -> tuple[bool, bool, str]:
        told = past.find("repository", one.uuid)
        is_held = bool(store.folder_lookup.repositories(one.uuid))
        return is_held, told is not None and told.outcome in GOOD, one.full_name

    return sorted(repositories, key=need)


async def _repositories(
    tools: Tools, home: WorkspaceWriter, wanted: Sequence[Repository], tally: Tally, width: int
) -> None:
    """Back up `wanted`, a few at a time. One that fails never stops the others."""
    slots = asyncio.Semaphore(width)

    async def one(repository: Repository) -> None:
        async with slots:
            tally.note(await backup_repository(tools, home, repository))
            tally.pending.pop(repository.uuid, None)

    async with asyncio.TaskGroup() as group:
        for repository in wanted:
            group.create_task(one(repository))


async def _fill(tools: Tools, home: WorkspaceWriter, tally: Tally) -> None:
    """What took more requests than were left, now that every repository has had its turn: what is
    worth most first, of all of them. What outlasts the window stays for the next run."""
    for priority in ORDER:
        is_last = priority is ORDER[-1]
        for done in list(tally.rests.values()):
            tools.progress.report(done.entry.full_name, f"asking for what is {priority.name.lower()}")
            tally.note(await fill_repository(tools, home, done, priority, last=is_last))


async def _dry_run(order: Order) -> Run:
    """What a run would look at; nothing is written."""
    started = order.clock.now()
    identifier = f"{snapshot_id(started).lower()}-{secrets.token_hex(3)}"
    tally = Tally(identifier, started)
    for config in order.config.workspaces:
        try:
            async with _client(order, config) as client:
                for workspace in await workspaces_of(client, config.workspace):
                    if not selects_workspace(order, workspace.slug):
                        continue
                    held = _known(order.config.store, workspace)
                    rules = Rules(config.include, config.exclude)
                    found = await discover(client, workspace, rules, known=held)
                    tally.problems += found.problems
                    tally.seen.update(one.full_name for one in found.repositories)
                    for one in found.repositories:
                        if chooses(order, one):
                            tally.add(RunEntry("repository", one.full_name, one.uuid, "", Outcome.PENDING))
                tally.requests += client.requests
        except MirrorError as error:
            tally.fail(error, config.workspace or "")
    _check_selectors(order, tally)
    return Run(
        tally.identifier, "backup", started, order.clock.now(), __version__, tally.entries,
        tuple(tally.problems), {"requests": tally.requests, "dry_run": True},
    )  # fmt: skip


def _known(path: Path, workspace: Workspace) -> list[tuple[str, str | None]]:
    with contextlib.suppress(NoStore), Store.open(path) as store:
        return [(one.slug, None) for one in _held(store, workspace.uuid, workspace.slug)]
    return []
