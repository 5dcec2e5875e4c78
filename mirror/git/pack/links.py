"""The objects that commits, tags and trees link to.

Most trees of a pack are deltas: some bytes copied from another tree, some new. An entry that lies wholly in
copied bytes, and begins where an entry of the other tree begins, is that entry: its link was found when the
other tree was read. So only entries that touch new bytes are read.
"""

from __future__ import annotations

import mmap
import re
from binascii import unhexlify
from collections.abc import Iterator
from itertools import accumulate

from mirror.git.objects import COMMIT, COMMIT_LINKS, TAG, TAG_LINK, TREE
from mirror.git.pack.delta import copy_operands
from mirror.git.pack.format import Buffer

# C git reads a mode as an octal number and heeds the bits of the type: any digits may precede them. The
# modes that git itself writes are tried first.
_FOLDER = rb"40000 |(?=(?:[0-7]*[0246])?4[0-7]{4} )"
_FILE = rb"100644 |100755 |120000 |(?=[0-7]*[1357][02][0-7]{4} )|(?![0-7]+ )"  # a symlink, or no mode, too
# Anything else is a submodule to C git, which names a commit of another repository.
_NO_SUBMODULE = re.compile(rb"%s|%s" % (_FILE, _FOLDER))
_USUAL = (b"100644 ", b"40000 ", b"100755 ", b"120000 ")  # faster than the pattern
_REST = rb"[^\0]+\0"
_ENTRY = re.compile(_REST + rb".{20}", re.DOTALL)
_LINK = re.compile(rb"(?:100644 |40000 |%s|%s)%s(.{20})|%s.{20}" % (_FILE, _FOLDER, _REST, _REST), re.DOTALL)
_BY_TYPE = re.compile(
    rb"(?:%s)%s(.{20})|(?:%s)%s(.{20})|%s.{20}" % (_FILE, _REST, _FOLDER, _REST, _REST), re.DOTALL
)
# In trees above this size the end of the last entry is looked for first; see `_end`.
_SHORT = 2048
LINKS_PER_BATCH = 10_000

# Where the entries of a tree begin and the last one ends: one byte for each byte of the tree and one more,
# nonzero there. A delta copies these flags from the base's as it copies the bytes of the tree.
EntryOffsets = bytearray


def links_of(type_num: int, content: Buffer) -> set[bytes]:
    """The ids (20 bytes each) of the objects that an object needs. Trees must be in memory."""
    if type_num == TREE:
        assert isinstance(content, bytes)
        return tree_links(content)
    if type_num == COMMIT and (found := COMMIT_LINKS.match(content)):
        parents = found[2].split()[1::2]
        return set(map(unhexlify, (found[1], *parents)))
    if type_num == TAG and (found := TAG_LINK.match(content)):
        return {unhexlify(found[1])}
    return set()


def _end(tree: Buffer) -> int:
    """Where the last entry ends at the latest: malformed bytes after it are searched only once."""
    return tree.rfind(b"\0", 0, max(0, len(tree) - 20)) + 21


def tree_link_list(tree: bytes) -> list[bytes]:
    """The ids that a tree links to, 20 bytes each, in its order; empty ones stand for submodules. Of a
    malformed tree, those that can be read."""
    return _LINK.findall(tree, 0, _end(tree) if len(tree) > _SHORT else len(tree))


def tree_links(tree: bytes) -> set[bytes]:
    """As `tree_link_list`, each once, without submodules."""
    links = set(tree_link_list(tree))
    links.discard(b"")
    return links


def files_and_folders(tree: bytes) -> list[tuple[bytes, bytes]]:
    """For each entry of a tree the id that it links to: as a file or symbolic link, or as a folder. The other
    one of the pair is empty; both are for a submodule."""
    return _BY_TYPE.findall(tree, 0, _end(tree))


def links_and_offsets(tree: bytes) -> tuple[set[bytes], EntryOffsets | None]:
    """The ids that a tree links to, and where its entries begin; None where the tree is malformed: then the
    links are those that can be read."""
    entries = _ENTRY.findall(tree, 0, _end(tree))
    links = {entry[-20:] for entry in entries if entry.startswith(_USUAL) or _NO_SUBMODULE.match(entry)}
    offsets, end = bytearray(len(tree) + 1), 0
    for end in accumulate(map(len, entries), initial=0):
        offsets[end] = 1
    return links, offsets if end == len(tree) else None


def tree_links_in_batches(tree: mmap.mmap) -> Iterator[set[bytes]]:
    """The ids that a large tree links to, up to LINKS_PER_BATCH at a time."""
    links: set[bytes] = set()
    for entry in _ENTRY.finditer(tree, 0, _end(tree)):
        if _NO_SUBMODULE.match(entry[0]):
            links.add(entry[0][-20:])
            if len(links) == LINKS_PER_BATCH:
                yield links
                links = set()
    yield links


def new_links_and_offsets(
    tree: bytes, delta: Buffer, at: int, base: EntryOffsets
) -> tuple[set[bytes], EntryOffsets] | tuple[None, None]:
    """The ids that `tree` links to from entries that are not entries of its delta base, and where its entries
    begin.

    `delta`, with its instructions from `at` on, made `tree` from a tree whose entries begin at `base`.
    Returns None for both where `tree` is malformed.
    """
    links: set[bytes] = set()
    offsets = bytearray(len(tree) + 1)
    find, end_of_delta = tree.find, len(delta)
    here = stop = 0  # where the next entry begins; where the bytes that were instructed so far end
    while at < end_of_delta:
        code = delta[at]
        at += 1
        if code < 0x80:
            at += code
            stop += code
        else:
            source, size, at = copy_operands(delta, code, at)
            shift = source - stop  # from here to the same bytes in the base
            source += size
            stop += size
        while here < stop:
            if code >= 0x80 and base[here + shift]:
                last = base.rfind(1, here + shift + 1, source + 1)
                if last > 0:
                    offsets[here : last - shift] = base[here + shift : last]
                    here = last - shift
                    continue
            end = find(b"\0", here)
            if end <= here:
                return None, None
            if tree.startswith(_USUAL, here) or _NO_SUBMODULE.match(tree, here):
                links.add(tree[end + 1 : end + 21])
            offsets[here] = 1
            here = end + 21
    if here != len(tree):
        return None, None
    offsets[here] = 1
    return links, offsets
