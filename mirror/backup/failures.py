"""From an exception to what a run reports of it."""

from __future__ import annotations

from mirror.errors import MirrorError
from mirror.logs import get_logger, redact

_log = get_logger("backup")


def as_mirror_error(error: Exception, where: str) -> MirrorError:
    """`error` as a run reports it: a MirrorError as it is, an OSError with its file (or `where` it was). Any
    other exception is a bug: it is reported as one, and logged with its traceback."""
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
