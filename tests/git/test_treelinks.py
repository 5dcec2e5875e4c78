"""Mirror finds the links of a tree without reading copied parts, whatever the delta copies and from where."""

from __future__ import annotations

import mmap
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.git.objects import TREE
from mirror.git.pack.delta import DELTA_BYTES_MIN, apply_delta_in_pieces, delta_sizes
from mirror.git.pack.links import (
    LINKS_PER_BATCH,
    EntryOffsets,
    files_and_folders,
    links_and_offsets,
    links_of,
    new_links_and_offsets,
    tree_links,
    tree_links_in_batches,
)
from tests.git.backend import git, need_git
from tests.git.crafted import copy, delta, insert

# Values with few different bytes, some of which look like parts of entries: so bytes copied from the middle
# of an entry make other entries, and the same values repeat.
PARTS = [b"100644 a\0", b"160000 m\0", b"0160000 z\0", b"40000 d\0", b"\0", b"1", b"160000 ", b"\xff" * 7]

# As git writes them, with leading zeros, and with other bits than git uses; some have no valid type.
USUAL = [b"100644", b"100755", b"120000", b"40000", b"160000"]
ODD = [
    b"0160000",
    b"00160000",
    b"160644",
    b"1160000",
    b"040000",
    b"0040755",
    b"240000",
    b"100664",
    b"0120777",
]
NO_TYPE = [b"0", b"644", b"60000", b"20000", b"140000", b"170000", b"130000", b"110000", b"10000"]
MODES = USUAL * 3 + ODD + NO_TYPE + [b"8160000"]
_MODE = re.compile(rb"([0-7]+) ")


def is_submodule(entry: bytes) -> bool:
    """How C git reads a mode: everything that is no file, symbolic link or folder is a submodule."""
    mode = _MODE.match(entry)
    return mode is not None and int(mode[1], 8) & 0o170000 not in (0o100000, 0o120000, 0o040000)


def value(rng: random.Random) -> bytes:
    out = b""
    while len(out) < 20:
        out += rng.choice(PARTS)
    return out[:20]


def entry(rng: random.Random) -> bytes:
    mode = rng.choice(MODES)
    return mode + b" " + b"n" * rng.randrange(1, 30) + b"\0" + value(rng)


def a_tree(rng: random.Random, most: int) -> bytes:
    return b"".join(entry(rng) for _ in range(rng.randrange(most)))


def read_plainly(tree: bytes) -> tuple[set[bytes], list[int]] | None:
    """Links and marks of a well-formed tree, entry by entry; None for others."""
    links, marks, at = set(), [0], 0
    while at < len(tree):
        found = re.compile(rb"([^\0]+)\0(.{20})", re.DOTALL).match(tree, at)
        if found is None:
            return None
        if not is_submodule(found[1]):
            links.add(found[2])
        at = found.end()
        marks.append(at)
    return links, marks


def a_delta(rng: random.Random, base: bytes) -> bytes:
    """A delta that copies parts of `base`, along its entries or across them, and inserts others."""
    read = read_plainly(base)
    assert read is not None
    marks = read[1]
    size, instructions = 0, []
    for _ in range(rng.randrange(8)):
        kind = rng.randrange(5)
        if kind == 0 or not base:
            new = entry(rng)
        elif kind == 1:
            new = value(rng)[: rng.randrange(1, 21)]
        else:
            begin, end = sorted(rng.choices(marks, k=2))
            if kind == 3:
                begin, end = sorted(rng.choices(range(len(base) + 1), k=2))
            elif kind == 4:
                begin, end = max(0, begin - rng.randrange(25)), min(len(base), end + rng.randrange(25))
            if end > begin:
                instructions.append(copy(begin, end - begin))
                size += end - begin
            continue
        instructions.append(insert(new))
        size += len(new)
    return delta(len(base), size, *instructions)


def places(marks: EntryOffsets) -> list[int]:
    return [at for at, mark in enumerate(marks) if mark]


@given(st.integers(0, 2**64))
@settings(derandomize=True, max_examples=4000, deadline=None)
def test_nothing_new_is_missed_and_nothing_is_made_up(seed: int) -> None:
    rng = random.Random(seed)
    tree = a_tree(rng, 12)
    for _ in range(rng.randrange(1, 5)):  # a chain: the next delta uses the marks found here
        read = read_plainly(tree)
        assert read is not None
        links, marks = links_and_offsets(tree)
        assert marks is not None and (links, places(marks)) == read
        one = a_delta(rng, tree)
        if len(one) < DELTA_BYTES_MIN:
            return  # no delta
        _, size, at = delta_sizes(one, 0)
        result = b"".join(apply_delta_in_pieces(tree, one, at, 0))
        assert len(result) == size
        expected = read_plainly(result)
        found = new_links_and_offsets(result, one, at, marks)
        if expected is None:
            assert found == (None, None)
            assert links_and_offsets(result)[1] is None
            return
        new, new_marks = found
        assert new is not None and new <= expected[0] <= links | new
        assert new_marks is not None and places(new_marks) == expected[1]
        tree = result


@given(st.integers(0, 2**64))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_every_way_to_read_a_whole_tree_finds_the_same(seed: int) -> None:
    """For malformed trees, too."""
    rng = random.Random(seed)
    tree = a_tree(rng, 8)[rng.choice([0, 0, 1, 9]) :] or b"x"
    links, _ = links_and_offsets(tree)
    assert links == links_of(TREE, tree)
    rows = files_and_folders(tree)
    assert {one for row in rows for one in row} - {b""} == links
    assert all(b"" in row for row in rows)
    with mmap.mmap(-1, len(tree)) as mapped:
        mapped[:] = tree
        assert set().union(*tree_links_in_batches(mapped)) == links


def test_a_large_tree_is_not_held() -> None:
    """Links of large trees arrive in parts."""
    rng = random.Random(1)
    tree = b"".join(b"100644 f\0" + rng.randbytes(20) for _ in range(3 * LINKS_PER_BATCH))
    with mmap.mmap(-1, len(tree)) as mapped:
        mapped[:] = tree
        some = list(tree_links_in_batches(mapped))
    assert max(map(len, some)) == LINKS_PER_BATCH
    assert set().union(*some) == links_of(TREE, tree)


@pytest.mark.parametrize("begin", [b"1", b"a", b"100644 a", b"40000 1"])
@pytest.mark.parametrize("stop", [b"", b"\0" + b"x" * 19])
def test_a_tree_that_never_comes_to_an_end_is_read_once(begin: bytes, stop: bytes) -> None:
    """Looking for an entry from each of its bytes would take hours."""
    whole = b"100644 a\0" + b"\1" * 20
    tree = whole + begin[:-1] + begin[-1:] * 1_000_000 + stop
    assert tree_links(tree) == {b"\1" * 20}
    assert links_and_offsets(tree) == ({b"\1" * 20}, None)
    assert files_and_folders(tree) == [(b"\1" * 20, b"")]
    with mmap.mmap(-1, len(tree)) as mapped:
        mapped[:] = tree
        assert list(tree_links_in_batches(mapped)) == [{b"\1" * 20}]


@pytest.mark.git
@pytest.mark.parametrize("mode", sorted({*USUAL, *ODD, *NO_TYPE}))
def test_an_entry_is_what_c_git_takes_it_for(tmp_path: Path, mode: bytes) -> None:
    need_git()
    git("init", "-q", "--bare", str(tmp_path))
    name = b"\1" * 20
    tree = mode + b" a\0" + name
    words = ("hash-object", "-w", "--literally", "-t", "tree", "--stdin")
    identifier = git(*words, cwd=tmp_path, stdin=tree).strip()
    kind = git("ls-tree", identifier, cwd=tmp_path).split()[1]
    expected = {"tree": (b"", name), "blob": (name, b""), "commit": (b"", b"")}
    assert files_and_folders(tree) == [expected[kind]]
    # Mirror looks for the links that git needs.
    asked = git("rev-list", "--objects", "--missing=print", identifier, cwd=tmp_path)
    assert links_of(TREE, tree) == ({name} if f"?{name.hex()}" in asked else set())
