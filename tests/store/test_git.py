"""C git reads the store by itself: nobody needs our program."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mirror.git.documents.repository import Documents
from mirror.model import Head, Refs, loads
from mirror.store.writing.writer import RepositoryWriter
from tests.store.helpers import A, MovedClock, adopt, open_store, take

pytestmark = [
    pytest.mark.git,
    pytest.mark.skipif(shutil.which("git") is None, reason="C git is not installed"),
]
REFS = Refs({b"refs/heads/main": A}, Head("symref", b"refs/heads/main"))
NOBODY = 65534
ANN = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")


def git(*arguments: str | Path, cwd: Path, fails: bool = False, **environment: str) -> str:
    """Run git with its own settings, not this machine's; returns its stdout."""
    done = subprocess.run(
        ["git", *map(str, arguments)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
        | environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def by_hand(script: str, folder: Path) -> None:
    """Run a shell script of the documentation."""
    subprocess.run(["sh", "-e", "-c", script], check=True, cwd=folder, timeout=60)


def as_nobody(command: list[str], folder: Path) -> str:
    """The error output of a command of an unprivileged user; `folder` itself is open to all."""
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    done = subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True
    )
    assert done.returncode != 0
    return done.stderr


async def filled(path: Path) -> RepositoryWriter:
    clock = MovedClock()
    with open_store(path) as store:
        writer = adopt(store)
        for number in range(3):
            await take(writer, {"pull-requests/0/1.json": {"number": number}, "a.json": 1}, clock, refs=REFS)
            clock.move(hours=1)
        async with writer.lock(0, clock):
            draft = writer.draft()
            draft.put("pull-requests/0/2.json", {"number": 2})
            draft.checkpoint()
    return writer


async def test_metadata_is_cloned_straight_from_the_store_and_is_plain_json(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "store")
    git("clone", "-q", writer.path / "metadata.git", "clone", cwd=tmp_path)
    clone = tmp_path / "clone"
    assert loads((clone / "pull-requests/0/1.json").read_bytes()) == {"number": 2}
    assert loads((clone / "refs.json").read_bytes())["code"]["refs"] == {"refs/heads/main": A}
    assert loads((clone / "snapshot.json").read_bytes())["sequence"] == 3
    tags = git("tag", "--sort=refname", cwd=clone).split()
    assert tags == ["20261123T020000Z", "20261123T030000Z", "20261123T040000Z"]
    assert git("log", "--format=%s", cwd=clone).splitlines() == [
        f"acme/website at {tag}" for tag in reversed(tags)
    ]
    assert git("log", "-1", "--format=%b", cwd=clone).startswith("Sequence: 3\nProgram: mirror 0.1.0\n")
    changes = git("log", "-p", "-1", "--", "pull-requests", cwd=clone)
    assert '-  "number": 1\n+  "number": 2\n' in changes
    assert "mirror" not in git("for-each-ref", "--format=%(refname)", cwd=clone)
    assert not (clone / "pull-requests/0/2.json").exists()


async def test_the_documented_way_by_hand_brings_back_the_code_of_a_snapshot(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/store-format.md").read_text()
    script = page.partition("**as it was in a snapshot**")[2].partition("```sh\n")[2].partition("```")[0]
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        code = writer.folder.code
        git("init", "-q", "--bare", "-b", "main", code, cwd=tmp_path)
        tree = git("mktree", cwd=code).strip()
        old = git(*ANN, "commit-tree", "-m", "old", tree, cwd=code).strip()
        new = git(*ANN, "commit-tree", "-m", "new", tree, cwd=code).strip()
        git("update-ref", f"refs/mirror/keep/{old}", old, cwd=code)
        git("update-ref", "refs/heads/main", new, cwd=code)
        refs = {b"refs/heads/main": old, b"refs/heads/side": old, b"refs/notes/odd": old}
        await take(writer, {}, MovedClock(), refs=Refs(refs, Head("symref", b"refs/heads/main")))
    script = script.replace("/tmp/website.git", str(tmp_path / "back.git"))
    script = script.replace("STORE/workspaces/acme~1a2b3c4d/repositories/website~5e6f7a8b", str(writer.path))
    by_hand(script, tmp_path)
    listed = git("for-each-ref", "--format=%(refname) %(objectname)", cwd=tmp_path / "back.git")
    assert listed.splitlines() == [f"{name.decode()} {value}" for name, value in sorted(refs.items())]
    assert git("symbolic-ref", "HEAD", cwd=tmp_path / "back.git").strip() == "refs/heads/main"


async def test_git_fsck_has_nothing_to_say(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "store")
    assert git("fsck", "--full", "--strict", "--no-dangling", cwd=writer.path / "metadata.git").strip() == ""
    assert git(
        "for-each-ref", "--format=%(refname)", "refs/mirror", cwd=writer.path / "metadata.git"
    ).split() == ["refs/mirror/work"]


async def test_tidying_by_git_is_harmless(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "store")
    before = writer.folder.metadata.snapshots()
    writer.folder.metadata._opened.close()
    git("gc", "-q", "--prune=now", "--aggressive", cwd=writer.path / "metadata.git")
    clock = MovedClock()
    clock.move(days=1)
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        assert writer.folder.metadata.snapshots() == before
        async with writer.lock(0, clock):
            assert writer.draft().get("pull-requests/0/2.json") == {"number": 2}
        taken = await take(writer, {}, clock, refs=REFS)
        assert taken.snapshot.sequence == 4
    git("fsck", "--full", "--strict", cwd=writer.path / "metadata.git")


async def test_many_snapshots_stay_few_files_and_few_descriptors(tmp_path: Path) -> None:
    clock = MovedClock()
    with open_store(tmp_path / "store") as store:
        writer = adopt(store)
        for number in range(120):
            await take(writer, {"a.json": number, f"d/{number}.json": 0}, clock)
            clock.move(hours=1)
        packs = list((writer.path / "metadata.git/objects/pack").glob("*.pack"))
        assert len(packs) <= 60
        found = writer.folder.metadata.snapshots()
        assert [one.sequence for one in found] == list(range(1, 121))
        assert [writer.folder.metadata.read(one, "a.json") for one in found] == list(range(120))
    git("fsck", "--full", "--strict", cwd=writer.path / "metadata.git")
    with Documents(writer.path / "metadata.git") as documents:
        assert len(documents.tags()) == 120


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a store to another user")
async def test_another_user_reads_it_by_the_documented_way(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "store")
    metadata = writer.path / "metadata.git"
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    # Root may read everything, and git refuses all the same: the owner is another user.
    refusal = git("clone", "-q", metadata, "refused", cwd=tmp_path, fails=True)
    if "dubious ownership" not in refusal:
        pytest.skip("this git does not mind another owner")
    safe = f"safe.directory={metadata}"
    git("-c", safe, "clone", "-q", metadata, "refused", cwd=tmp_path, fails=True)
    git("clone", "-q", f"--upload-pack=git -c {safe} upload-pack", f"file://{metadata}", "one", cwd=tmp_path)
    assert loads((tmp_path / "one/pull-requests/0/1.json").read_bytes()) == {"number": 2}
    show = git("-c", safe, "-C", metadata, "show", "20261123T030000Z:pull-requests/0/1.json", cwd=tmp_path)
    assert loads(show) == {"number": 1}
    (tmp_path / "settings").write_text("[safe]\n\tdirectory = *\n")
    git("clone", "-q", metadata, "two", cwd=tmp_path, GIT_CONFIG_GLOBAL=str(tmp_path / "settings"))
    assert (tmp_path / "two" / "snapshot.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_user_without_permission_reads_nothing(tmp_path: Path) -> None:
    writer = await filled(tmp_path / "store")
    assert "denied" in as_nobody(["ls", str(writer.path / "metadata.git")], tmp_path)
