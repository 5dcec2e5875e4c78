"""Run a command on a terminal of a given width, as a person would."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Mapping

from rich.cells import cell_len

from tests.forks import FORKS

CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(
    *words: str, columns: int, program: str = "mirror.cli:main", env: Mapping[str, str] | None = None
) -> list[str]:
    """The lines that a command, or another `module:function`, writes on stdout to a terminal of `columns`
    columns, without colours."""
    ours, theirs = pty.openpty()
    null = os.open(os.devnull, os.O_WRONLY)  # stderr: the log and the progress
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm", "NO_COLOR": "1"}
    data = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(ours, 65536):
                data.extend(chunk)
        except OSError:  # Linux returns EIO once the other end is closed
            pass

    reader = threading.Thread(target=read)
    running = FORKS.start(
        program, words, environment={**environment, **(env or {})}, streams=[theirs, theirs, null]
    )
    reader.start()
    os.close(theirs)
    os.close(null)
    try:
        running.wait(100)
    finally:
        running.kill()
        reader.join(20)
        os.close(ours)
    return CONTROLS.sub("", data.decode("utf-8", "replace")).replace("\r", "").splitlines()


def too_wide(lines: list[str], columns: int) -> list[str]:
    """The lines that do not fit, except those of a single word, which cannot be broken."""
    return [line for line in lines if cell_len(line) > columns and len(line.split()) > 1]
