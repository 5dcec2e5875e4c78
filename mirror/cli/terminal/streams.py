"""Standard streams whose failures never stop the work.

A reader may close its pipe, the disk with the log may be full, a descriptor may be closed, a charset may lack
a character: `prepare` handles all of that before anything else runs.
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
    """Writes bytes to a descriptor. A failed write is dropped; `failures` counts them."""

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
    """Text to a standard stream. Writing never raises: `failures` counts failed writes, `error` is the last.

    A character that the stream's charset lacks is escaped as in JSON, so that JSON stays valid.
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
        """Why the last write failed."""
        return self._descriptor.error


def prepare() -> None:
    """Replace the standard streams with safe ones. A stream that the caller has replaced is kept."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Opened in the wrong direction: using it fails as with a closed descriptor, and no file of the
            # store can get its number.
            os.open(os.devnull, os.O_WRONLY if number == 0 else os.O_RDONLY)
    codecs.register_error(_ESCAPE, _escape)
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - open as long as the process
    if _is_own(sys.stdout, sys.__stdout__):
        sys.stdout = StandardStream(1, encoding=_encoding(sys.stdout), is_buffered=True)
    if _is_own(sys.stderr, sys.__stderr__):
        sys.stderr = StandardStream(2, encoding=_encoding(sys.stderr), is_buffered=False)


def end(code: int) -> int:
    """The exit code of the process: the worst of the command's `code` and, where the result could not be
    written, 1."""
    if not isinstance(sys.stdout, StandardStream):
        return code
    sys.stdout.flush()
    error = sys.stdout.error
    if error is None:
        return code
    if error.errno != errno.EPIPE:  # a reader that closed its pipe needs no message
        sys.stderr.write(f"mirror: the result could not be written: {error.strerror}\n")
    return worst((code, 1))


def _is_own(stream: TextIO | None, original: TextIO | None) -> bool:
    """Whether this is the interpreter's own stream; it has none for a closed descriptor."""
    return stream is original and not isinstance(stream, StandardStream)


def _encoding(stream: TextIO | None) -> str:
    return stream.encoding if stream is not None else "utf-8"


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    units = (text[place : place + 2] for place in range(0, len(text), 2))
    return "".join(f"\\u{int.from_bytes(unit, 'big'):04x}" for unit in units), error.end
