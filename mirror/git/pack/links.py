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

from mirror.git.pack.delta import Content, copied

# Of a mode, which is a number, C git heeds the bits that tell the type: any digits may stand before them.
# The modes that git writes itself are tried first.
_FOLDER = rb"40000 |(?=(?:[0-7]*[0246])?4[0-7]{4} )"
_FILE = rb"100644 |100755 |120000 |(?=[0-7]*[1357][02][0-7]{4} )|(?![0-7]+ )"  # or a link, or no mode at all
# Anything else is a submodule to C git, which names a commit of another repository.
_NO_SUBMODULE = re.compile(rb"%s|%s" % (_FILE, _FOLDER))
_USUAL = (b"100644 ", b"40000 ", b"100755 ", b"120000 ")  # quicker than the pattern
_REST = rb"[^\0]+\0"
_ENTRY = re.compile(_REST + rb".{20}", re.DOTALL)
_LINK = re.compile(rb"(?:100644 |40000 |%s|%s)%s(.{20})|%s.{20}" % (_FILE, _FOLDER, _REST, _REST), re.DOTALL)
_KINDS = re.compile(
    rb"(?:%s)%s(.{20})|(?:%s)%s(.{20})|%s.{20}" % (_FILE, _REST, _FOLDER, _REST, _REST), re.DOTALL
)
# Shorter trees are read whole: that is quicker than to see what was taken over.
SHORT = 2048
_AT_A_TIME = 10_000

# As long as a tree and one byte more: not zero where an entry begins, and where the last one ends. What
# makes one tree of another makes its marks of the other's, by the same copies.
Marks = bytearray


def _end(tree: Content) -> int:
    """Where the last of a tree's entries ends at the latest: what is malformed after it is not looked through
    from each of its bytes on."""
    return tree.rfind(b"\0", 0, max(0, len(tree) - 20)) + 21


def link_list(tree: bytes) -> list[bytes]:
    """The names that a tree links to, twenty bytes each, in its order; of a malformed one those that can be
    read. Empty ones stand for submodules."""
    return _LINK.findall(tree, 0, _end(tree) if len(tree) > SHORT else len(tree))


def links_of_tree(tree: bytes) -> set[bytes]:
    """As `link_list`, each once, and nothing for submodules."""
    links = set(link_list(tree))
    links.discard(b"")
    return links


def files_and_folders(tree: bytes) -> list[tuple[bytes, bytes]]:
    """For each entry of a tree the name that it links to: as a file (or symbolic link), or as a folder. The
    other of the two is empty; of a submodule both are."""
    return _KINDS.findall(tree, 0, _end(tree))


def links_and_marks(tree: bytes) -> tuple[set[bytes], Marks | None]:
    """The names that a tree links to, twenty bytes each, and its marks. A malformed one has no marks, and
    the links are those that can be read."""
    entries = _ENTRY.findall(tree, 0, _end(tree))
    links = {entry[-20:] for entry in entries if entry.startswith(_USUAL) or _NO_SUBMODULE.match(entry)}
    marks, end = bytearray(len(tree) + 1), 0
    for end in accumulate(map(len, entries), initial=0):
        marks[end] = 1
    return links, marks if end == len(tree) else None


def links_of_large(tree: mmap.mmap) -> Iterator[set[bytes]]:
    """The names that a tree links to, some at a time."""
    links: set[bytes] = set()
    for entry in _ENTRY.finditer(tree, 0, _end(tree)):
        if _NO_SUBMODULE.match(entry[0]):
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
            if tree.startswith(_USUAL, here) or _NO_SUBMODULE.match(tree, here):
                links.add(tree[end + 1 : end + 21])
            marks[here] = 1
            here = end + 21
    if here != len(tree):
        return None, None
    marks[here] = 1
    return links, marks
