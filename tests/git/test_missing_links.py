"""Complete packs with objects that link to others which nobody has: Mirror refuses each."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.git.bare import create
from mirror.git.failures import GitFailed
from mirror.git.mirrors.fsck import CheckJob, check
from mirror.git.pack import receiver
from mirror.git.pack.limits import DEFAULT_LIMITS, SPILL_BYTES, PackLimits
from tests.git.backend import git, need_git
from tests.git.crafted import (
    BLOB,
    COMMIT,
    TAG,
    TREE,
    Crafted,
    copy,
    delta,
    files,
    insert,
    name_of,
    receive,
)

pytestmark = pytest.mark.git
WHO = b"A <a@example.org> 1767225600 +0000\n"
TEXT = b"some text\n"
BLOB_NAME = name_of(BLOB, TEXT)
LOST = b"\xaa" * 20
EMPTY = name_of(TREE, b"")


def commit(tree: bytes, *parents: bytes) -> bytes:
    lines = [b"tree %s\n" % tree.hex().encode(), *(b"parent %s\n" % one.hex().encode() for one in parents)]
    return b"".join(lines) + b"author %scommitter %s\nx\n" % (WHO, WHO)


def tag(kind: bytes, of: bytes) -> bytes:
    return b"object %s\ntype %s\ntag t\ntagger %s\nx\n" % (of.hex().encode(), kind, WHO)


def row(name: bytes, value: bytes = BLOB_NAME, mode: bytes = b"100644") -> bytes:
    return mode + b" " + name + b"\0" + value


# The hash of a submodule may be any bytes. Read from here on, the bytes of this hash look like an entry, and
# the first bytes of the next entry complete its link.
HIDDEN = b"100644 evil\0" + b"\xbb" * 8
MISALIGNED = b"\xbb" * 8 + b"100644 abcde"
# Long enough for copied bytes to follow it.
ROWS = [row(b"file-%04d" % n) for n in range(50)]
ROWS += [row(b"module", HIDDEN, b"160000"), row(b"abcde100644 name")]
ROWS += [row(b"more-%04d" % n) for n in range(70)]
ROWS += [row(b"odd", HIDDEN, b"140000")]  # a submodule to C git; without its first byte it is a folder
WIDE = b"".join(ROWS)
PLACES = [sum(map(len, ROWS[:at])) for at in range(len(ROWS) + 1)]


def made_from(*pieces: bytes | tuple[int, int]) -> tuple[bytes, bytes]:
    """The result of new bytes and of ranges (from, to) of WIDE, and the delta that makes it."""
    result, instructions = b"", b""
    for piece in pieces:
        if isinstance(piece, bytes):
            result, instructions = result + piece, instructions + insert(piece)
        else:
            begin, end = piece
            result, instructions = result + WIDE[begin:end], instructions + copy(begin, end - begin)
    return result, delta(len(WIDE), len(result), instructions)


END = len(WIDE)
AT = PLACES[20]
MODULE = PLACES[51] - 20
CHANGES: dict[str, tuple[tuple[bytes | tuple[int, int], ...], bytes]] = {
    "an entry put in": (((0, AT), row(b"file-0019x", LOST), (AT, END)), LOST),
    "an entry at the front": ((row(b"a", LOST), (0, END)), LOST),
    "an entry at the end": (((0, END), row(b"z", LOST)), LOST),
    "two entries put in": (((0, AT), row(b"file-0019x") + row(b"file-0019y", LOST), (AT, END)), LOST),
    "another value": (((0, AT - 20), LOST, (AT, END)), LOST),
    "half of another value": (((0, AT - 10), LOST[:10], (AT, END)), BLOB_NAME[:10] + LOST[:10]),
    "the first half of a value": (((0, AT - 20), LOST[:10], (AT - 10, END)), LOST[:10] + BLOB_NAME[10:]),
    "one byte of a value": (((0, AT - 7), b"!", (AT - 6, END)), BLOB_NAME[:13] + b"!" + BLOB_NAME[14:]),
    "two values that meet": (
        ((0, AT - 5), (PLACES[30] - 20, END)),
        BLOB_NAME[:15] + BLOB_NAME[:5],
    ),
    "a value of parts of two": (
        ((0, AT - 13), (PLACES[40] - 14, PLACES[40] - 7), (PLACES[41] - 6, END)),
        BLOB_NAME[:7] + BLOB_NAME[6:13] + BLOB_NAME[14:],
    ),
    "a submodule that is none any more": (((0, PLACES[50]), b"100644", (PLACES[50] + 6, END)), HIDDEN),
    "a submodule without its first byte": (((0, PLACES[-2]), (PLACES[-2] + 1, END)), HIDDEN),
    "what a submodule hides": (((0, PLACES[50]), (MODULE, END)), MISALIGNED),
    "what a submodule hides, from the first byte": (((MODULE, END),), MISALIGNED),
    "what a submodule hides, copied with what is before": (((0, AT), (MODULE, END)), MISALIGNED),
}


BOUNDS = {
    "as they are": DEFAULT_LIMITS,
    "in files": PackLimits(spill_bytes=300),
    "nothing held": PackLimits(cache_bytes=0),
    "ahead": PackLimits(ahead_min_entries=1, gather_bytes=100),
    "in processes": PackLimits(parallel_min_entries=1, names_per_pass=2),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_a_tree_that_took_over_all_but_an_entry_is_not_taken_at_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, depth: int, bounds: str
) -> None:
    limits = BOUNDS[bounds]
    pieces, lost = CHANGES[change]
    pack = Crafted()
    pack.whole(BLOB, TEXT)
    base = pack.whole(TREE, WIDE)
    for _ in range(depth - 1):  # unchanged, but each is another entry
        base = pack.offset_delta(base, delta(END, END, copy(0, END)))
    result, instructions = made_from(*pieces)
    assert len(result) > DEFAULT_LIMITS.tree_marks_min_bytes
    pack.offset_delta(base, instructions)
    create(tmp_path / "m.git")
    before = files(tmp_path / "m.git")
    with pytest.raises(GitFailed, match=f"left out {lost.hex()}"):
        receive(tmp_path / "m.git", pack.done(), [99] * 200, processes=2, limits=limits)
    assert files(tmp_path / "m.git") == before
    # If the object exists, Mirror accepts the pack.
    filled = Crafted()
    filled.data, filled.count = pack.data, pack.count
    everywhere = {BLOB_NAME, lost}
    _, found = receive_with(tmp_path / "other.git", filled.done(), everywhere, monkeypatch, limits)
    assert found == everywhere


def receive_with(
    path: Path, data: bytes, held: set[bytes], monkeypatch: pytest.MonkeyPatch, limits: PackLimits
) -> tuple[int, set[bytes]]:
    """Receive a pack without a check whether `held` exist; no content can have a chosen hash."""
    monkeypatch.setattr(receiver, "_check_links", lambda *_: None)
    return receive(path, data, processes=2, limits=limits)


WHOLE = {
    "a commit without its tree": [(COMMIT, commit(LOST))],
    "a commit without its parent": [(TREE, b""), (COMMIT, commit(EMPTY, LOST))],
    "a commit without its second parent": [
        (TREE, b""),
        (COMMIT, commit(EMPTY)),
        (COMMIT, commit(EMPTY, name_of(COMMIT, commit(EMPTY)), LOST)),
    ],
    "a tree without its blob": [(TREE, row(b"a", LOST))],
    "a tree without its tree": [(TREE, row(b"a", LOST, b"40000"))],
    "a tree without its tree, with a zero in front": [(TREE, row(b"a", LOST, b"040000"))],
    "a tree without what has odd rights": [(TREE, row(b"a", LOST, b"00100600"))],
    "a commit without its tree, in capitals": [(COMMIT, commit(LOST).replace(b"aa", b"AA"))],
    "a tag without its object, in capitals": [(TAG, tag(b"commit", LOST).replace(b"aa", b"AA"))],
    "a tree without its link": [(TREE, row(b"a", LOST, b"120000"))],
    "a tree without the last of many": [(BLOB, TEXT), (TREE, WIDE + row(b"z", LOST))],
    "a tree without one beside a submodule": [(TREE, row(b"a", b"\1" * 20, b"160000") + row(b"b", LOST))],
    "a tag without its object": [(TAG, tag(b"commit", LOST))],
    "a tag without its tag": [(TAG, tag(b"tag", LOST))],
    "a tag without its blob": [(TAG, tag(b"blob", LOST))],
}


@pytest.mark.parametrize("what", WHOLE)
@pytest.mark.parametrize("large", [SPILL_BYTES, 1])
def test_what_lacks_what_it_names_is_refused(tmp_path: Path, what: str, large: int) -> None:
    pack = Crafted()
    for kind, content in WHOLE[what]:
        pack.whole(kind, content)
    create(tmp_path / "m.git")
    before = files(tmp_path / "m.git")
    with pytest.raises(GitFailed, match=f"left out {LOST.hex()}"):
        receive(tmp_path / "m.git", pack.done(), limits=PackLimits(spill_bytes=large))
    assert files(tmp_path / "m.git") == before


@pytest.mark.parametrize("mode", [b"160000", b"0160000", b"00160000", b"160644", b"1160000", b"60000", b"0"])
def test_the_commit_of_a_submodule_is_nobodys_loss(tmp_path: Path, mode: bytes) -> None:
    """Also with an odd mode, as old tools wrote it: C git reads a number, and treats everything that is no
    file, symbolic link or folder as a submodule."""
    need_git()
    pack = Crafted()
    pack.whole(BLOB, TEXT)
    narrow = row(b"a", b"\1" * 20, mode)
    pack.whole(TREE, narrow)
    last = WIDE + row(b"y", b"\3" * 20, mode)
    wide = pack.whole(TREE, WIDE + row(b"z", b"\2" * 20, mode))
    rest = copy(0, END) + insert(row(b"y", b"\3" * 20, mode))
    pack.offset_delta(
        wide, delta(END + len(row(b"z", b"", mode)) + 20, END + len(rest) - len(copy(0, END)) - 1, rest)
    )
    assert receive(tmp_path / "m.git", pack.done()) == (4, {BLOB_NAME})
    assert "missing" not in git("fsck", cwd=tmp_path / "m.git", check=False)
    named = tuple(name_of(TREE, one).hex() for one in (narrow, last))
    assert check(CheckJob(str(tmp_path / "m.git"), named, in_store=False)).problems == ()
    # Something else is wrong, so that it walks from the named objects.
    (tmp_path / "m.git" / "packed-refs").write_bytes(b"nonsense\n")
    [problem] = check(CheckJob(str(tmp_path / "m.git"), named, in_store=False)).problems
    assert problem.file == "packed-refs"


def test_what_is_there_already_need_not_come_again(tmp_path: Path) -> None:
    first, second = Crafted(), Crafted()
    first.whole(BLOB, TEXT)
    second.whole(TREE, row(b"a"))
    with pytest.raises(GitFailed, match=f"left out {BLOB_NAME.hex()}"):
        receive(tmp_path / "m.git", second.done())
    receive(tmp_path / "m.git", first.done())
    assert receive(tmp_path / "m.git", second.done()) == (1, {BLOB_NAME})


def test_short_trees_are_read_whole() -> None:
    assert len(WIDE) > DEFAULT_LIMITS.tree_marks_min_bytes
