"""Refs in packed-refs: read and written in one pass, with every name checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from dulwich.refs import check_ref_format
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mirror.git import bare
from mirror.git.refs import name_fault, packed_fault, read_packed, read_refs, write_packed
from mirror.model import Head
from tests.git.backend import git, need_git

VALUE = "0123456789abcdef0123456789abcdef01234567"
PIECES = st.sampled_from(
    [b"a", b"Z9", b"/", b".", b"..", b".lock", b".lockx", b"@", b"@{", b"-", b"+", b"_", b" ", b"~", b"\\",
     b":", b"\xff", b"\xc3\xa9", b"\x7f", b"\x01", b"*", b"[", b"heads", b"x.y"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=8).map(b"".join))
@settings(max_examples=400, deadline=None, derandomize=True)
@example(b"heads/a.")
@example(b"heads/a./b")
@example(b"heads/.a")
@example(b"heads/a.lock/b")
def test_the_quick_look_at_a_name_says_what_the_long_one_says(rest: bytes) -> None:
    name = b"refs/" + rest
    assert (name_fault(name) is None) == check_ref_format(name)  # type: ignore[arg-type]


@given(st.dictionaries(PIECES.filter(lambda one: not name_fault(b"refs/" + one)), st.booleans()))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, names: dict[bytes, bool]) -> None:
    path = tmp_path_factory.mktemp("m")
    bare.create(path)
    refs = {b"refs/" + name: VALUE for name in names}
    peeled = {b"refs/" + name: "f" * 40 for name, is_tag in names.items() if is_tag}
    write_packed(path, refs, peeled, Head("symref", b"refs/heads/main"))
    assert read_packed(path) == (refs, peeled)
    assert packed_fault(path) is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"# head\n" + VALUE.encode() + b" refs/heads/a\nnonsense\n", 3),
        (VALUE.encode()[:39] + b" refs/heads/a\n", 1),
        (VALUE.upper().encode() + b" refs/heads/a\n", 1),
        (VALUE.encode() + b" refs/heads/a\n^" + VALUE.encode()[:20] + b"\n", 2),
        (b"^" + VALUE.encode() + b"\n", 1),
        (VALUE.encode() + b"\n", 1),
        (b"\0" * 64, 1),
    ],
)
def test_damage_is_named_by_its_line(tmp_path: Path, content: bytes, line: int) -> None:
    (tmp_path / "packed-refs").write_bytes(content)
    with pytest.raises(ValueError, match=f"line {line} is not a ref"):
        read_packed(tmp_path)


def test_names_that_differ_only_in_case_are_two_refs(tmp_path: Path) -> None:
    need_git()
    bare.create(tmp_path)
    made = git("hash-object", "-w", "-t", "tree", "/dev/null", cwd=tmp_path).strip()
    refs = {b"refs/tags/Topic": made, b"refs/tags/topic": made, b"refs/tags/TOPIC/x": made}
    write_packed(tmp_path, refs, {}, None)
    assert read_refs(tmp_path).refs == refs
    assert set(git("for-each-ref", "--format=%(refname)", cwd=tmp_path).split()) == {
        name.decode() for name in refs
    }
