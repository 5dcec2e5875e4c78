"""Backing up repositories as hooks announce them, beside the runs of the schedule.

A visit asks git first. What visits did is gathered into run records of their own (`Gathered`). What they
could not do is left to the schedule (`Announcements.is_waiting`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import httpx

from mirror.backup.announced_turn import AnnouncedTurn, Renamed
from mirror.backup.announcements import Announcements
from mirror.backup.brake import judge_workspace
from mirror.backup.context import FolderContext, Request, WorkspaceContext, ignore_damage
from mirror.backup.gathered import Gathered
from mirror.backup.git.identity import AnotherRepository
from mirror.backup.repository import backup_repository, log_result, take_turn
from mirror.backup.results import TurnResult
from mirror.backup.session import Session, Sessions
from mirror.backup.stored import belongs_to_entry, repository_of
from mirror.backup.visits import is_tripped, repositories_of
from mirror.bitbucket.client.budget import Budget
from mirror.config.settings import Config, WorkspaceConfig
from mirror.discovery import Discovered, Rules, discover, workspaces_of
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, NoProgress, Outcome, Repository, Workspace
from mirror.model.elsewhere import Elsewhere
from mirror.store.format.layout import BRAKE_FILE
from mirror.store.reading.reader import ErasureFilter, RepositoryFolder, current_workspace
from mirror.store.writing.unfinished_backup import UnfinishedMark, has_unfinished_backup
from mirror.store.writing.writer import WorkspaceWriter

# How long, in seconds, a visit waits for the lock of a folder that another process holds.
LOCK_SECONDS = 600.0
# So many visits run side by side.
CONCURRENCY = 4
# The outcomes of a visit that are recorded. Whatever else it met, the schedule finds out and reports.
_RECORDED = (Outcome.SAVED, Outcome.CONFIRMED, Outcome.PARTIAL)

_log = get_logger("backup")


class Visited(Enum):
    """How a visit ended. UNKNOWN: only a list of its workspace can say what the repository is: the store does
    not have it, or lists lack it, or it has another name now."""

    DONE = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class _Place:
    """Where a repository is: its folder, the workspace that it is in now, and the entry of the configuration
    for that one."""

    folder: RepositoryFolder
    home: WorkspaceWriter
    entry: WorkspaceConfig


class _LossMark:
    """Marks the backup of a workspace as unfinished before a loss is noted in one of its folders, until the
    sum over the workspace was judged: prune removes nothing of it meanwhile."""

    def __init__(self, home: WorkspaceWriter, run: str) -> None:
        self._home, self._run = home, run
        self._mark: UnfinishedMark | None = None

    def __call__(self) -> None:
        if self._mark is None:
            self._mark = UnfinishedMark.begin(self._home.path, self._run)

    @property
    def is_set(self) -> bool:
        """Whether a loss was noted."""
        return self._mark is not None

    def finish(self) -> None:
        """The workspace was judged, but for repositories that its list lacks: a run that was killed may have
        left those, and its mark stays."""
        if self._mark is not None and not self._mark.was_unfinished:
            self._mark.finish()

    def leave(self) -> None:
        """The visit is over. A workspace that was not judged stays marked."""
        if self._mark is not None:
            self._mark.leave()


class AnnouncedBackups:
    """Visits repositories that hooks announced. `config` may be replaced at any time (`use`)."""

    def __init__(
        self,
        config: Config,
        announcements: Announcements,
        *,
        clock: Clock,
        environment: Mapping[str, str],
        budget: Budget,
        elsewhere: Elsewhere | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._config = config
        self._announcements = announcements
        self._clock, self._environment = clock, environment
        self._budget, self._elsewhere, self._transport = budget, elsewhere, transport
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._sessions = Sessions(self._request)
        self._gathered = Gathered(lambda: self._config.store, clock)

    async def use(self, config: Config, announcements: Announcements) -> None:
        """From now on, do as this configuration says, and visit what is announced there."""
        if config.store != self._config.store:
            await self._gathered.stop()
        self._config, self._announcements = config, announcements
        await self._sessions.renew()

    async def stop(self) -> None:
        """Write the record of what was done. No visit is under way any more."""
        await self._sessions.stop()
        await self._gathered.stop()

    async def backup(self, uuid: str, *, git_only: bool, is_second: bool = False) -> Visited:
        """Visit a repository that was announced, unless the schedule has done so since. `git_only`: ask git
        alone. `is_second`: look again, whoever has done so. Raises MirrorError where nothing can be
        visited."""
        # A run may be at the repository for hours: who waits for it holds up no other visit.
        async with (
            self._announcements.turn(uuid),
            self._slots,
            self._sessions.session() as session,
        ):
            folder = session.run.store.reader.folder_of_repository(uuid)
            if folder is None or folder.missing is not None or folder.gone_since is not None:
                return Visited.UNKNOWN
            place = _place_of(session, folder)
            if place is None:
                self._announcements.forget(uuid)
                return Visited.DONE
            if not is_second and self._announcements.is_visited(uuid, git_only=git_only):
                return Visited.DONE
            return await self._visit(session, place, git_only=git_only)

    async def _visit(self, session: Session, place: _Place, *, git_only: bool) -> Visited:
        run, repository = session.run, repository_of(place.folder)
        mark = _LossMark(place.home, run.results.identifier)
        workspace = await _workspace(session, place.entry, place.home, mark)
        is_known = True

        async def turn(folder: FolderContext, erased: ErasureFilter) -> TurnResult:
            nonlocal is_known
            try:
                return await AnnouncedTurn(folder, erased, git_only=git_only).run()
            except (Renamed, AnotherRepository):
                is_known = False
                raise

        try:
            result = await take_turn(workspace, place.home, repository, turn)
            log_result(repository, result.entry)
            if mark.is_set:
                await self._judge(workspace, place.home, mark)
        finally:
            mark.leave()
        self._gather(session, result, place.home if mark.is_set else None)
        return Visited.DONE if is_known else Visited.UNKNOWN

    async def _judge(self, workspace: WorkspaceContext, home: WorkspaceWriter, mark: _LossMark) -> None:
        """Judge what the workspace lost together."""
        try:
            await judge_workspace(workspace, home, whole=False, listed=frozenset())
        except (MirrorError, OSError) as error:
            _log.error("backup.brake_not_judged", workspace=home.folder.slug, reason=str(error))
        else:
            mark.finish()

    def _gather(self, session: Session, result: TurnResult, judged: WorkspaceWriter | None) -> None:
        """Take what a visit did into the next record; `judged` is the workspace whose brake was judged."""
        entry = result.entry if result.entry.outcome in _RECORDED else None
        has_brake = judged is not None and judged.folder.has(BRAKE_FILE)
        brake = judged.folder.place if judged is not None and has_brake else None
        if session.run.request.config.store != self._config.store:
            return  # the next run of that store tells it
        last = session.run.store.reader.last_run()
        self._gathered.add(
            entry,
            after=None if last is None else last.id,
            requests=session.take_requests(),
            brake=brake,
        )

    async def discover(self, uuids: Collection[str]) -> tuple[set[str], bool]:
        """List every workspace of the configuration, and back up those repositories of `uuids` that a list
        has. Returns these, and whether all lists could be read: what they lack is none of ours then."""
        found: set[str] = set()
        is_complete = True
        async with self._sessions.session() as session:
            for entry in self._config.workspaces:
                try:
                    found |= await self._discover(session, entry, uuids)
                except MirrorError as error:
                    is_complete = False
                    where = entry.workspace or "workspaces of the credential"
                    _log.warning("backup.discovery_failed", where=where, reason=error.message)
        return found, is_complete

    async def _discover(self, session: Session, entry: WorkspaceConfig, uuids: Collection[str]) -> set[str]:
        run, found = session.run, set()
        client, store = await session.client(entry), session.run.store
        held = store.reader.uuid_of_workspace(entry.workspace) if entry.workspace is not None else None
        for workspace in await workspaces_of(client, entry.workspace, held=held):
            names = {workspace.slug.lower(), workspace.uuid.lower()}
            if entry.workspace is None and names & run.request.named_workspaces:
                continue
            listed = await self._list(session, entry, workspace)
            chosen = [one for one in listed.repositories if one.uuid in uuids]
            if chosen:
                home = store.adopt_workspace(listed.workspace, self._clock.now())
                for one in chosen:
                    if not self._announcements.is_busy(one.uuid):  # else a run is at it
                        await self._back_up_found(session, entry, home, one)
            found |= {one.uuid for one in chosen}
        return found

    async def _list(self, session: Session, entry: WorkspaceConfig, workspace: Workspace) -> Discovered:
        reader = session.run.store.reader
        uuid = workspace.uuid or reader.uuid_of_workspace(workspace.slug) or ""
        known = [(one.slug, None) for one in repositories_of(reader, uuid, workspace.slug)]
        rules = Rules(entry.include, entry.exclude)
        return await discover(await session.client(entry), workspace, rules, known=known, held=uuid or None)

    async def _back_up_found(
        self, session: Session, entry: WorkspaceConfig, home: WorkspaceWriter, repository: Repository
    ) -> None:
        mark = _LossMark(home, session.run.results.identifier)
        workspace = await _workspace(session, entry, home, mark)
        try:
            result = await backup_repository(workspace, home, repository)
            if mark.is_set:
                await self._judge(workspace, home, mark)
        finally:
            mark.leave()
        self._gather(session, result, home if mark.is_set else None)

    def _request(self) -> Request:
        config = self._config
        return Request(
            config, (), self._clock, self._environment, False, LOCK_SECONDS, NoProgress(), self._budget,
            self._transport, self._clock.monotonic(), announcements=self._announcements,
            elsewhere=self._elsewhere,
        )  # fmt: skip


def _place_of(session: Session, folder: RepositoryFolder) -> _Place | None:
    """Where a stored repository is; None where the configuration does not include it."""
    store, request = session.run.store, session.run.request
    home = current_workspace(folder, store.reader.workspaces(on_damage=ignore_damage))
    if home is None:
        return None
    names = {home.slug.lower(), home.uuid.lower(), *(one.name.lower() for one in home.former_names)}
    project = repository_of(folder).project
    for entry in request.config.workspaces:
        is_chosen = Rules(entry.include, entry.exclude).chooses(folder.slug, project)
        if belongs_to_entry(entry, names, request.named_workspaces) and is_chosen:
            writer = store.writer_of(home)
            assert isinstance(writer, WorkspaceWriter)
            return _Place(folder, writer, entry)
    return None


async def _workspace(
    session: Session, entry: WorkspaceConfig, home: WorkspaceWriter, before_loss: Callable[[], None]
) -> WorkspaceContext:
    return WorkspaceContext(
        session.run, home.folder.uuid, await session.client(entry), entry,
        holds_losses=has_unfinished_backup(home.path) or is_tripped(home),
        lost_since=session.run.last_ended(entry) or session.run.results.started,
        before_loss=before_loss,
    )  # fmt: skip
