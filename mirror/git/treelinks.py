"""What trees link to, without reading again what a tree took over from the one it is made from.

Most trees of a pack are deltas: some bytes of another tree, some new ones. An entry that lies whole in
bytes taken over, and begins where an entry of the other tree begins, is that entry: its link was met
when the other tree was read. So only entries that touch something new are looked at.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import accumulate

from mirror.git.deltas import Content, copied

_ENTRY = re.compile(rb"[^\0]+\0.{20}", re.DOTALL)
_SUBMODULE = b"160000 "  # names a commit of another repository
# Shorter trees are read whole: that is quicker than to see what was taken over.
SHORT = 2048

# Where each entry of a tree begins, and where the last one ends.
Marks = list[int]


def links(entries: list[bytes]) -> set[bytes]:
    """The names that entries of trees link to, twenty bytes each."""
    return {entry[-20:] for entry in entries if not entry.startswith(_SUBMODULE)}


def entries_of(tree: bytes) -> tuple[list[bytes], Marks | None]:
    """The entries of a tree, and its marks. A malformed one has no marks, and the entries are those that
    can be read."""
    entries = _ENTRY.findall(tree)
    marks = list(accumulate(map(len, entries), initial=0))
    return entries, marks if marks[-1] == len(tree) else None


def changed(tree: bytes, delta: Content, at: int, base: Marks) -> tuple[list[bytes], Marks] | None:
    """The entries of `tree` that are not entries of the tree whose marks are `base`, and its own marks.

    `delta` made the one from the other, by its instructions from `at` on. None where `tree` is malformed:
    then its entries are not to be told apart so.
    """
    new: list[bytes] = []
    marks: Marks = [0]
    match, count, stop_of_delta = _ENTRY.match, len(base), len(delta)
    here = stop = 0  # where the next entry begins; where what the instructions made so far ends
    while at < stop_of_delta:
        code = delta[at]
        at += 1
        if code < 0x80:
            at += code
            stop += code
        else:
            source, size, at = copied(delta, code, at)
            back = source - stop  # the same bytes are so far from here in the other tree
            source += size
            stop += size
        while here < stop:
            if code >= 0x80:
                first = bisect_left(base, here + back)
                if first < count and base[first] == here + back:
                    last = bisect_right(base, source, first)
                    if last > first + 1:
                        taken = base[first + 1 : last]
                        marks += [mark - back for mark in taken] if back else taken
                        here = marks[-1]
                        continue
            found = match(tree, here)
            if found is None:
                return None
            new.append(found[0])
            here = found.end()
            marks.append(here)
    return (new, marks) if here == len(tree) else None
