"""The lines in which two texts differ."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

CONTEXT_LINES = 3
# Of longer pieces that differ the old one is shown as removed and the new one as added.
_MATCH_LINES_MAX = 2_000
# The same once so many pairs of lines were compared: they take seconds where all lines are of two kinds.
PAIRS_MAX = 10_000_000


class Line(NamedTuple):
    """A line of a difference: `sign` is a space, `+` or `-`; `old` and `new` are its numbers, from 1."""

    sign: str
    old: int | None
    new: int | None
    text: str


@dataclass
class Allowance:
    """How much of something may still be done; `is_spent` once more was asked for."""

    left: int
    is_spent: bool = False

    def take(self, count: int) -> bool:
        """Whether so many more may be; they count then."""
        if count > self.left:
            self.is_spent = True
            return False
        self.left -= count
        return True


def diff_hunks(
    old: list[str], new: list[str], context: int = CONTEXT_LINES, *, pairs: Allowance | None = None
) -> Iterator[tuple[Line, ...]]:
    """The lines that differ, each run with `context` lines around it."""
    hunk: list[Line] = []
    for tag, a, b, c, d in _operations(old, new, pairs or Allowance(PAIRS_MAX)):
        if tag != "equal":
            hunk += [Line("-", index + 1, None, old[index]) for index in range(a, b)]
            hunk += [Line("+", None, index + 1, new[index]) for index in range(c, d)]
            continue
        behind = min(context, b - a) if hunk else 0
        before = min(context, b - a - behind) if b < len(old) or d < len(new) else 0
        hunk += _same(old, a, c, behind)
        if hunk and behind + before < b - a:
            yield tuple(hunk)
            hunk = []
        hunk += _same(old, b - before, d - before, before)
    if hunk:
        yield tuple(hunk)


def _same(old: list[str], a: int, c: int, count: int) -> list[Line]:
    return [Line(" ", a + index + 1, c + index + 1, old[a + index]) for index in range(count)]


def _operations(old: list[str], new: list[str], pairs: Allowance) -> Iterator[tuple[str, int, int, int, int]]:
    """difflib's opcodes. What is alike at both ends is taken off first, which makes most files small."""
    head, most = 0, min(len(old), len(new))
    while head < most and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < most - head and old[len(old) - 1 - tail] == new[len(new) - 1 - tail]:
        tail += 1
    one, two = old[head : len(old) - tail], new[head : len(new) - tail]
    if head:
        yield "equal", 0, head, 0, head
    if max(len(one), len(two)) > _MATCH_LINES_MAX or not pairs.take(len(one) * len(two)):
        yield "replace", head, head + len(one), head, head + len(two)
    elif one or two:
        for tag, a, b, c, d in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
            yield tag, head + a, head + b, head + c, head + d
    if tail:
        yield "equal", len(old) - tail, len(old), len(new) - tail, len(new)
