"""Backing up one repository. Whatever happens, a turn ends in one entry of the run record.

Details that take more requests than are left are asked for by `resume_repository`, once every repository has
had its turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace

from mirror.backup.context import FolderContext, WorkspaceContext
from mirror.backup.entries import erased_entry, failed_entry
from mirror.backup.failures import as_mirror_error
from mirror.backup.results import TurnResult
from mirror.backup.turn import FirstTurn, LaterTurn
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.people import without_people
from mirror.errors import Locked, TryLater
from mirror.logs import get_logger
from mirror.model import DONE, LATER, Outcome, Repository, RunEntry
from mirror.reclaim.erasing import finish_erasures
from mirror.store.reading.reader import Erasure, ErasureFilter
from mirror.store.writing.writer import WorkspaceWriter

_log = get_logger("backup")


async def backup_repository(
    workspace: WorkspaceContext, home: WorkspaceWriter, repository: Repository
) -> TurnResult:
    """Bring one repository's copy up to date. Its entry names whatever goes wrong."""

    async def turn(folder: FolderContext, erased: ErasureFilter) -> TurnResult:
        return await FirstTurn(folder, erased).run()

    async with _turn_in_process(workspace, repository):
        result = await take_turn(workspace, home, repository, turn)
    workspace.progress.report(repository.full_name, DONE if result.remaining is None else LATER)
    log_result(repository, result.entry)
    return result


def log_result(repository: Repository, entry: RunEntry) -> None:
    """Log the outcome of a repository."""
    _log.info(
        "backup.repository_done",
        repository=repository.full_name,
        outcome=str(entry.outcome),
        snapshot=entry.snapshot,
        problems=[problem.text for problem in entry.problems],
        seconds=round(entry.seconds, 2),
    )


async def resume_repository(
    workspace: WorkspaceContext, home: WorkspaceWriter, before: TurnResult, priority: Priority, *, last: bool
) -> TurnResult:
    """Ask for what is due with this priority, waiting for the rate limit where need be.

    With `last` the outcome becomes a snapshot; until then it is kept as work towards one. Where that fails,
    the result of the turn before stays reported, as partial.
    """
    remaining = before.remaining
    assert remaining is not None

    async def turn(folder: FolderContext, erased: ErasureFilter) -> TurnResult:
        return await LaterTurn(folder, erased, before).run(priority, last=last)

    async with _turn_in_process(workspace, remaining.repository):
        result = await take_turn(workspace, home, remaining.repository, turn)
    is_over = last or result.remaining is None
    workspace.progress.report(remaining.repository.full_name, DONE if is_over else LATER)
    if result.entry.outcome not in (Outcome.FAILED, Outcome.LOCKED):
        return result
    # What the turn before saved is in the store.
    entry = replace(
        before.entry,
        outcome=Outcome.PARTIAL,
        problems=(*before.entry.problems, *result.entry.problems),
        seconds=before.entry.seconds + result.entry.seconds,
    )
    return TurnResult(entry)


def _turn_in_process(
    workspace: WorkspaceContext, repository: Repository
) -> AbstractAsyncContextManager[None]:
    """The turn among the visits of this process: scheduled ones, and those that hooks caused."""
    announcements = workspace.run.request.announcements
    return nullcontext() if announcements is None else announcements.turn(repository.uuid)


async def take_turn(
    workspace: WorkspaceContext,
    home: WorkspaceWriter,
    repository: Repository,
    turn: Callable[[FolderContext, ErasureFilter], Awaitable[TurnResult]],
) -> TurnResult:
    """Take a turn with the lock of the repository's folder held. Never raises for this repository alone."""
    clock = workspace.clock
    began = clock.monotonic()
    place = ""
    try:
        await _check_ours(workspace, repository)
        writer = workspace.store.adopt_repository(home, repository, clock.now())
        place = writer.folder.place
        async with writer.lock(workspace.lock_wait, clock) as lock:
            await finish_erasures(
                writer, workers=workspace.workers, lock=lock.fileno, without_people=without_people
            )
            erased = ErasureFilter([*writer.folder.erasures(), *people_erased(home)], without_people)
            if erased.everything is not None:
                result = TurnResult(erased_entry(writer, erased.everything.reason))
            else:
                result = await turn(FolderContext(workspace, writer, repository, lock.fileno), erased)
    except Locked as error:
        result = TurnResult(failed_entry(repository, place, Outcome.LOCKED, error))
    except Exception as error:  # noqa: BLE001 - one repository's failure is its entry's, whatever it is
        fault = as_mirror_error(error, place or repository.full_name)
        result = TurnResult(failed_entry(repository, place, Outcome.FAILED, fault))
    seconds = result.entry.seconds + clock.monotonic() - began
    return replace(result, entry=replace(result.entry, seconds=seconds))


async def _check_ours(workspace: WorkspaceContext, repository: Repository) -> None:
    """Raise TryLater where a new folder would be a second one in a cluster of hosts: since the repository was
    listed for this one it may have moved away."""
    others = workspace.run.request.others
    if others is None or workspace.store.reader.folder_of_repository(repository.uuid) is not None:
        return
    reason = await others.why_not_here(repository.uuid)
    if reason is not None:
        raise TryLater(f"it is not begun here: {reason}")


def people_erased(home: WorkspaceWriter) -> list[Erasure]:
    """The people who were erased from a workspace: they stay out of its repositories, new ones too."""
    return [one for one in home.folder.erasures() if one.people]
