"""Results on stdout: tables for people, one JSON document for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mirror import logs
from mirror.cli.terminal.cells import width_of, wrapped
from mirror.cli.terminal.table import Column, Layout, fitting, lines_of, natural

if TYPE_CHECKING:  # rich is imported for terminals only: it costs more than most commands
    from rich.console import Console


def plain(text: object) -> str:
    """Text that is safe on a terminal: control characters replaced, secrets redacted."""
    clean = str(text)
    if not clean.isprintable():
        clean = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in clean)
    return logs.redact(clean)


def _hanging(line: str, width: int) -> list[str]:
    """A line in the width of a terminal: broken between words, its further lines indented."""
    if width_of(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip())
    hang = indent + 2
    first, *rest = wrapped(line, width - indent, folds=False)
    rest = wrapped(" ".join(rest), width - hang, folds=False) if rest else []
    return [" " * indent + first, *(" " * hang + part for part in rest)]


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
        """One line for people, which a terminal breaks between words. A name in it may have line ends, with
        which it would look like another line: they become spaces."""
        if self.as_json:
            return
        line = " ".join(plain(text).splitlines())
        if not self.is_terminal:
            self.raw(line)
            return
        from rich.text import Text

        for part in _hanging(line, self._console.width):
            self._console.print(Text(part, style=style))

    def command(self, text: str) -> None:
        """A command for people to copy: on one line, however long."""
        if not self.as_json:
            self.raw(plain(text))

    def lines(self, texts: Iterable[str], style: str = "") -> None:
        """Lines for people."""
        for text in texts:
            self.line(text, style=style)

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

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[object]], *, indent: int = 0) -> None:
        """A table. A terminal shows what fits (see `table.fitting`); elsewhere nothing is left out or cut."""
        if self.as_json:
            return
        headings = [one.heading for one in columns]
        cells = [[" ".join(plain(cell).split()) for cell in row] for row in rows]
        if not self.is_terminal:
            layout = natural(columns, cells)
            for row in [headings, *cells]:
                self.raw((" " * indent + "".join(lines_of(columns, row, layout)[0])).rstrip())
            return
        found = fitting(columns, cells, self._console.width - indent)
        if found is None:
            self._blocks(headings, cells)
            return
        self._row(columns, headings, found, indent, "bold")
        for row in cells:
            self._row(columns, row, found, indent)
        if found.dropped:
            self.line(f"(a wider terminal also shows {', '.join(found.dropped).lower()}; --json has all)")

    def _row(
        self, columns: Sequence[Column], row: Sequence[str], layout: Layout, indent: int, style: str = ""
    ) -> None:
        """One row of a table on a terminal."""
        from rich.text import Text

        styles = [style or _STYLES.get(row[i], "") for i in layout.shown]
        for line in lines_of(columns, row, layout):
            text = Text.assemble(" " * indent, *zip(line, styles, strict=True))
            text.rstrip()
            self._console.print(text)

    def _blocks(self, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        """A table on a terminal that is too narrow for it: one block for each row, one line for each
        column."""
        for row in cells:
            self.line(row[0], style="bold")
            for heading, cell in zip(headings[1:], row[1:], strict=True):
                lead = f"  {heading.lower()}: " if heading else "  "
                self.line(lead + cell, style=_STYLES.get(cell, ""))


_STYLES = {
    "saved": "green", "unchanged": "green", "ok": "green", "complete": "green",
    "partial": "yellow", "not listed": "yellow", "in no list": "yellow", "warn": "yellow", "locked": "yellow",
    "not reached": "yellow", "failed": "red", "fail": "red", "gone": "yellow",
}  # fmt: skip
