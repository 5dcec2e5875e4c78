"""A restore to any git host, or to a folder, equals the snapshot ref for ref, with pins, former values and
LFS objects. C git and git-lfs are the second opinion."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mirror import restore
from mirror.errors import UsageError
from mirror.model import Head, Refs, Selector
from mirror.restore import Item, Report
from tests.extract.made import LFS_OBJECT, Made, blob, commit, pointer_to, sha256, tree
from tests.git.backend import GitBackend, git, need_git
from tests.git.lfs_server import LfsServer
from tests.store.helpers import MovedClock

pytestmark = pytest.mark.git
API = Selector("acme", "api")


@dataclass
class World:
    """A store with the repositories `api` and `web`, and a git host for them. `api` was rewritten: `first` is
    the first snapshot, and `old` has the hashes that only it names."""

    made: Made
    backend: GitBackend
    lfs: LfsServer
    refs: dict[bytes, str]
    pin: str
    old: dict[str, str]
    first: str = ""

    def host(self, name: str) -> Path:
        """A new empty repository of the host."""
        path = self.backend.root / name
        git("init", "-q", "--bare", "-b", "main", str(path))
        self.lfs.order.clear()
        return path

    async def push(self, name: str, **options: Any) -> Item:
        report = await self.restore(API, target=f"{self.backend.url}/{name}", **options)
        [item] = report.items
        return item

    async def restore(self, selector: Selector = API, **options: Any) -> Report:
        return await restore.run(self.made.path, selector, environment=os.environ, **options)


async def fill(made: Made) -> tuple[dict[bytes, str], str, dict[str, str]]:
    """Make the repositories and their snapshots; returns the refs of `api`, its pin, and its old values."""
    code = (await made.add("api", 1)).path / "code.git"
    base = git("rev-parse", "refs/heads/main", cwd=code).strip()
    top = tree(code, (b"100644", b"a.bin", blob(code, pointer_to(LFS_OBJECT))))
    rewritten = commit(code, top, base, message="rewritten later")
    tag_text = f"object {base}\ntype commit\ntag v0\ntagger A <a@b.c> 0 +0000\n\nremoved later\n".encode()
    removed = git("hash-object", "-t", "tag", "-w", "--stdin", cwd=code, stdin=tag_text).strip()
    before = {b"refs/heads/main": rewritten, b"refs/heads/slow": base, b"refs/tags/v0": removed}
    await made.add("api", 1, head=Refs(before, Head("symref", b"refs/heads/main")))
    main = commit(code, top, base, message="the new main")
    refs = {b"refs/heads/main": main, b"refs/heads/slow": main, "refs/tags/caf\xe9".encode(): base}
    pin = commit(code, top, base, message="a pull request")
    await made.add("api", 1, refs=refs, pins={12: pin}, head=Refs(refs, Head("symref", b"refs/heads/main")),
                   lfs=True)  # fmt: skip
    await made.add("web", 2)
    return refs, pin, {"heads/main": rewritten, "tags/v0": removed}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_git()
    made = Made(tmp_path_factory.mktemp("host") / "store", MovedClock())
    refs, pin, old = asyncio.run(fill(made))
    with GitBackend(tmp_path_factory.mktemp("root")) as backend:
        backend.instead = lfs = LfsServer(backend.root)
        found = World(made, backend, lfs, refs, pin, old)
        found.first = made.folder("api").metadata.snapshots()[1].id
        yield found


def listed(where: str) -> dict[bytes, str]:
    """What `git ls-remote` lists, without HEAD."""
    lines = git("ls-remote", where).encode("utf-8", "surrogateescape").splitlines()
    return {name: value.decode() for value, _, name in (line.partition(b"\t") for line in lines)
            if name != b"HEAD" and not name.endswith(b"^{}")}  # fmt: skip


def check_objects(bare: Path) -> None:
    """C git finds every object, and git-lfs the objects of its own."""
    assert git("fsck", "--full", "--no-dangling", cwd=bare) == ""
    git("lfs", "fsck", cwd=bare)
    oid = sha256(LFS_OBJECT)
    assert (bare / "lfs/objects" / oid[:2] / oid[2:4] / oid).read_bytes() == LFS_OBJECT


async def test_a_host_gets_every_ref_and_pin_and_former_value_after_the_objects(world: World) -> None:
    bare = world.host("all.git")
    item = await world.push("all.git", archive="refs/heads/archive/")
    assert (item.problems, item.refs, item.archived, item.lfs_objects) == ((), 6, 3, 1)
    first = world.first
    assert listed(f"{world.backend.url}/all.git") == world.refs | {
        b"refs/heads/archive/pull-requests/12": world.pin,
        f"refs/heads/archive/snapshots/{first}/heads/main".encode(): world.old["heads/main"],
        f"refs/tags/archive/snapshots/{first}/tags/v0".encode(): world.old["tags/v0"],
    }
    check_objects(bare)
    assert world.lfs.order[0] == "object" and "object" not in world.lfs.order[1:]
    # Whoever clones it with git-lfs gets the content.
    git("clone", "-q", f"{world.backend.url}/all.git", str(bare.parent / "clone"))
    git("lfs", "fetch", "--all", cwd=bare.parent / "clone")
    [found] = (bare.parent / "clone" / ".git/lfs/objects").rglob(sha256(LFS_OBJECT))
    assert found.read_bytes() == LFS_OBJECT


async def test_a_host_for_other_refs_gets_them_there_and_an_older_snapshot_lacks_them(world: World) -> None:
    world.host("other.git")
    item = await world.push("other.git", archive="refs/archive", at=world.first)
    assert (item.problems, item.archived) == ((), 0)
    world.host("newer.git")
    item = await world.push("newer.git", archive="refs/archive", refs=["refs/tags/*"])
    assert item.problems == ()
    assert {
        name for name in listed(f"{world.backend.url}/newer.git") if name.startswith(b"refs/archive")
    } == {
        b"refs/archive/pull-requests/12",
        f"refs/archive/snapshots/{world.first}/heads/main".encode(),
        f"refs/archive/snapshots/{world.first}/tags/v0".encode(),
    }


@pytest.mark.parametrize(
    "prefix",
    ["archive", "refs", "refs/heads", "refs/heads/main", "refs/mirror/x", "refs/a..b", "refs/heads/"],
)
async def test_a_prefix_that_would_meet_other_refs_is_refused(world: World, prefix: str) -> None:
    world.host(f"{prefix.replace('/', '-')}.git")
    with pytest.raises(UsageError, match="--with-archive"):
        await world.push(f"{prefix.replace('/', '-')}.git", archive=prefix)
    assert world.lfs.order == []


async def test_a_folder_equals_the_snapshot(world: World, tmp_path: Path) -> None:
    report = await world.restore(target=str(tmp_path / "back"))
    assert report.exit_code == 0
    pins = {b"refs/mirror/pull-requests/12/from": world.pin}
    assert listed(str(tmp_path / "back/code.git")) == world.refs | pins
    check_objects(tmp_path / "back/code.git")


async def test_a_folder_can_have_some_refs_only(world: World, tmp_path: Path) -> None:
    async def chosen(*globs: str) -> tuple[dict[bytes, str], str]:
        target = tmp_path / globs[0].replace("/", "-").replace("*", "all")
        assert (await world.restore(target=str(target), refs=globs)).exit_code == 0
        code = target / "code.git"
        told = git("fsck", "--full", "--no-dangling", cwd=code)
        assert told == "" or "unborn branch (main)" in told
        return listed(str(code)), git("symbolic-ref", "HEAD", cwd=code).strip()

    main = world.refs[b"refs/heads/main"]
    assert await chosen("refs/heads/slow") == ({b"refs/heads/slow": main}, "refs/heads/slow")
    assert await chosen("refs/heads/*") == (
        {b"refs/heads/main": main, b"refs/heads/slow": main}, "refs/heads/main",
    )  # fmt: skip
    pin = "refs/mirror/pull-requests/12/from"
    assert await chosen(pin) == ({pin.encode(): world.pin}, "refs/heads/main")
    with pytest.raises(UsageError, match="no ref of such a name"):
        await world.restore(target=str(tmp_path / "none"), refs=["refs/heads/none"])
    with pytest.raises(UsageError, match="target is a folder"):
        await world.restore(target=str(tmp_path / "none"), archive="refs/archive")
    assert not (tmp_path / "none").exists()
    # Of several repositories, those without such a ref are named.
    report = await world.restore(Selector("acme"), target=str(tmp_path / "two"), refs=["refs/heads/slow"])
    assert [(one.repository, one.is_there) for one in report.items[:2]] == [
        ("acme/api", True), ("acme/web", False),
    ]  # fmt: skip
    assert report.exit_code == 3
    assert listed(str(tmp_path / "two/acme/api/code.git")) == {b"refs/heads/slow": main}


async def test_several_repositories_go_to_a_host_each_to_its_own(world: World) -> None:
    for name in ("acme-api.git", "acme-web.git"):
        world.host(name)
    url = f"{world.backend.url}/{{workspace}}-{{repository}}.git"
    report = await world.restore(Selector("acme"), target=url)
    assert report.exit_code == 0 and len(report.items) == 2, report.to_json()
    assert listed(f"{world.backend.url}/acme-api.git") == world.refs
    assert set(listed(f"{world.backend.url}/acme-web.git")) == {b"refs/heads/main"}
    with pytest.raises(UsageError, match="a URL can take one"):
        await world.restore(Selector("acme"), target=f"{world.backend.url}/acme.git")
