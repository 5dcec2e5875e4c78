"""A terminal of a test: runs a program on a pseudo-terminal and shows what a person would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
_END = b"<the end of the output>"
_PART = re.compile(r"\x1b\[(?P<numbers>[0-9;?]*)(?P<letter>[A-Za-z])|\r|\n|[^\x1b\r\n]")


class Screen:
    """What the bytes that were written so far show on a terminal of `columns` columns: every line, also those
    that have scrolled out, and whether the cursor is visible."""

    def __init__(self, columns: int) -> None:
        self.lines: list[list[str]] = [[]]
        self.has_cursor = True
        self._columns = columns
        self._style = ""
        self._styles: list[list[str]] = [[]]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Show more text. Raises ValueError for what this terminal does not know."""
        for part in _PART.finditer(text):
            sign = part[0]
            if sign == "\n":
                self._down()
            elif sign == "\r":
                self._column = 0
            elif len(sign) == 1:
                self._put(sign)
            else:
                self._control(part["numbers"], part["letter"])

    def _down(self) -> None:
        self._row += 1
        while len(self.lines) <= self._row:
            self.lines.append([])
            self._styles.append([])

    def _put(self, sign: str) -> None:
        if self._column == self._columns:
            self._column = 0
            self._down()
        line, styles = self.lines[self._row], self._styles[self._row]
        line.extend(" " * (self._column + 1 - len(line)))
        styles.extend([""] * (self._column + 1 - len(styles)))
        line[self._column], styles[self._column] = sign, self._style
        self._column += 1

    def _control(self, numbers: str, letter: str) -> None:
        if letter == "m":
            self._style = "" if numbers in ("", "0") else f"{self._style}\x1b[{numbers}m"
        elif numbers == "?25" and letter in "hl":
            self.has_cursor = letter == "h"
        elif letter == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif letter == "K" and numbers == "2":
            self.lines[self._row], self._styles[self._row] = [], []
        else:
            raise ValueError(f"CSI {numbers}{letter}")

    def ansi(self) -> str:
        """The lines with their colours, as escape sequences."""
        rows = zip(self.lines, self._styles, strict=True)
        return "\n".join(
            "".join(f"\x1b[0m{style}{sign}" for sign, style in zip(*row, strict=True)) + "\x1b[0m"
            for row in rows
        )

    def text(self) -> list[str]:
        """The lines, without those at the end that are empty."""
        lines = ["".join(line).rstrip() for line in self.lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines


def watched(
    *words: str, columns: int = 60, program: str = "", environment: Mapping[str, str] | None = None
) -> str:
    """What a command or a Python program writes to a terminal of `columns` columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    running = subprocess.Popen(
        [sys.executable, *(("-c", program) if program else ("-m", "mirror", *words))],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8", **(environment or {}),
        },
    )  # fmt: skip
    data = bytearray()

    def read() -> None:
        while not data.endswith(_END):
            data.extend(os.read(ours, 65536))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        running.wait(100)
    finally:
        running.kill()
        # Linux may drop what the last one to close a terminal wrote: it stays open until this was read.
        os.write(theirs, _END)
        reader.join()
        os.close(theirs)
        os.close(ours)
    return data.removesuffix(_END).decode()
