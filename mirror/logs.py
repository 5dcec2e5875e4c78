"""Structured logs: configuration, and redaction of secrets.

Events are dotted names with fields (`backup.repository_saved`, workspace=…, repository=…), never sentences.
Logs go to stderr, results to stdout.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

LogFormat = Literal["auto", "console", "json"]

_REDACTED = "[redacted]"
# Patterns of credentials that nobody registered: authorization headers, user info in URLs, and the prefixes
# of Atlassian's tokens.
_LOOKS_SECRET = (
    (re.compile(r"(?i)\b(bearer|basic|jwt)\s+[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {_REDACTED}"),
    (re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s@'\"]+@"), rf"\1{_REDACTED}@"),
    (re.compile(r"\bAT(?:AT|CT|BB)[A-Za-z0-9_=-]{8,}"), _REDACTED),
)
_secrets: set[str] = set()
# Log lines that could not be written and are not reported yet.
_lost: Counter[str] = Counter()


def register_secret(value: str) -> None:
    """Redact `value` from logs and printed errors from now on.

    Values under four characters are ignored: redacting them would hide ordinary words.
    """
    if len(value) >= 4:
        _secrets.add(value)


def redact(text: str) -> str:
    """`text` with every registered secret, and everything that looks like one, redacted."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _REDACTED)
    for pattern, replacement in _LOOKS_SECRET:
        text = pattern.sub(replacement, text)
    return text


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping):
        return {_redact_value(key): _redact_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(item) for item in value]
    if isinstance(value, bool | int | float) or value is None:
        return value
    return redact(str(value))


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {redact(str(key)): _redact_value(value) for key, value in event.items()}


def _for_people(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave out what says nothing: fields without a value, and the room, with which the event begins."""
    return {key: value for key, value in event.items() if key != "room" and value is not None}


def configure(*, log_format: LogFormat = "auto", verbosity: int = 0, stream: TextIO | None = None) -> None:
    """Send logs to `stream` (default: stderr).

    `log_format` `auto` is `console` on a terminal and `json` elsewhere. On a terminal `console` gives times
    of the day (UTC). `verbosity` is -1 for warnings only, 0 for info, 1 for debug.
    """
    out = stream if stream is not None else sys.stderr
    if log_format == "auto":
        log_format = "console" if out.isatty() else "json"
    level = {-1: logging.WARNING, 0: logging.INFO}.get(max(-1, min(verbosity, 1)), logging.DEBUG)
    time_format = "iso"
    renderers: list[Any]
    if log_format == "json":
        renderers = [structlog.processors.JSONRenderer(ensure_ascii=True)]
    else:
        time_format = "%H:%M:%S" if out.isatty() else "iso"
        console = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), timestamp_key="ts", pad_level=False, pad_event_to=0
        )
        renderers = [_for_people, console]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt=time_format, utc=True, key="ts"),
            structlog.processors.format_exc_info,
            _redact_event,  # last before rendering: it must see tracebacks and bound fields too
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    # Send the logs of libraries (apscheduler, httpx) the same way.
    handler = _ThroughStructlog()
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _Lines:
    """Writes log lines to a stream. A line that cannot be written is dropped and counted, so that a failing
    log never stops the work."""

    def __init__(self, stream: TextIO | None) -> None:
        self._given = stream

    @property
    def _stream(self) -> TextIO:
        """The given stream, else the current stderr: a progress display replaces it, and prints lines above
        itself."""
        return self._given if self._given is not None else sys.stderr

    def msg(self, line: str) -> None:
        """Write one line."""
        before = getattr(self._stream, "failures", 0)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            _lost["lines"] += 1
        else:
            _lost["lines"] += getattr(self._stream, "failures", 0) > before

    log = debug = info = warn = warning = error = err = critical = fatal = failure = exception = msg


def take_lost_lines() -> int:
    """The number of log lines that could not be written since the last call."""
    return _lost.pop("lines", 0)


class _ThroughStructlog(logging.Handler):
    """Passes records of the standard logger to structlog, which redacts them."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        structlog.get_logger(record.name).log(record.levelno, "library.message", message=message)


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a room. Its events begin with the room's name and a dot."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return logger
