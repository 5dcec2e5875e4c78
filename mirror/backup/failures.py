"""From whatever was raised to what a run tells of it."""

from __future__ import annotations

from mirror.backup.tools import Tools
from mirror.errors import DamageFound, MirrorError
from mirror.logs import get_logger, redact
from mirror.model import Problem
from mirror.store.writing.writer import RepositoryWriter, SnapshotResult, WorkspaceWriter

_log = get_logger("backup")


def understood(error: Exception, where: str) -> MirrorError:
    """`error` as a run tells of it: ours as it is, the disk's with its file (or `where` it was). Anything
    else is a bug here, told as one, and logged with its traceback."""
    first = error
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, MirrorError):
        return first
    if isinstance(first, OSError):
        return MirrorError(f"{first.strerror or type(first).__name__}: {first.filename or where}")
    _log.error("backup.unexpected", where=where, exc_info=error)
    text = f"{type(first).__name__}: {first}".removesuffix(": ")
    return MirrorError(redact(f"unexpected {text}; please report it"))


def problems_of_ledger(
    tools: Tools, writer: RepositoryWriter | WorkspaceWriter, taken: SnapshotResult
) -> tuple[Problem, ...]:
    """What is wrong with a folder's ledger: it was made anew, or the folder is an older copy."""
    fault = writer.ledger_fault or tools.store.reader.rollback_problem(writer.folder, taken.ledger)
    return () if fault is None else (Problem(DamageFound.exit_code, fault),)
