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
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import httpx

from mirror import __version__
from mirror.backup.absence import mark_absent, tell_unreached
from mirror.backup.brake import failed_to_judge, judge_workspace
from mirror.backup.failures import understood
from mirror.backup.held import beyond_list, known_repositories, known_workspaces
from mirror.backup.repository import (
    ORDER,
    Backed,
    backup_repository,
    fill_repository,
    problem_of_remade,
)
from mirror.backup.tools import Tools
from mirror.backup.workspace import backup_workspace
from mirror.bitbucket.budget import Budget
from mirror.bitbucket.client import Client
from mirror.bitbucket.failures import ApiError
from mirror.config.settings import Config, WorkspaceConfig
from mirror.connect import client_of, network_of
from mirror.discovery import Discovered, Rules, discover, workspaces_of
from mirror.errors import Cancelled, CredentialRefused, MirrorError, NoStore, TryLater, UsageError
from mirror.git.workers import WorkerPool
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
from mirror.store.layout import BRAKE_FILE
from mirror.store.past import GOOD
from mirror.store.reader import (
    Past,
    RepositoryFolder,
    Store,
    StoreDamaged,
    WorkspaceFolder,
    workspace_now,
)
from mirror.store.unfinished import Unfinished, has_unfinished_backup
from mirror.store.writer import StoreWriter, WorkspaceWriter, open_store

_log = get_logger("backup")


class RunCancelled(Cancelled):
    """The run was stopped; `run` is its record."""

    def __init__(self, run: Run) -> None:
        super().__init__("the backup was stopped; what was finished is kept")
        self.run = run


@dataclass
class _Tally:
    """What the run has come to so far."""

    identifier: str
    started: datetime
    past: Past = field(default_factory=Past)
    done: dict[tuple[str, str], RunEntry] = field(default_factory=dict)  # by kind and uuid
    problems: list[Problem] = field(default_factory=list)
    pending: dict[str, Repository] = field(default_factory=dict)
    requests: int = 0
    unlisted: bool = False  # some workspace could not be listed
    brakes: list[str] = field(default_factory=list)  # the workspaces' folders that have one
    visits: list[_Visit] = field(default_factory=list)
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
class _Visit:
    """A workspace that the run has been to: what the store held of it before, and what was listed."""

    tools: Tools
    home: WorkspaceWriter
    held: Sequence[RepositoryFolder]
    found: Discovered
    mark: Unfinished
    # False: nothing could be listed nor saved, and it is only to be judged at the end.
    is_reached: bool = True


@dataclass(frozen=True)
class _Order:
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
    order = _Order(
        config, tuple(selectors), clock, environment, full, lock_wait, progress or NoProgress(),
        budget or _budget(config, clock, progress), transport,
        clock.monotonic() + config.limits.window.total_seconds(),
    )  # fmt: skip
    if dry_run:
        return await _dry_run(order)
    started = clock.now()
    with open_store(config.store, command="mirror backup") as store:
        tally = _Tally(store.new_run_id(started), started, store.reader.past())
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
            await _conclude(order, store.reader, tally)
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


def _write(order: _Order, store: StoreWriter, tally: _Tally) -> Run:
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
    store.write_run(done)
    store.rebuild_index(order.clock.now())
    _log.info(
        "backup.finished",
        run=done.id,
        exit_code=done.exit_code,
        repositories=sum(1 for entry in done.entries if entry.kind == "repository"),
        requests=tally.requests,
    )
    return done


def _check_selectors(order: _Order, tally: _Tally) -> None:
    if tally.unlisted:
        return  # what could not be listed may well have it
    for selector in order.selectors:
        if not any(_matches(order, selector, entry.full_name) for entry in tally.entries):
            hint = _near(order, selector, tally.seen)
            tally.fail(UsageError(f"{selector} matches nothing that is backed up", hint=hint))


def _near(order: _Order, selector: Selector, seen: set[str]) -> str:
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


def _client(order: _Order, workspace: WorkspaceConfig) -> AbstractAsyncContextManager[Client]:
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
    order: _Order, store: StoreWriter, workers: WorkerPool, config: WorkspaceConfig, tally: _Tally
) -> None:
    """All workspaces that one entry of the configuration stands for."""
    where = config.workspace or "workspaces of the credential"
    held = store.reader.uuid_of_workspace(config.workspace) if config.workspace is not None else None
    if config.workspace is not None and not _may_be_selected(order, store.reader, config.workspace, held):
        return
    try:
        async with _client(order, config) as client:
            try:
                found = await workspaces_of(client, config.workspace, held=held)
                tally.listing.append(config)
                for workspace in found:
                    _note_name(order, config, workspace)
                    if _selected(order, workspace.slug):
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


def _note_name(order: _Order, config: WorkspaceConfig, workspace: Workspace) -> None:
    """Note, and say, that a workspace has another name than the configuration gives it."""
    name = config.workspace
    if name is None or name.lower() in (workspace.slug.lower(), workspace.uuid.lower()):
        return
    if workspace.slug in order.renamed:
        return
    order.renamed[workspace.slug] = name
    _log.warning("backup.workspace_renamed", workspace=name, now=workspace.slug, uuid=workspace.uuid)


def _tell_refusals(client: Client, where: str, tally: _Tally) -> None:
    """Report a refused credential, even where the others gave everything."""
    for who, refusal in client.refusals:
        tally.fail(refusal, f"{where}: {who.label}")


async def _held_by_git(
    order: _Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    tally: _Tally,
) -> None:
    """Back up what is held of a workspace that the API refuses to list: git decides for itself."""
    done = {entry.uuid for entry in tally.entries}
    visited = {visit.home.folder.place for visit in tally.visits}
    for folder, several in known_repositories(store.reader, config, order.config.workspaces):
        chosen = [one for one in several if one.uuid not in done and _selects(order, one.full_name)]
        if not chosen or folder.place in visited:
            continue
        visit = _visit_unlisted(order, store, workers, client, config, folder, tally)
        tally.pending |= {one.uuid: one for one in chosen}
        await _repositories(visit.tools, visit.home, chosen, tally, _width(order))
    _take_up_unfinished(order, store, workers, client, config, tally)


def _take_up_unfinished(
    order: _Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    tally: _Tally,
) -> None:
    """Visit the workspaces of an entry that this run has no way to list, and that a killed backup left
    unfinished: what they lost is judged at the end, and prune may go on."""
    visited = {visit.home.folder.place for visit in tally.visits}
    for folder in known_workspaces(store.reader, config, order.config.workspaces):
        if folder.place not in visited and has_unfinished_backup(folder.root / folder.place):
            _visit_unlisted(order, store, workers, client, config, folder, tally, is_reached=False)


def _visit_unlisted(
    order: _Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    folder: WorkspaceFolder,
    tally: _Tally,
    *,
    is_reached: bool = True,
) -> _Visit:
    """Begin the visit of a workspace of which no list can be had."""
    home = store.writer_of(folder)
    assert isinstance(home, WorkspaceWriter)
    mark = Unfinished.begin(home.path, tally.identifier)
    tools = _tools(order, store, workers, client, config, tally, home, mark)
    unlisted = Discovered(Workspace(folder.uuid, folder.slug), (), False, frozenset())
    visit = _Visit(tools, home, [], unlisted, mark, is_reached)
    tally.visits.append(visit)
    return visit


def _selected(order: _Order, workspace: str) -> bool:
    names = _names(order, workspace)
    return not order.selectors or any(one.matches_workspace(*names) for one in order.selectors)


def _may_be_selected(order: _Order, store: Store, name: str, held: str | None) -> bool:
    """Whether a run over a part concerns the workspace that the configuration calls `name`; `held` is the
    uuid that the store has for it: a person may use the name that it has now."""
    if _selected(order, name) or held is None:
        return _selected(order, name)
    return any(
        one.uuid == held and _selected(order, one.slug) for one in store.workspaces(on_damage=_told_later)
    )


def _names(order: _Order, workspace: str) -> tuple[str, ...]:
    """The names by which a person may mean a workspace: its slug, and the one in the configuration."""
    return (workspace, order.renamed[workspace]) if workspace in order.renamed else (workspace,)


def _chosen(order: _Order, repository: Repository) -> bool:
    return _selects(order, repository.full_name)


def _held(store: Store, uuid: str, slug: str) -> list[RepositoryFolder]:
    """What the store holds of a workspace, by its uuid or, where that is hidden, its slug."""
    workspaces = store.workspaces(on_damage=_told_later)
    folder = next((one for one in workspaces if one.uuid.lower() == uuid.lower()), None)
    if folder is None and uuid:
        return []  # it is new here: who had its name before was another one
    if folder is None:
        return [one for one in store.repositories(on_damage=_told_later) if one.workspace_slug == slug]
    every = store.repositories(on_damage=_told_later)
    return [one for one in every if workspace_now(one, workspaces) == folder]


def _told_later(damage: StoreDamaged) -> None:
    """Pass a folder with an unreadable card over: its own entry, or the end of the run, names it."""


async def _workspace(
    order: _Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    workspace: Workspace,
    tally: _Tally,
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
    if home.remade is not None:
        tally.problems.append(problem_of_remade(home.remade))
    mark = Unfinished.begin(home.path, tally.identifier)
    tools = _tools(order, store, workers, client, config, tally, home, mark)
    tally.visits.append(_Visit(tools, home, held, found, mark))
    several = [*found.repositories, *beyond_list(store.reader, config, order.config.workspaces, found)]
    chosen = [one for one in several if _chosen(order, one)]
    wanted = _by_need(tally.past, store.reader, chosen)
    tally.pending = {one.uuid: one for one in wanted}
    await _repositories(tools, home, wanted, tally, _width(order))
    await _fill(tools, home, tally)
    if not order.selectors or any(one.repository is None for one in order.selectors):
        tally.add(await backup_workspace(tools, home, found))


def _width(order: _Order) -> int:
    """How many repositories are backed up at a time."""
    return 2 * order.config.limits.git_workers + 2


def _tools(
    order: _Order,
    store: StoreWriter,
    workers: WorkerPool,
    client: Client,
    config: WorkspaceConfig,
    tally: _Tally,
    home: WorkspaceWriter,
    mark: Unfinished,
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


def _excluded(order: _Order, visit: _Visit) -> list[RunEntry]:
    """Entries of what the store holds and the list has, and the configuration leaves out."""
    left_out = visit.found.listed - {one.uuid for one in visit.found.repositories}
    return [
        RunEntry("repository", one.full_name, one.uuid, one.place, Outcome.EXCLUDED)
        for one in visit.held
        if one.uuid in left_out and _selects(order, one.full_name)
    ]


async def _conclude(order: _Order, store: Store, tally: _Tally) -> None:
    """Report what the lists lacked, and judge what each workspace lost, once all have been listed: what one
    lacks may have been transferred to another."""
    listed = frozenset(uuid for visit in tally.visits for uuid in visit.found.listed)
    for visit in tally.visits:
        tools, home, found = visit.tools, visit.home, visit.found
        missing = [one for one in visit.held if one.uuid not in listed]
        asked = {entry.uuid for entry in tally.entries}  # of a list that broke off, also what it lacks
        chosen = [one for one in missing if one.uuid not in asked and _selects(order, one.full_name)]
        counts = found.is_whole and not order.selectors
        if counts:
            told = mark_absent(tools.store, missing, order.clock)
        else:
            told = tell_unreached(tools.config, chosen, is_whole=found.is_whole)
        for entry in (*told, *_excluded(order, visit)):
            tally.add(entry)
        try:
            tally.problems += await judge_workspace(tools, home, whole=counts, listed=listed)
            visit.mark.finish()
        except (MirrorError, OSError) as error:
            tally.problems.append(failed_to_judge(found.workspace.slug, error))
        if home.folder.has(BRAKE_FILE):
            tally.brakes.append(home.folder.place)
    if not order.selectors:
        _tell_damaged(store, tally)
    for config in tally.listing:
        for entry in tell_unreached(config, _unlisted(order, config, store, tally), is_whole=False):
            tally.add(entry)


def _tell_damaged(store: Store, tally: _Tally) -> None:
    """Name the folders whose card cannot be read, but for those that their own entries name."""
    told = "\n".join(problem.text for entry in tally.entries for problem in entry.problems)

    def note(damage: StoreDamaged) -> None:
        if damage.file not in told:
            tally.fail(damage)

    store.workspaces(on_damage=note)
    store.repositories(on_damage=note)


def _unlisted(order: _Order, config: WorkspaceConfig, store: Store, tally: _Tally) -> list[RepositoryFolder]:
    """What is held of workspaces that an entry of the configuration means, and that were not found: the
    credential does not list them any more, or their name is another one's now."""
    named = {one.workspace.lower() for one in order.config.workspaces if one.workspace is not None}
    visited = {visit.home.folder.place for visit in tally.visits if visit.is_reached}
    told = {entry.uuid for entry in tally.entries}
    workspaces = store.workspaces(on_damage=_told_later)
    return [
        one
        for one in store.repositories(on_damage=_told_later)
        if one.uuid not in told
        and _selects(order, one.full_name)
        and (home := workspace_now(one, workspaces)) is not None
        and home.place not in visited
        and _is_meant(config, {home.slug.lower(), home.uuid.lower()}, named)
    ]


def _is_meant(config: WorkspaceConfig, names: set[str], named: set[str]) -> bool:
    """Whether an entry of the configuration means the workspace of these names; `named` are those that any
    entry names."""
    return not names & named if config.workspace is None else config.workspace.lower() in names


def _selects(order: _Order, full_name: str) -> bool:
    return not order.selectors or any(_matches(order, one, full_name) for one in order.selectors)


def _matches(order: _Order, selector: Selector, full_name: str) -> bool:
    workspace, _, slug = full_name.partition("/")
    return selector.matches_workspace(*_names(order, workspace)) and selector.matches_repository(slug)


def _is_first(order: _Order, config: WorkspaceConfig, workspace: Workspace, tally: _Tally) -> bool:
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


def _by_need(past: Past, store: Store, repositories: Sequence[Repository]) -> list[Repository]:
    """New ones first, then those that the last run did not get whole, then the rest."""

    def need(one: Repository) -> tuple[bool, bool, str]:
        told = past.of("repository", one.uuid)
        is_held = bool(store.places.repositories(one.uuid))
        return is_held, told is not None and told.outcome in GOOD, one.full_name

    return sorted(repositories, key=need)


async def _repositories(
    tools: Tools, home: WorkspaceWriter, wanted: Sequence[Repository], tally: _Tally, width: int
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


async def _fill(tools: Tools, home: WorkspaceWriter, tally: _Tally) -> None:
    """What took more requests than were left, now that every repository has had its turn: what is
    worth most first, of all of them. What outlasts the window stays for the next run."""
    for worth in ORDER:
        is_last = worth is ORDER[-1]
        for done in list(tally.rests.values()):
            tools.progress.report(done.entry.full_name, f"asking for what is {worth.name.lower()}")
            tally.note(await fill_repository(tools, home, done, worth, last=is_last))


async def _dry_run(order: _Order) -> Run:
    """What a run would look at; nothing is written."""
    started = order.clock.now()
    identifier = f"{snapshot_id(started).lower()}-{secrets.token_hex(3)}"
    tally = _Tally(identifier, started)
    for config in order.config.workspaces:
        try:
            async with _client(order, config) as client:
                for workspace in await workspaces_of(client, config.workspace):
                    if not _selected(order, workspace.slug):
                        continue
                    held = _known(order.config.store, workspace)
                    rules = Rules(config.include, config.exclude)
                    found = await discover(client, workspace, rules, known=held)
                    tally.problems += found.problems
                    tally.seen.update(one.full_name for one in found.repositories)
                    for one in found.repositories:
                        if _chosen(order, one):
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
