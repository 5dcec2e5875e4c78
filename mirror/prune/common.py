"""The common parts of prune, erase and accept-loss: the run, and an entry for each folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from mirror import __version__
from mirror.errors import Cancelled, Locked, MirrorError
from mirror.logs import get_logger
from mirror.model import Clock, Outcome, Problem, Run, RunEntry, RunKind
from mirror.store.format.layout import SMALL_FILES
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder
from mirror.store.writing.writer import StoreWriter

_log = get_logger("prune")


class RunCancelled(Cancelled):
    """The run was interrupted; `run` is its record."""

    def __init__(self, run: Run) -> None:
        super().__init__("interrupted; the next run finishes what was begun")
        self.run = run


@dataclass(frozen=True)
class Started:
    """A started run."""

    id: str
    kind: RunKind
    at: datetime


def start(store: StoreWriter, kind: RunKind, now: datetime) -> Started:
    """Start a run."""
    begun = Started(store.new_run_id(now), kind, now)
    _log.info(f"{kind}.started", run=begun.id, store=str(store.reader.path))
    return begun


def finish(
    store: StoreWriter,
    begun: Started,
    clock: Clock,
    entries: Sequence[RunEntry],
    *,
    problems: Sequence[Problem] = (),
    facts: Mapping[str, Any] | None = None,
) -> Run:
    """Write the run's record and the index."""
    run = outcome(begun, clock, entries, problems=problems, facts=facts)
    store.write_run(run)
    store.rebuild_index(clock.now())
    _log.info(f"{begun.kind}.finished", run=run.id, exit_code=run.exit_code, folders=len(entries))
    return run


def outcome(
    begun: Started,
    clock: Clock,
    entries: Sequence[RunEntry],
    *,
    problems: Sequence[Problem] = (),
    facts: Mapping[str, Any] | None = None,
) -> Run:
    """The result of the run; writes nothing."""
    return Run(
        begun.id, begun.kind, begun.at, clock.now(), __version__, tuple(entries), tuple(problems), facts or {}
    )


def entry_of(folder: AnyFolder, result: Outcome, *problems: Problem, **more: Any) -> RunEntry:
    """The run entry of a folder."""
    kind: Literal["repository", "workspace"] = (
        "repository" if isinstance(folder, RepositoryFolder) else "workspace"
    )
    return RunEntry(
        kind, folder.full_name, folder.uuid, folder.place, result, problems=tuple(problems), **more
    )


def with_ledger(entry: RunEntry, folder: AnyFolder) -> RunEntry:
    """The entry with the folder's present ledger and small files, which verify checks. Raises
    StoreDamaged."""
    files = [name for name in SMALL_FILES if folder.has(name)]
    ledger = folder.ledger()
    newest = ledger.latest if ledger is not None else None
    return replace(
        entry,
        facts={**entry.facts, "files": files},
        snapshot=newest.id if newest is not None else None,
        ledger=ledger.sha256 if ledger is not None else None,
    )


async def guarded(folder: AnyFolder, work: Callable[[], Awaitable[RunEntry]]) -> RunEntry:
    """The result of `work`. If the folder is locked or damaged, an entry says so and the run continues."""
    try:
        return await work()
    except Locked as error:
        return entry_of(folder, Outcome.LOCKED, Problem(error.exit_code, error.message, hint=error.hint))
    except MirrorError as error:
        return entry_of(folder, Outcome.FAILED, Problem(error.exit_code, error.message, hint=error.hint))
    except OSError as error:
        text = f"{error.strerror or type(error).__name__}: {error.filename or folder.place}"
        return entry_of(folder, Outcome.FAILED, Problem(1, text))
