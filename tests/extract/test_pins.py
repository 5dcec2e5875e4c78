"""Heads of pull requests, and other values that only the mirror has, come back under names that git keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror import browse, restore
from mirror.model import Head, Refs, Selector
from tests.extract.made import LFS_OBJECT, Made, blob, commit, pointer_to, sha256, tree
from tests.git.backend import git

pytestmark = pytest.mark.git
API = Selector("acme", "api")


@pytest.mark.parametrize("way", ["restore", "export"])
async def test_pins_come_back_and_a_gc_keeps_them(made: Made, tmp_path: Path, way: str) -> None:
    code = (await made.add("api", 1)).path / "code.git"
    main = git("rev-parse", "refs/heads/main", cwd=code).strip()
    pin = commit(code, tree(code, (b"100644", b"a.bin", blob(code, pointer_to(LFS_OBJECT)))))
    foreign = commit(code, tree(code), message="below refs/mirror/ upstream")
    git("update-ref", f"refs/mirror/keep/{foreign}", foreign, cwd=code)
    refs = Refs(
        {b"refs/heads/main": main, b"refs/mirror/theirs": foreign}, Head("symref", b"refs/heads/main")
    )
    await made.add("api", 1, pins={12: pin}, head=refs, lfs=True)
    target = tmp_path / "back"
    if way == "restore":
        report = await restore.run(made.path, API, target=str(target))
        assert (report.exit_code, report.items[0].lfs_objects, report.items[0].refs) == (0, 1, 2)
    else:
        [found] = browse.export(made.path, API, target)
        assert found.problems == ()
    repository = target / ("code.git" if way == "restore" else "code")
    git("reflog", "expire", "--expire=now", "--all", cwd=repository)
    git("gc", "-q", "--prune=now", cwd=repository)
    assert git("rev-parse", "refs/mirror/pull-requests/12/from", cwd=repository).strip() == pin
    assert git("cat-file", "-t", foreign, cwd=repository).strip() == "commit"
    assert [one for one in repository.rglob(sha256(LFS_OBJECT)) if one.read_bytes() == LFS_OBJECT]
    # They are not hidden: a fetch that names them gets them.
    assert f"{pin}\trefs/mirror/pull-requests/12/from" in git("ls-remote", str(repository))


async def test_the_lfs_objects_of_a_detached_head_come_back(made: Made, tmp_path: Path) -> None:
    code = (await made.add("api", 1)).path / "code.git"
    tip = commit(code, tree(code, (b"100644", b"a.bin", blob(code, pointer_to(LFS_OBJECT)))))
    git("update-ref", f"refs/mirror/keep/{tip}", tip, cwd=code)
    main = git("rev-parse", "refs/heads/main", cwd=code).strip()
    refs = Refs({b"refs/heads/main": main}, Head("detached", tip.encode()))
    await made.add("api", 1, head=refs, lfs=True)
    report = await restore.run(made.path, API, target=str(tmp_path / "back"))
    assert (report.exit_code, report.items[0].lfs_objects) == (0, 1)
    assert git("rev-parse", "HEAD", cwd=tmp_path / "back" / "code.git").strip() == tip
