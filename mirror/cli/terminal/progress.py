"""The progress of a command: drawn below the log on a terminal, and told in log lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from mirror.cli.terminal.cells import ELLIPSIS, padded, shortened, width_of, wrapped
from mirror.cli.terminal.output import plain
from mirror.logs import get_logger
from mirror.model.live import Activity, Picture
from mirror.model.progress import Gatherer
from mirror.model.words import amounts, label, progress

if TYPE_CHECKING:  # rich is imported for terminals only: it costs more than most commands
    from rich.console import Console, RenderableType
    from rich.live import Live

# How often the display is drawn in a second, and after how many seconds a log line says how far it is.
_DRAWN = 5
_TOLD_SECONDS = 30.0
# The display is never wider than this, and shows so many of what is worked on.
_WIDTH_MAX = 100
_ACTIVITIES_MAX = 5
# So many columns are for what is done for a repository, where there are as many.
_STAGE = 42


@dataclass(frozen=True)
class Work:
    """What a command does, in words: the `name` of its log events, what it is doing, and what it counts."""

    name: str
    doing: str
    unit: str = "repositories"
    got: str = "received"


class TerminalProgress(Gatherer):
    """Gathers the progress of a command, and shows it while it is entered.

    On a terminal it is drawn on stderr below the log lines, unless `is_drawn` is false or the terminal can
    only write line after line. Elsewhere a log line says it every `told_every` seconds.
    """

    def __init__(
        self,
        work: Work,
        *,
        clock: Callable[[], float],
        is_drawn: bool = True,
        no_colour: bool = False,
        told_every: float = _TOLD_SECONDS,
    ) -> None:
        super().__init__(clock)
        self._work = work
        self._display: _Drawn | _Told
        console = _console(no_colour=no_colour) if is_drawn and sys.stderr.isatty() else None
        if console is None:
            self._display = _Told(work, self.picture, told_every)
        else:
            self._display = _Drawn(work, self.picture, console)

    def __enter__(self) -> TerminalProgress:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()


def _console(*, no_colour: bool) -> Console | None:
    """The console of stderr; None where the terminal cannot move its cursor."""
    from rich.console import Console

    console = Console(file=sys.stderr, no_color=no_colour, highlight=False, markup=False, emoji=False)
    return None if console.is_dumb_terminal else console


class _Told:
    """Says in the log how far the command is: every so many seconds, and when it is known how much there is
    to do."""

    def __init__(self, work: Work, picture: Callable[[], Picture], every: float) -> None:
        self._work, self._picture, self._every = work, picture, every
        self._log = get_logger(work.name)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """Tell no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            seen = self._picture()
            self._log.info(
                f"{self._work.name}.progress",
                text=progress(seen, self._work.unit),
                done=seen.done,
                total=seen.total,
                objects=seen.objects,
                bytes=seen.bytes,
                requests=seen.requests,
                requests_left=seen.requests_left,
                seconds_left=None if seen.seconds_left is None else round(seen.seconds_left),
            )


class _Drawn:
    """Draws the display below the log lines, which are printed above it as they come."""

    def __init__(self, work: Work, picture: Callable[[], Picture], console: Console) -> None:
        self._work, self._picture, self._console = work, picture, console
        self._live: Live | None = None
        self._stderr: TextIO | None = None

    def start(self) -> None:
        """Begin to draw."""
        from rich.live import Live

        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=_DRAWN,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self._stderr, sys.stderr = sys.stderr, _Above(self._console, sys.stderr)

    def stop(self) -> None:
        """Remove the display, and show the cursor again."""
        if self._live is None or self._stderr is None:
            return
        above, sys.stderr = sys.stderr, self._stderr
        above.flush()
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.text import Text

        seen = self._picture()
        width = max(10, min(self._console.width, _WIDTH_MAX) - 1)
        is_ascii = self._console.options.ascii_only
        shown = Text(no_wrap=True, overflow="crop")
        if seen.total:
            sign, gone = "-" if is_ascii else "━", width * min(seen.done, seen.total) // seen.total
            rest = " " if is_ascii or self._console.no_color else sign
            shown.append(sign * gone, style="green")
            shown.append(rest * (width - gone) + "\n", style="bright_black")
        lines = "\n".join(lines_of(seen, self._work, width))
        return shown.append(lines.replace(ELLIPSIS, "~") if is_ascii else lines)


class _Above:
    """Stands for stderr while the display is drawn: whole lines are printed above it."""

    def __init__(self, console: Console, stream: TextIO) -> None:
        self._console, self._stream = console, stream
        self._begun = ""
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Print the lines that are whole now."""
        with self._lock:
            *whole, self._begun = (self._begun + text).split("\n")
            self._print(whole)
        return len(text)

    def flush(self) -> None:
        """Print what was begun, as a line of its own."""
        with self._lock:
            self._print([self._begun] if self._begun else [])
            self._begun = ""

    def _print(self, lines: list[str]) -> None:
        from rich.text import Text

        for line in lines:
            self._console.print(Text.from_ansi(line), soft_wrap=True)


def lines_of(seen: Picture, work: Work, width: int) -> list[str]:
    """The display without its bar, in lines of at most `width` columns: how far it is, how much it got, and
    what is worked on."""
    lines = _broken(f"{work.doing}: {progress(seen, work.unit)}", width)
    lines += _broken(f"  {amounts(seen, work.got)}", width)
    shown, others = seen.activities[:_ACTIVITIES_MAX], len(seen.activities) - _ACTIVITIES_MAX
    names = [plain(one.subject.rstrip("/")) for one in shown]
    column = min(max(map(width_of, names), default=0), max(width - _STAGE, width // 4))
    for name, one in zip(names, shown, strict=True):
        lines.append(shortened(f"  {padded(shortened(name, column), column)}  {_stage(one)}", width))
    return [*lines, f"  {ELLIPSIS} and {others} more"] if others > 0 else lines


def _broken(text: str, width: int) -> list[str]:
    """A sentence in the lines that it takes."""
    first, *others = wrapped(text, width - 2)
    return [first, *(f"  {line}" for line in others)] if text.strip() else []


def _stage(one: Activity) -> str:
    stage = one.stage.strip().splitlines()[-1] if one.stage.strip() else ""
    head, mark, rest = stage.partition(": ")
    text = plain(f"{label(head)}{mark}{rest}")
    if not one.done and not one.total:
        return text
    return f"{text} {one.done or 0:,} of {one.total:,}" if one.total else f"{text} {one.done:,}"
