"""The standard streams as every command needs them: one that fails never stops the work.

A reader goes away, the disk that takes the log is full, a descriptor is closed, a charset lacks a sign:
all of that is met here, once, before anything else runs.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from pathlib import Path
from typing import Any, TextIO

from mirror.errors import worst

# How long a non-blocking descriptor may stay full before a write to it is dropped.
_FULL_SECONDS = 5.0
_ESCAPE = "mirror.escape"


class _Descriptor(io.RawIOBase):
    """Bytes to a descriptor. What cannot be written is dropped; `failures` counts these writes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self.failures = 0
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._number, rest) :]
                except BlockingIOError:
                    if not select.select((), (self._number,), (), _FULL_SECONDS)[1]:
                        raise
        except OSError as error:
            self.error = error
            self.failures += 1
        return size


class StandardStream(io.TextIOWrapper):
    """Text to a standard stream. It never raises: `failures` and `error` hold what could not be written.

    A sign that the stream's charset lacks is written as JSON escapes it, so that JSON stays JSON.
    """

    def __init__(self, number: int, *, encoding: str, is_buffered: bool) -> None:
        self._descriptor = _Descriptor(number)
        target: Any = io.BufferedWriter(self._descriptor, 1 << 16) if is_buffered else self._descriptor
        super().__init__(
            target,
            encoding=encoding,
            errors=_ESCAPE,
            line_buffering=is_buffered and self._descriptor.isatty(),
            write_through=not is_buffered,
        )

    @property
    def failures(self) -> int:
        """How many writes were dropped."""
        return self._descriptor.failures

    @property
    def error(self) -> OSError | None:
        """Why the last of them was."""
        return self._descriptor.error


def prepare() -> None:
    """Make the standard streams ready. A stream that a caller has replaced stays as it is."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # In the wrong direction, so that using it fails as it does with a closed descriptor, while no
            # file of the store can get this number.
            os.open(os.devnull, os.O_WRONLY if number == 0 else os.O_RDONLY)
    codecs.register_error(_ESCAPE, _escape)
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - open as long as the process
    if _is_own(sys.stdout, sys.__stdout__):
        sys.stdout = StandardStream(1, encoding=_encoding(sys.stdout), is_buffered=True)
    if _is_own(sys.stderr, sys.__stderr__):
        sys.stderr = StandardStream(2, encoding=_encoding(sys.stderr), is_buffered=False)


def end(code: int) -> int:
    """The exit code of the process whose command came to `code`: 1 joins it where the result could not
    be written."""
    if not isinstance(sys.stdout, StandardStream):
        return code
    sys.stdout.flush()
    error = sys.stdout.error
    if error is None:
        return code
    if error.errno != errno.EPIPE:  # a reader that has seen enough needs no telling
        sys.stderr.write(f"mirror: the result could not be written: {error.strerror}\n")
    return worst((code, 1))


def _is_own(stream: TextIO | None, original: TextIO | None) -> bool:
    """Whether this is the stream that the interpreter made; it makes none for a closed descriptor."""
    return stream is original and not isinstance(stream, StandardStream)


def _encoding(stream: TextIO | None) -> str:
    return stream.encoding if stream is not None else "utf-8"


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    units = (text[place : place + 2] for place in range(0, len(text), 2))
    return "".join(f"\\u{int.from_bytes(unit, 'big'):04x}" for unit in units), error.end
