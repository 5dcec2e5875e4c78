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

_END = b"<the end of the output>"


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
        while not data.endswith(_END):
            data.extend(os.read(ours, 65536))

    reader = threading.Thread(target=read)
    reader.start()
    running = FORKS.start(
        program, words, environment={**environment, **(env or {})}, streams=[theirs, theirs, null]
    )
    try:
        running.wait(100)
    finally:
        running.kill()
        # Linux may drop what the last one to close a terminal wrote: it stays open until this was read.
        os.write(theirs, _END)
        reader.join()
        for descriptor in (ours, theirs, null):
            os.close(descriptor)
    text = data.removesuffix(_END).decode("utf-8", "replace")
    return CONTROLS.sub("", text).replace("\r", "").splitlines()


def too_wide(lines: list[str], columns: int) -> list[str]:
    """The lines that do not fit, except those of a single word, which cannot be broken."""
    return [line for line in lines if cell_len(line) > columns and len(line.split()) > 1]
