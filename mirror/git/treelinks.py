"""What trees link to, without reading again what a tree took over from the one it is made from.

Most trees of a pack are deltas: some bytes of another tree, some new ones. An entry that lies whole in
bytes taken over, and begins where an entry of the other tree begins, is that entry: its link was met
when the other tree was read. So only entries that touch something new are looked at.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from itertools import accumulate

from mirror.git.deltas import Content, copied

_ENTRY = re.compile(rb"[^\0]+\0.{20}", re.DOTALL)
_SUBMODULE = (b"160000 ", b"0160000 ")  # names a commit of another repository
# Shorter trees are read whole: that is quicker than to see what was taken over.
SHORT = 2048
_AT_A_TIME = 10_000

# As long as a tree and one byte more: not zero where an entry begins, and where the last one ends. What
# makes one tree of another makes its marks of the other's, by the same copies.
Marks = bytearray


def links_and_marks(tree: bytes) -> tuple[set[bytes], Marks | None]:
    """The names that a tree links to, twenty bytes each, and its marks. A malformed one has no marks, and
    the links are those that can be read."""
    entries = _ENTRY.findall(tree)
    links = {entry[-20:] for entry in entries if not entry.startswith(_SUBMODULE)}
    marks, end = bytearray(len(tree) + 1), 0
    for end in accumulate(map(len, entries), initial=0):
        marks[end] = 1
    return links, marks if end == len(tree) else None


def links_of_large(tree: mmap.mmap) -> Iterator[set[bytes]]:
    """The names that a tree links to, some at a time."""
    links: set[bytes] = set()
    for entry in _ENTRY.finditer(tree):
        if not entry[0].startswith(_SUBMODULE):
            links.add(entry[0][-20:])
            if len(links) == _AT_A_TIME:
                yield links
                links = set()
    yield links


def new_links_and_marks(
    tree: bytes, delta: Content, at: int, base: Marks
) -> tuple[set[bytes], Marks] | tuple[None, None]:
    """The names that entries of `tree` link to which are not entries of the tree whose marks are `base`,
    and its own marks.

    `delta` made the one from the other, by its instructions from `at` on. None where `tree` is malformed:
    then its entries are not to be told apart so.
    """
    links: set[bytes] = set()
    marks = bytearray(len(tree) + 1)
    find, stop_of_delta = tree.find, len(delta)
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
            if code >= 0x80 and base[here + back]:
                last = base.rfind(1, here + back + 1, source + 1)
                if last > 0:
                    marks[here : last - back] = base[here + back : last]
                    here = last - back
                    continue
            end = find(b"\0", here)
            if end <= here:
                return None, None
            if not tree.startswith(_SUBMODULE, here):
                links.add(tree[end + 1 : end + 21])
            marks[here] = 1
            here = end + 21
    if here != len(tree):
        return None, None
    marks[here] = 1
    return links, marks
