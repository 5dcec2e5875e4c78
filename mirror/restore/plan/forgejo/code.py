"""The code that comments are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.bitbucket.readable.values import Anchor
from mirror.git.comparison import Comparer

_LINES_MAX = 20


@dataclass(frozen=True)
class CodeLines:
    """The lines of a pull request's code: as its `head` has them, and as its destination (`base`) has them.
    Both are hashes or their beginnings, as far as they are known. Without a `comparer` there is no code."""

    comparer: Comparer | None
    head: str | None
    base: str | None

    def about(self, anchor: Anchor | None) -> Sequence[str]:
        """The lines that a comment is about; none where it is about no line, or git does not have them."""
        if self.comparer is None or anchor is None:
            return ()
        if (number := anchor.new if anchor.new is not None else anchor.old) is None:
            return ()
        first = max(min(anchor.first or number, number), number - _LINES_MAX + 1, 1)
        for commit in (anchor.commit, self.head if anchor.new is not None else self.base):
            known = self.comparer.resolve(commit) if commit else None
            lines = self.comparer.lines(known, anchor.path) if known is not None else None
            if lines is not None and number <= len(lines):
                return lines[first - 1 : number]
        return ()
