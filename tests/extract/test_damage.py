"""Restore and export leave out damaged data and name it, with exit code 4, and everything else comes back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mirror import browse, restore
from mirror.git.mirrors.clone import CopyJob, copy
from mirror.git.refs import read_refs
from mirror.model import Head, Refs, Selector
from tests.e2e.helpers import json_of, mirror
from tests.extract.made import BINARY, LFS_OBJECT, LOG, Made, blob, commit, flip, pointer_to, sha256, tree
from tests.git.backend import git

pytestmark = pytest.mark.git
Told = dict[str, tuple[tuple[int, str], ...]]


async def taken_out(made: Made, way: str, target: Path) -> Told:
    """Restore or export everything; returns the problems of each repository."""
    if way == "restore":
        report = await restore.run(made.path, Selector("acme"), target=str(target))
        return {one.repository: one.problems for one in report.items if one.repository != "acme"}
    found = browse.export(made.path, Selector("acme"), target)
    return {one.name: one.problems for one in found if one.name != "acme"}


def files_of(target: Path, name: str) -> list[bytes]:
    """The content of the restored files."""
    return sorted(one.read_bytes() for one in (target / "acme" / name / "files").rglob("*") if one.is_file())


def code_of(target: Path, name: str) -> Path | None:
    for code in ("code.git", "code"):
        if (target / "acme" / name / code).exists():
            return target / "acme" / name / code
    return None


@pytest.mark.parametrize("way", ["restore", "export"])
@pytest.mark.parametrize("harm", ["cut .gz", "flipped .gz", "flipped file", "lost file"])
async def test_a_damaged_file_is_left_out_and_named(made: Made, tmp_path: Path, way: str, harm: str) -> None:
    for number, name in enumerate(("api", "website"), start=1):
        await made.add(name, number)
    path = made.stored("api", LOG if ".gz" in harm else BINARY)
    if harm == "cut .gz":
        path.write_bytes(path.read_bytes()[:-20])
    elif harm == "lost file":
        path.unlink()
    else:
        flip(path, path.stat().st_size // 2)
    told = await taken_out(made, way, tmp_path / "out")
    [(code, text)] = told["acme/api"]
    lost = LOG if ".gz" in harm else BINARY
    assert code == 4 and sha256(lost) in text and "acme/api" in text
    assert told["acme/website"] == ()
    whole = sorted([LOG, BINARY])
    assert files_of(tmp_path / "out", "website") == whole
    assert files_of(tmp_path / "out", "api") == [one for one in whole if one != lost]
    for name in ("api", "website"):
        code_there = code_of(tmp_path / "out", name)
        assert code_there is not None and git("fsck", "--no-dangling", cwd=code_there) == ""


@pytest.mark.parametrize("way", ["restore", "export"])
@pytest.mark.parametrize("harm", ["flipped pack", "lost pack", "cut pack", "cut index", "lost index"])
async def test_a_damaged_mirror_is_left_out_and_named(
    made: Made, tmp_path: Path, way: str, harm: str
) -> None:
    for number, name in enumerate(("api", "website"), start=1):
        await made.add(name, number)
    pack = made.pack("api")
    victim = pack.with_suffix(".idx") if "index" in harm else pack
    victim.chmod(0o600)
    if harm.startswith("lost"):
        victim.unlink()
    elif harm.startswith("cut"):
        victim.write_bytes(victim.read_bytes()[:-25])
    else:
        flip(pack, pack.stat().st_size - 25)  # in the last object
    told = await taken_out(made, way, tmp_path / "out")
    assert {code for code, _ in told["acme/api"]} == {4}
    assert any(victim.name in text for _, text in told["acme/api"]), told
    assert told["acme/website"] == ()
    assert code_of(tmp_path / "out", "api") is None
    assert code_of(tmp_path / "out", "website") is not None
    assert files_of(tmp_path / "out", "api") == sorted([LOG, BINARY])
    assert (tmp_path / "out" / "acme" / "api" / "metadata" / "repository.json").exists()


@pytest.mark.parametrize("way", ["restore", "export"])
@pytest.mark.parametrize("at", range(0, 400, 80))
async def test_no_wrong_bytes_ever_come_from_documents(made: Made, tmp_path: Path, way: str, at: int) -> None:
    """Flip any bit of the pack of documents: the result is right, or the command reports 4."""
    await made.add("api", 1, documents={f"issues/0/{n}.json": {"issue": {"n": n}} for n in range(40)})
    folder = made.folder("api")
    wanted = {path: folder.metadata.read_bytes(made.snapshot("api"), path) for path in
              folder.metadata.paths(made.snapshot("api"))}  # fmt: skip
    pack = made.pack("api", "metadata.git")
    flip(pack, 12 + at * (pack.stat().st_size - 32) // 400)
    done = mirror(way, "acme/api", "--store", str(made.path), "--to", str(tmp_path / "out"))
    assert "unexpected" not in done.stderr
    got = {
        path.relative_to(tmp_path / "out" / "metadata").as_posix(): path.read_bytes()
        for path in (tmp_path / "out" / "metadata").rglob("*.json")
    }
    assert all(wanted[path] == data for path, data in got.items())
    assert done.returncode == 4 or (done.returncode == 0 and got == wanted), done.stdout + done.stderr


async def test_a_copy_is_right_or_told_as_damaged(made: Made, tmp_path: Path) -> None:
    """Flip any bit of a pack or its index: no wrong byte comes out."""
    code = (await made.add("api", 1)).path / "code.git"
    texts = [b"line %d of a text\n" % number * 50 for number in range(12)]
    top = tree(code, *((b"100644", b"%02d" % at, blob(code, text)) for at, text in enumerate(texts)))
    await made.add("api", 1, refs={b"refs/heads/main": commit(code, top)})
    pack = made.pack("api")
    refs, told = read_refs(code), 0
    for file in (pack, pack.with_suffix(".idx")):
        for at in range(0, file.stat().st_size, max(1, file.stat().st_size // 40)):
            flip(file, at)
            result = copy(CopyJob(str(code), str(tmp_path / "copy"), refs, work_tree=True))
            told += bool(result.damage)
            if result.made is not None:
                assert not result.lacking
                assert [(tmp_path / "copy" / f"{n:02}").read_bytes() for n in range(12)] == texts
                assert git("fsck", "--full", "--no-dangling", cwd=tmp_path / "copy") == ""
                shutil.rmtree(tmp_path / "copy")
            assert not (tmp_path / "copy").exists()
            flip(file, at)
    assert told > 70


@pytest.mark.parametrize(
    ("way", "harm"), [("restore", "flipped"), ("export", "flipped"), ("restore", "lost")]
)
async def test_refs_without_damage_come_back_and_the_others_are_named(
    made: Made, tmp_path: Path, way: str, harm: str
) -> None:
    code = (await made.add("api", 1)).path / "code.git"
    main = git("rev-parse", "refs/heads/main", cwd=code).strip()
    texts = [b"line %d of a text\n" % number * 50 for number in range(3)]
    blobs = [blob(code, text) for text in texts]
    tips = [commit(code, tree(code, (b"100644", b"a", one)), main, message=one) for one in blobs]
    later = commit(code, tree(code, (b"100644", b"a", blobs[0])), tips[1], message="after the damage")
    refs = {b"refs/heads/main": main, b"refs/heads/good": tips[0], b"refs/heads/bad": tips[1],
            b"refs/heads/worse": later}  # fmt: skip
    head = Refs(refs, Head("symref", b"refs/heads/good"))
    await made.add("api", 1, refs=refs, pins={1: tips[2], 2: later}, head=head)
    pack = made.pack("api")
    if harm == "lost":
        data = pack.read_bytes()
        pack.unlink()
        pack.with_suffix(".idx").unlink()
        git("unpack-objects", "-q", cwd=code, stdin=data)
        (code / "objects" / blobs[1][:2] / blobs[1][2:]).unlink()
    else:
        lines = git("verify-pack", "-v", str(pack), cwd=code).splitlines()
        [offset] = [int(line.split()[4]) for line in lines if line.startswith(blobs[1])]
        flip(pack, offset + 5)
    [problems] = [(await taken_out(made, way, tmp_path / "out"))["acme/api"]]
    assert {number for number, _ in problems} == {4}
    named = [text for _, text in problems if "comes without" in text]
    for ref in ("refs/heads/bad", "refs/heads/worse", "refs/mirror/pull-requests/2/from"):
        assert any(f"without {ref}, because {blobs[1]}" in text for text in named), problems
    assert len(named) == 3
    back = code_of(tmp_path / "out", "api")
    assert back is not None and git("fsck", "--full", "--no-dangling", cwd=back) == ""
    names = git("for-each-ref", "--format=%(objectname) %(refname)", cwd=back).splitlines()
    assert names == [f"{tips[0]} refs/heads/good", f"{main} refs/heads/main",
                     f"{tips[2]} refs/mirror/pull-requests/1/from"]  # fmt: skip
    assert git("cat-file", "blob", "refs/heads/good:a", cwd=back).encode() == texts[0]
    if way == "export":
        assert (back / "a").read_bytes() == texts[0]


async def test_a_damaged_lfs_object_is_left_out_and_named(made: Made, tmp_path: Path) -> None:
    writer = await made.add("api", 1)
    code = writer.path / "code.git"
    top = tree(code, (b"100644", b"a.bin", blob(code, pointer_to(LFS_OBJECT))))
    await made.add("api", 1, refs={b"refs/heads/main": commit(code, top)}, lfs=True)
    path = made.folder("api").lfs_object(sha256(LFS_OBJECT))
    assert path is not None
    for harm in ("flipped", "lost"):
        flip(path, 77) if harm == "flipped" else path.unlink()
        for way in ("restore", "export"):
            told = await taken_out(made, way, tmp_path / f"{way} {harm}")
            [(number, text)] = told["acme/api"]
            assert number == 4 and sha256(LFS_OBJECT) in text
            there = code_of(tmp_path / f"{way} {harm}", "api")
            assert there is not None and git("fsck", "--no-dangling", cwd=there) == ""
            assert not [one for one in there.rglob(sha256(LFS_OBJECT)) if one.is_file()]


async def test_the_command_ends_with_4_and_names_it(made: Made, tmp_path: Path) -> None:
    for number, name in enumerate(("api", "website"), start=1):
        await made.add(name, number)
    path = made.stored("api", LOG)
    path.write_bytes(path.read_bytes()[:-20])
    for way in ("restore", "export"):
        words = (way, "acme", "--store", str(made.path), "--to", str(tmp_path / way))
        done = mirror(*words)
        assert done.returncode == 4, done.stdout + done.stderr
        assert path.name in done.stdout and "unexpected" not in done.stderr
        assert f"{'Restored' if way == 'restore' else 'Exported'} in part" in done.stdout
        told = json_of(mirror(way, "acme/api", "--store", str(made.path), "--to", str(tmp_path / f"1{way}"),
                              "--json"))  # fmt: skip
        assert told["exit_code"] == 4 and told["items"][0]["is_there"]


async def test_a_snapshot_that_is_listed_and_not_there_is_damage(made: Made, tmp_path: Path) -> None:
    """A folder that lost its documents is not one that was never backed up."""
    await made.add("api", 1)
    [documents] = made.path.rglob("repositories/*/metadata.git")
    shutil.rmtree(documents)
    words = ("--store", str(made.path))
    restored = mirror("restore", "acme/api", "--to", str(tmp_path / "out"), *words)
    shown = mirror("show", "acme/api", "repository.json", *words)
    for done in (restored, shown):
        assert done.returncode == 4 and "of the 1 snapshots in the ledger none is there" in done.stderr
