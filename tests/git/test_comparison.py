"""What lies between two commits, held against C git."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.git import bare, comparison
from mirror.git.comparison import Comparer, FileChange
from mirror.git.difference import Allowance, diff_hunks
from mirror.git.failures import GitFailed
from tests.extract.made import blob, commit, tree
from tests.git.backend import git, need_git

pytestmark = pytest.mark.git
LINES = st.lists(st.sampled_from("abcde"), max_size=40)


@given(LINES, LINES)
def test_hunks_turn_the_old_lines_into_the_new(old: list[str], new: list[str]) -> None:
    made, at = [], 0
    for hunk in diff_hunks(old, new):
        first = next((line.old - 1 for line in hunk if line.old), at)
        made += old[at:first]
        at = first
        signs = [line.sign for line in hunk]
        assert set(signs) & {"+", "-"}
        assert len(signs) - len("".join(signs).lstrip()) <= 3
        assert len(signs) - len("".join(signs).rstrip()) <= 3
        for line in hunk:
            assert line.old is None or (old[line.old - 1] == line.text and line.old == at + 1)
            assert line.new is None or new[line.new - 1] == line.text
            at += line.old is not None
            made += [line.text] if line.new is not None else []
    assert made + old[at:] == new


def test_very_different_long_files_are_replaced_whole() -> None:
    old, new = [f"old {n}" for n in range(5000)], [f"new {n}" for n in range(5000)]
    [hunk] = diff_hunks(old, new)
    assert [line.text for line in hunk] == old + new


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    need_git()
    path = tmp_path / "code.git"
    bare.create(path)
    return path


def merge_bases(mirror: Path, one: str, other: str) -> list[str]:
    done = subprocess.run(
        ["git", "merge-base", "--all", one, other], cwd=mirror, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1)
    return done.stdout.split()


def test_commits_and_merge_base_are_those_of_git(mirror: Path) -> None:
    """Over random histories with merges, every pair of commits."""
    chance = random.Random(7)
    top = tree(mirror, (b"100644", b"a", blob(mirror, b"a\n")))
    made: list[str] = []
    for number in range(24):
        parents = chance.sample(made[-6:], min(len(made), chance.choice([1, 1, 2])))
        made.append(commit(mirror, top, *parents, message=f"{number}"))
    with Comparer(mirror) as comparer:
        for base in made[::3]:
            for head in made[::4]:
                found = comparer.commits(base, head)
                own = git("rev-list", f"{base}..{head}", cwd=mirror).split()
                assert {one.id for one in found.commits} == set(own)
                bases = merge_bases(mirror, base, head)
                assert found.merge_base in bases or (found.merge_base is None and not bases)
                for at, one in enumerate(found.commits):
                    assert not {later.id for later in found.commits[:at]} & set(one.parents)


def test_histories_that_share_nothing_and_walks_that_are_too_long(mirror: Path) -> None:
    top = tree(mirror, (b"100644", b"a", blob(mirror, b"a\n")))
    one, other = commit(mirror, top, message="1"), commit(mirror, top, message="2")
    last = one
    for number in range(20):
        last = commit(mirror, top, last, message=f"n{number}")
    with Comparer(mirror) as comparer:
        assert comparer.commits(one, other).merge_base is None
        assert comparer.commits(one, last, walk_max=3).merge_base is None
        limited = comparer.commits(one, last, limit=5)
        assert len(limited.commits) == 5 and limited.more


def test_files_that_differ(mirror: Path) -> None:
    text, binary = blob(mirror, b"one\ntwo\n"), blob(mirror, b"\0\1")
    inner = tree(mirror, (b"100644", b"moved", text))
    old = commit(mirror, tree(
        mirror, (b"100644", b"binary", binary), (b"40000", b"folder", inner),
        (b"100644", b"gone", blob(mirror, b"x")), (b"100644", b"same", text),
    ))  # fmt: skip
    new = commit(mirror, tree(
        mirror, (b"100644", b"binary", blob(mirror, b"\0\2")), (b"100644", b"elsewhere", text),
        (b"100644", b"large", blob(mirror, b"y" * 600_000)),
        (b"100644", b"name-\xff", blob(mirror, b"\xff\n")),
        (b"100644", b"same", blob(mirror, b"one\nzwei\n")), (b"160000", b"sub", "1" * 40),
    ), old)  # fmt: skip
    with Comparer(mirror) as comparer:
        found = {one.path: one for one in comparer.changes(old, new).files}
        assert set(found) == {"binary", "elsewhere", "gone", "large", "name-\udcff", "same", "sub"}
        assert found["binary"].omitted == "a binary file"
        assert found["elsewhere"] == FileChange("folder/moved", "elsewhere", "renamed")
        assert (found["gone"].kind, found["gone"].new_path) == ("removed", "")
        assert "too large" in found["large"].omitted
        assert "submodule" in found["sub"].omitted
        assert [(line.sign, line.text) for line in found["same"].hunks[0]] == [
            (" ", "one"), ("-", "two"), ("+", "zwei"),
        ]  # fmt: skip
        limited = comparer.changes(old, new, files_max=2)
        assert len(limited.files) == 2 and limited.more == 5
        assert comparer.lines(old, "folder/moved") == ["one", "two"]
        assert comparer.lines(old, "folder") is None and comparer.lines(old, "../x") is None
        assert comparer.lines(new, "binary") is None
        assert comparer.resolve(new[:12]) == new and comparer.resolve("0" * 12) is None
        assert comparer.resolve(text) is None, "it is no commit"


def test_damaged_and_missing_objects_are_as_if_they_were_not_there(mirror: Path) -> None:
    lost = "2" * 40
    found = commit(mirror, tree(mirror, (b"100644", b"a", lost)))
    with Comparer(mirror) as comparer:
        assert comparer.commit(lost) is None
        [change] = comparer.changes(None, found).files
        assert change.omitted == "its content is not held"


def test_a_missing_tree_is_not_taken_for_an_empty_one(mirror: Path) -> None:
    there = commit(mirror, tree(mirror, (b"100644", b"a", blob(mirror, b"a\n"))))
    lacking = commit(mirror, tree(mirror, (b"40000", b"folder", "2" * 40)))
    with Comparer(mirror) as comparer:
        for pair in ((there, lacking), (lacking, there), (None, lacking)):
            with pytest.raises(GitFailed, match="2222 is missing"):
                comparer.changes(*pair)
        assert comparer.lines(lacking, "folder/a") is None


def _raw_commit(mirror: Path, header: bytes, message: bytes = b"caf\xc3\xa9") -> str:
    data = b"tree " + tree(mirror).encode() + b"\n" + header + b"\n\n" + message
    words = ("hash-object", "-t", "commit", "-w", "--literally", "--stdin")
    return git(*words, cwd=mirror, stdin=data).strip()


AUTHOR = b"author Ada <ada@example.org> 1700000000 +0000"


@pytest.mark.parametrize(
    ("header", "author", "time"),
    [
        (AUTHOR, "Ada", 1700000000),
        (b"author Ada <x> <ada@example.org> 17 +0000", "Ada <x>", 17),
        (b"author Ada <ada@example.org> -17 +0000", "Ada", -17),
        (b"author Ada <ada@example.org> " + b"9" * 5000 + b" +0000", "", 0),
        (b"author Ada 17 +0000", "", 0),
        # A pattern that tries each of these twice would need hours.
        (b"author " + b" <" * 500_000, "", 0),
        *(
            (AUTHOR + b"\nencoding " + name, "Ada", 1700000000)
            for name in (b"idna", b"punycode", b"a\0b", b"zlib", b"undefined", b"unicode_escape", b"x" * 99)
        ),
    ],
)
def test_odd_headers_of_commits_are_read(mirror: Path, header: bytes, author: str, time: int) -> None:
    with Comparer(mirror) as comparer:
        found = comparer.commit(_raw_commit(mirror, header))
    assert found is not None
    assert (found.author, found.time, found.message) == (author, time, "café")


@pytest.mark.parametrize("has_files", [True, False])
def test_trees_that_stand_for_billions_are_looked_at_in_part(
    mirror: Path, has_files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "ENTRIES_MAX", 1000)
    top = tree(mirror, *([(b"100644", b"file", blob(mirror, b"x"))] if has_files else []))
    for _ in range(12):
        top = tree(mirror, *((b"40000", b"%02d" % number, top) for number in range(20)))
    with Comparer(mirror) as comparer:
        found = comparer.changes(None, commit(mirror, top), files_max=10)
    assert found.is_cut
    assert len(found.files) == (10 if has_files else 0)
    assert len(found.files) + found.more <= 1000


def test_once_many_lines_were_compared_files_are_replaced_whole() -> None:
    pairs = Allowance(9)
    old, new = ["a", "b", "a"], ["b", "a", "b"]
    assert sum(line.sign == " " for [*hunk] in diff_hunks(old, new, pairs=pairs) for line in hunk) == 2
    assert [line.text for [*hunk] in diff_hunks(old, new, pairs=pairs) for line in hunk] == old + new
    assert pairs.is_spent


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_size_of_an_object_is_known_before_it_is_read(mirror: Path, is_packed: bool) -> None:
    several = [b"", b"x" * 70, b"line\n" * 50_000, b"line\n" * 50_000 + b"more", b"0123456789" * 40_000]
    names = [blob(mirror, data) for data in several]
    one = commit(mirror, tree(mirror, *((b"100644", name.encode(), name) for name in names)))
    git("update-ref", "refs/heads/main", one, cwd=mirror)
    if is_packed:
        git("repack", "-adqf", cwd=mirror)
    with Comparer(mirror) as comparer:
        for name, data in zip(names, several, strict=True):
            size = comparer.size(name)
            assert size is not None
            assert len(data) <= size <= len(data) + 10, "of a delta, its base counts too"
        assert comparer.size("0" * 40) is None


def test_a_file_that_takes_too_much_memory_is_not_read(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "READ_MAX", 999)
    file = blob(mirror, b"x" * 1000)
    one = commit(mirror, tree(mirror, (b"100644", b"file", file)))
    with Comparer(mirror) as comparer:
        (mirror / "objects" / file[:2] / file[2:]).touch()
        [change] = comparer.changes(None, one).files
    assert change.omitted == "it takes 1,000 bytes, too many to show"
