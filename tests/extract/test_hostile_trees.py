"""Trees that anybody with push rights can create: an export continues and never writes outside its target."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import pytest

from mirror import browse
from mirror.browse import Exported
from mirror.git.mirrors.worktree import check_out, path_fault
from mirror.model import Head, Refs, Selector
from tests.extract.made import Made, blob, commit, tree
from tests.git.backend import git

pytestmark = pytest.mark.git
FILE, FOLDER, LINK = b"100644", b"40000", b"120000"


async def exported(made: Made, tmp_path: Path, top: str, code: Path) -> tuple[Exported, Path]:
    """Export a repository whose main branch has the tree `top`."""
    tip = commit(code, top)
    await made.add("odd", 7, refs={b"refs/heads/main": tip})
    [found] = browse.export(made.path, Selector("acme", "odd"), tmp_path / "out")
    clone = tmp_path / "out" / "code"
    # The clone itself has everything, whatever the work tree lacks.
    assert git("rev-parse", "HEAD", cwd=clone).strip() == tip
    git("cat-file", "--batch-all-objects", "--batch-check", cwd=clone)
    git("rev-list", "--objects", "--all", cwd=clone)
    return found, clone


async def mirror_of(made: Made) -> Path:
    return (await made.add("odd", 7)).path / "code.git"


NAMES = [
    b".git", b".GIT", b".gIt", b"git~1", b"GIT~1", b".git ", b".git.", b".git...", b".git::$INDEX_ALLOCATION",
    ".g\u200cit".encode(), "\ufeff.git".encode(), b"..", b".", b"../../x", b"/etc/x", b"..\\..\\x",
    b".git\\config", b"a\\.GIT",
]  # fmt: skip


async def test_names_that_lead_elsewhere_are_left_out_and_named(made: Made, tmp_path: Path) -> None:
    code = await mirror_of(made)
    one = blob(code, b"hostile\n")
    inner = tree(code, (FILE, b"config", one))
    bad = [(FOLDER if number % 2 else FILE, name, inner if number % 2 else one)
           for number, name in enumerate(NAMES)]  # fmt: skip
    good = [(FILE, name, one) for name in (b"a\\b", b"plain", b'it\'s "quoted"', b"\xff\xfe", b".gitignore")]
    found, clone = await exported(made, tmp_path, tree(code, *bad, *good), code)
    assert found.is_there and {number for number, _ in found.problems} == {3}
    told = "\n".join(text for _, text in found.problems)
    assert told.count("is not laid out") == len(NAMES)
    assert "hostile" not in (clone / ".git" / "config").read_text()
    there = {os.fsencode(path.name) for path in clone.iterdir()} - {b".git"}
    assert there == {name for _, name, _ in good}
    # The export wrote nothing outside, and git sees the rest unchanged.
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"code", "metadata", "files"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "store"}
    assert git("status", "--porcelain", "--untracked-files=all", "-z", cwd=clone).count("??") == 0
    assert git("diff", "--name-only", cwd=clone) == ""


async def test_links_twins_and_modes_that_nobody_knows(made: Made, tmp_path: Path) -> None:
    code = await mirror_of(made)
    one, outside = blob(code, b"written\n"), blob(code, str(tmp_path / "outside").encode())
    (tmp_path / "outside").mkdir()
    inner = tree(code, (FILE, b"escaped", one))
    top = tree(
        code,
        (LINK, b"door", outside),
        (FOLDER, b"door", inner),
        (LINK, b"nowhere", blob(code, b"a\0b")),
        (FILE, b"twin", one),
        (FILE, b"twin", blob(code, b"another\n")),
        (b"140000", b"socket", one),
        (b"100664", b"group-writable", one),
        (b"100755", b"program", one),
        (b"160000", b"submodule", "1" * 40),
    )
    found, clone = await exported(made, tmp_path, top, code)
    told = "\n".join(text for _, text in found.problems)
    for name in ("door", "nowhere", "twin", "socket"):
        assert f"code/{name} is not laid out" in told, told
    assert {number for number, _ in found.problems} == {3}
    assert list((tmp_path / "outside").iterdir()) == []
    assert (clone / "door").readlink() == tmp_path / "outside"
    assert (clone / "twin").read_bytes() == b"written\n"
    assert list((clone / "submodule").iterdir()) == []
    assert os.access(clone / "program", os.X_OK) and not os.access(clone / "group-writable", os.X_OK)


async def test_folders_without_end(made: Made, tmp_path: Path) -> None:
    code = await mirror_of(made)
    top = tree(code, (FILE, b"bottom", blob(code, b"deep\n")))
    for _ in range(3000):
        data = b"40000 d\0" + bytes.fromhex(top)
        top = loose(code, b"tree", data)
    found, clone = await exported(made, tmp_path, tree(code, (FOLDER, b"d", top),
                                                       (FILE, b"z", blob(code, b"z\n"))), code)  # fmt: skip
    assert found.is_there and {number for number, _ in found.problems} == {3}
    assert "folders or" in found.problems[0][1]
    assert (clone / "z").read_bytes() == b"z\n"


def loose(repository: Path, kind: bytes, data: bytes) -> str:
    """Write a loose object, faster than git does."""
    whole = b"%s %d\0" % (kind, len(data)) + data
    name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    place = repository / "objects" / name[:2] / name[2:]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(zlib.compress(whole))
    return name


async def test_a_bomb_of_trees_is_told_and_ends(made: Made, tmp_path: Path) -> None:
    code = await mirror_of(made)
    top = tree(code, (FILE, b"f", blob(code, b"x")))
    for _ in range(12):
        top = tree(code, *((FOLDER, b"%d" % number, top) for number in range(10)))
    left_out = check_out(code, tmp_path, commit(code, top), paths_max=200)
    assert any("more than 200 files" in one.reason for one in left_out)


async def test_a_detached_head_and_one_at_a_tag_are_laid_out(made: Made, tmp_path: Path) -> None:
    writer = await made.add("odd", 7)
    code = writer.path / "code.git"
    tip = commit(code, tree(code, (FILE, b"loose", blob(code, b"loose end\n"))))
    git("update-ref", f"refs/mirror/keep/{tip}", tip, cwd=code)
    main = git("rev-parse", "refs/heads/main", cwd=code).strip()
    await made.add("odd", 7, head=Refs({b"refs/heads/main": main}, Head("detached", tip.encode())))
    [found] = browse.export(made.path, Selector("acme", "odd"), tmp_path / "out")
    assert found.problems == ()
    assert (tmp_path / "out" / "code" / "loose").read_bytes() == b"loose end\n"
    assert git("status", "--porcelain", cwd=tmp_path / "out" / "code") == ""


@pytest.mark.parametrize("name", NAMES)
def test_what_git_refuses_anywhere_is_refused_here(name: bytes) -> None:
    assert path_fault(name) is not None


@pytest.mark.parametrize("name", [b"git", b".gitmodules", b"...", b"a..b", b"a\\b", b".git2", b"\xff", b" "])
def test_other_names_are_taken(name: bytes) -> None:
    assert path_fault(name) is None
