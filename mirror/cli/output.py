"""Results on stdout: tables for people, one JSON document for machines. Progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mirror import logs


def plain(text: object) -> str:
    """Text fit for a terminal: names from a server may hold anything, secrets must not show."""
    clean = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in str(text))
    return logs.redact(clean)


class Output:
    """Where results go. `as_json` prints one document and nothing else."""

    def __init__(self, *, as_json: bool, no_colour: bool) -> None:
        self.as_json = as_json
        self._console = Console(
            file=sys.stdout, no_color=no_colour, highlight=False, soft_wrap=True, markup=False, emoji=False
        )

    @property
    def is_terminal(self) -> bool:
        """Whether a person is looking."""
        return self._console.is_terminal

    def line(self, text: object = "", style: str = "") -> None:
        """One line for people."""
        if not self.as_json:
            self._console.print(Text(plain(text), style=style if self.is_terminal else ""))

    def warnings(self, texts: Iterable[str]) -> None:
        """Warnings for people, a line each."""
        for text in texts:
            self.line(f"warning: {text}", style="yellow")

    def raw(self, text: str) -> None:
        """Text as it is, for documents and scripts."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def document(self, data: Mapping[str, Any]) -> None:
        """The one JSON document."""
        if self.as_json:
            sys.stdout.write(
                json.dumps({"schema": 1, **data}, indent=2, sort_keys=True, default=float) + "\n"
            )

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table: with colour on a terminal, in plain columns elsewhere."""
        if self.as_json:
            return
        cells = [[plain(cell) for cell in row] for row in rows]
        if self.is_terminal:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for heading in headings:
                table.add_column(heading, overflow="fold")
            for row in cells:
                table.add_row(*[Text(cell, style=_STYLES.get(cell, "")) for cell in row])
            self._console.print(table)
            return
        widths = [max(len(row[i]) for row in [list(headings), *cells]) for i in range(len(headings))]
        for row in [list(headings), *cells]:
            padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            self.raw("  ".join(padded).rstrip())


_STYLES = {
    "saved": "green", "confirmed": "green", "ok": "green", "complete": "green",
    "partial": "yellow", "absent": "yellow", "unreached": "yellow", "warn": "yellow", "locked": "yellow",
    "pending": "yellow", "failed": "red", "fail": "red", "gone": "yellow",
}  # fmt: skip


class TerminalProgress:
    """Progress for a person; nothing where nobody looks. A context manager."""

    def __init__(self, *, show: bool) -> None:
        self._rich: RichProgress | None = None
        if show and sys.stderr.isatty():
            self._rich = RichProgress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    @property
    def is_shown(self) -> bool:
        """Whether anything is shown."""
        return self._rich is not None

    def __enter__(self) -> TerminalProgress:
        if self._rich is not None:
            self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich is not None:
            self._rich.stop()

    def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
        """`subject` is at `stage`."""
        if self._rich is None:
            return
        count = "" if done is None else f" {done}" if total is None else f" {done}/{total}"
        text = plain(f"{subject}: {stage.splitlines()[-1] if stage else ''}{count}").replace("[", "(")
        if stage == "done":
            task = self._tasks.pop(subject, None)
            if task is not None:
                self._rich.remove_task(task)
        elif subject not in self._tasks:
            self._tasks[subject] = self._rich.add_task(text, total=None)
        else:
            self._rich.update(self._tasks[subject], description=text)


def size(count: int) -> str:
    """A number of bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError
