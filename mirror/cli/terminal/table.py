"""How a table fits the terminal: which columns are shown, how wide, what is shortened and what is wrapped.

One rule for all tables. Where the rows are too wide, texts are wrapped first, then the middle of long names
is left out, then columns are dropped, then names and texts become narrower still. An id, a hash, a time or a
number is whole or not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mirror.cli.terminal.cells import padded, shortened, width_of, wrapped

# Cells between two columns.
GAP = 2
# The least width of a shortened name and of a wrapped text: first what reads well, then what is bearable.
_LEAST = ((24, 24), (12, 16))


class Fit(Enum):
    """What may happen to the cells of a column."""

    WHOLE = auto()  # nothing
    SHORTEN = auto()  # the middle is left out
    WRAP = auto()  # several lines, broken between words


@dataclass(frozen=True)
class Column:
    """A column. Of those with a `drop`, the one with the highest is left out first; `is_number` is right-
    aligned."""

    heading: str
    fit: Fit = Fit.WHOLE
    drop: int = 0
    is_number: bool = False


@dataclass(frozen=True)
class Layout:
    """The columns that are shown, by index, the width of each in cells, and the headings of the others."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]
    dropped: tuple[str, ...] = ()


def natural(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Layout:
    """The layout without any limit."""
    widths = [
        max([width_of(one.heading), *(width_of(row[i]) for row in rows)]) for i, one in enumerate(columns)
    ]
    return Layout(tuple(range(len(columns))), tuple(widths))


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Layout | None:
    """The layout for a terminal of `width` cells; None where not even the necessary columns fit."""
    whole = natural(columns, rows).widths
    for name, text in _LEAST:
        least = [
            min(width, {Fit.WHOLE: wide, Fit.SHORTEN: min(wide, name), Fit.WRAP: min(wide, text)}[one.fit])
            for one, wide in zip(columns, whole, strict=True)
        ]
        shown = list(range(len(columns)))
        while True:
            spare = width - sum(least[i] for i in shown) - GAP * (len(shown) - 1)
            droppable = [i for i in shown if columns[i].drop]
            if spare >= 0:
                return _spread(columns, shown, whole, least, spare)
            if not droppable:
                break
            shown.remove(max(droppable, key=lambda i: columns[i].drop))
    return None


def _spread(
    columns: Sequence[Column], shown: Sequence[int], whole: Sequence[int], least: Sequence[int], spare: int
) -> Layout:
    """Give what is spare to names, then to texts."""
    widths = {i: least[i] for i in shown}
    for fit in (Fit.SHORTEN, Fit.WRAP):
        for i in shown:
            if columns[i].fit is fit:
                more = min(spare, whole[i] - widths[i])
                widths[i] += more
                spare -= more
    dropped = tuple(one.heading for i, one in enumerate(columns) if i not in shown)
    return Layout(tuple(shown), tuple(widths.values()), dropped)


def lines_of(columns: Sequence[Column], row: Sequence[str], layout: Layout) -> list[list[str]]:
    """The lines of one row, each with its padded cells, gaps included."""
    several = []
    for i, width in zip(layout.shown, layout.widths, strict=True):
        fit = columns[i].fit
        text = shortened(row[i], width) if fit is Fit.SHORTEN else row[i]
        several.append(wrapped(text, width) if fit is Fit.WRAP else [text])
    gaps = [" " * GAP] * (len(several) - 1) + [""]
    return [
        [
            padded(one[number] if number < len(one) else "", width, is_number=columns[i].is_number) + gap
            for i, one, width, gap in zip(layout.shown, several, layout.widths, gaps, strict=True)
        ]
        for number in range(max(map(len, several)))
    ]
