"""Results on stdout: tables for people, one JSON document for machines. Progress on stderr."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mirror import logs
from mirror.model import NoProgress
from mirror.model.words import label

if TYPE_CHECKING:  # rich is imported for terminals only: it costs more than most commands
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def plain(text: object) -> str:
    """Text that is safe on a terminal: control characters replaced, secrets redacted."""
    clean = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in str(text))
    return logs.redact(clean)


class Output:
    """Results on stdout. With `as_json` one JSON document and nothing else."""

    def __init__(self, *, as_json: bool, no_colour: bool) -> None:
        self.as_json = as_json
        self._no_colour = no_colour

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        return Console(
            file=sys.stdout,
            no_color=self._no_colour,
            highlight=False,
            soft_wrap=True,
            markup=False,
            emoji=False,
        )

    @property
    def is_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return sys.stdout.isatty()

    def line(self, text: object = "", style: str = "") -> None:
        """One line for people."""
        if self.as_json:
            return
        if not self.is_terminal:
            self.raw(plain(text))
            return
        from rich.text import Text

        self._console.print(Text(plain(text), style=style))

    def lines(self, texts: Iterable[str], style: str = "") -> None:
        """Lines for people. A name in one of them may have line ends, with which it would look like another
        line."""
        for text in texts:
            self.line(" ".join(text.splitlines()), style=style)

    def warnings(self, texts: Iterable[str]) -> None:
        """Warnings for people, one line each."""
        for text in texts:
            self.line(f"warning: {text}", style="yellow")

    def raw(self, text: str) -> None:
        """Text unchanged, for documents and scripts."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def raw_bytes(self, data: bytes) -> None:
        """Bytes unchanged: a file."""
        sys.stdout.buffer.write(data)

    def flush(self) -> None:
        """Flush stdout, for a command that goes on running."""
        sys.stdout.flush()

    def document(self, data: Mapping[str, Any]) -> None:
        """The one JSON document."""
        if self.as_json:
            sys.stdout.write(
                json.dumps({"schema": 1, **data}, indent=2, sort_keys=True, default=float) + "\n"
            )

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table: in colour on a terminal, in plain columns elsewhere."""
        if self.as_json:
            return
        cells = [[plain(cell) for cell in row] for row in rows]
        widths = [max(len(row[i]) for row in [list(headings), *cells]) for i in range(len(headings))]
        if not self.is_terminal:
            for row in [list(headings), *cells]:
                padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
                self.raw("  ".join(padded).rstrip())
        elif sum(widths[:-1]) + _GAP * len(widths[:-1]) + min(widths[-1], _TEXT_LEAST) <= self._console.width:
            self._columns(headings, cells)
        else:
            self._blocks(headings, cells)

    def _columns(self, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        """A table on a terminal; a long last column is wrapped between words."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for heading in headings[:-1]:
            table.add_column(heading, no_wrap=True)
        table.add_column(headings[-1], overflow="fold")
        for row in cells:
            table.add_row(*[Text(cell, style=_STYLES.get(cell, "")) for cell in row])
        self._console.print(table, soft_wrap=False)

    def _blocks(self, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        """A table that is wider than the terminal: one block for each row, one line for each column."""
        for row in cells:
            self.line(row[0], style="bold")
            for heading, cell in zip(headings[1:], row[1:], strict=True):
                lead = f"  {heading.lower()}: " if heading else "  "
                text = textwrap.fill(
                    cell, max(self._console.width, len(lead) + 20), initial_indent=lead,
                    subsequent_indent="    ", break_long_words=False, break_on_hyphens=False,
                )  # fmt: skip
                self.line(text, style=_STYLES.get(cell, ""))


# Columns between two cells, and the least width of the last column.
_GAP = 2
_TEXT_LEAST = 24
_STYLES = {
    "saved": "green", "unchanged": "green", "ok": "green", "complete": "green",
    "partial": "yellow", "not listed": "yellow", "in no list": "yellow", "warn": "yellow", "locked": "yellow",
    "not reached": "yellow", "failed": "red", "fail": "red", "gone": "yellow",
}  # fmt: skip


class TerminalProgress(NoProgress):
    """A progress display on a terminal; elsewhere it shows nothing. A context manager."""

    def __init__(self, *, show: bool) -> None:
        self._rich: RichProgress | None = None
        if show and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as RichProgress
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            self._rich = RichProgress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    @property
    def is_shown(self) -> bool:
        """Whether the display is on."""
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
        """Show that `subject` is at `stage`; the stage `done` removes it."""
        if self._rich is None:
            return
        count = "" if not done and not total else f" {done}" if total is None else f" {done} of {total}"
        text = plain(f"{subject}: {label(stage.splitlines()[-1]) if stage else ''}{count}").replace("[", "(")
        if stage == "done":
            task = self._tasks.pop(subject, None)
            if task is not None:
                self._rich.remove_task(task)
        elif subject not in self._tasks:
            self._tasks[subject] = self._rich.add_task(text, total=None)
        else:
            self._rich.update(self._tasks[subject], description=text)
