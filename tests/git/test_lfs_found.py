"""Mirror finds LFS pointers wherever they are: in packs and deltas, on every ref; git-lfs is the second
opinion."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.errors import MirrorError
from mirror.git.lfs import reachable
from mirror.git.lfs.pointers import parse_pointer, pointers_of_loose, pointers_of_pack
from mirror.git.lfs.reachable import CACHE, reachable_objects
from mirror.git.refs import _Objects, write_packed
from tests.git.backend import git, need_git
from tests.git.crafted import BLOB, COMMIT, TREE, Crafted, name_of, receive

pytestmark = pytest.mark.git

OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
PLAIN = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n"


def pointer(number: int) -> bytes:
    """A pointer to an object that does not exist."""
    oid = hashlib.sha256(b"%d" % number).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {number}\n".encode()


def wordy(number: int) -> bytes:
    """Like `pointer`, with so much more text that git makes deltas."""
    more = b"".join(b"ext-%d-word sha256:%s\n" % (one, OID.encode()) for one in range(8))
    return pointer(number).replace(b"oid", more + b"oid")


@pytest.fixture(autouse=True)
def _needs_git() -> None:
    need_git()
    if shutil.which("git-lfs") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have git-lfs")
        pytest.skip("git-lfs is not installed: no second opinion")


def is_pointer_to_git_lfs(data: bytes) -> bool:
    """What git-lfs itself says."""
    done = subprocess.run(
        ["git-lfs", "pointer", "--check", "--stdin"], input=data, capture_output=True, check=False
    )
    return done.returncode in (0, 2)


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN + "\n\n",
        PLAIN.replace("https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1"),
        PLAIN.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2"),
        PLAIN.replace("oid", f"ext-0-caps sha256:{OID}\noid"),
        PLAIN.replace("spec/v1", "spec/v2"),
        PLAIN.replace("sha256:", "sha1:"),
        PLAIN.replace("12345", "-1"),
        PLAIN.replace("12345", "12k"),
        PLAIN.replace("size 12345\n", ""),
        PLAIN.replace("oid", "size 1\noid"),
        PLAIN.replace(OID, OID[:-1]),
        PLAIN + "more 1\n",
        "version " + "x" * 200,
        "hello\n" * 20,
    ],
)
def test_a_pointer_is_what_git_lfs_takes_for_one(data: str) -> None:
    found = parse_pointer(data.encode())
    assert (found is not None) == is_pointer_to_git_lfs(data.encode())
    if found is not None:
        assert found == (OID, 12345)


def test_what_is_too_long_or_too_large_is_none() -> None:
    assert parse_pointer((PLAIN + "\n" * 1024).encode()) is None
    assert parse_pointer(PLAIN.replace("12345", "0").encode()) is None  # git-lfs looks for no object
    assert parse_pointer(PLAIN.replace("12345", "9" * 30).encode()) is None
    assert parse_pointer(PLAIN.replace("12345", "१२").encode()) is None


@given(st.binary(max_size=300))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    assert parse_pointer(data) is None
    parse_pointer(PLAIN.encode()[:60] + data)


class Work:
    """A repository with a work tree, and methods that commit to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        git("init", "-q", "-b", "main", str(path))
        self.git("config", "gc.auto", "0")

    @property
    def bare(self) -> Path:
        return self.path / ".git"

    def git(self, *words: str) -> str:
        return git(*words, cwd=self.path)

    def commit(self, files: dict[str, bytes], message: str = "x") -> str:
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def pack(self, *words: str) -> None:
        """Pack everything into one pack, with nothing loose."""
        self.git("repack", "-adq", *words)
        self.git("prune", "--expire=now")
        self.git("pack-refs", "--all")

    def pack_new(self) -> None:
        """Pack loose objects into a pack of their own."""
        self.git("repack", "-dq")

    def listed(self) -> set[str]:
        """What git-lfs finds on all refs."""
        found = self.git("lfs", "ls-files", "--all", "--long")
        return {line.split()[0] for line in found.splitlines()}


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "work")


def test_every_pointer_of_a_pack_is_found_in_deltas_too(work: Work) -> None:
    rng = random.Random(7)
    long = b"".join(b"line %d\n" % rng.randrange(1 << 30) for _ in range(4000))
    for number in range(1, 61):
        work.commit(
            {
                "a/data.bin": wordy(number),
                "a/other.bin": pointer(1000 + number % 7),
                "long.txt": long + b"%d\n" % number,
                "short.txt": b"version %d\n" % number,
            }
        )
    wanted = {hashlib.sha256(b"%d" % number).hexdigest() for number in (*range(1, 61), *range(1000, 1007))}
    assert {one.oid for one in pointers_of_loose(work.bare / "objects")} == wanted
    for words in ((), ("-f", "--depth=50", "--window=100"), ("-f", "--depth=0")):
        work.pack(*words)
        [pack] = (work.bare / "objects" / "pack").glob("*.pack")
        found = pointers_of_pack(pack)
        assert {one.oid for one in found} == wanted
        assert len(found) == len(wanted)
        for one in found:
            assert work.git("cat-file", "blob", one.blob) in (
                pointer(one.size).decode(),
                wordy(one.size).decode(),
            )
    # The second time, git made deltas of some of them.
    work.pack("-f", "--depth=50", "--window=100")
    chains = work.git("verify-pack", "-v", *map(str, (work.bare / "objects" / "pack").glob("*.idx")))
    blobs = {one.blob for one in found}
    assert any(line.split()[0] in blobs and len(line.split()) > 5 for line in chains.splitlines() if line)


def test_a_pack_whose_deltas_name_their_bases_is_read(work: Work, tmp_path: Path) -> None:
    for number in range(1, 41):
        work.commit({"data.bin": wordy(number), "text": b"word " * 500 + b"%d" % number})
    names = work.git("rev-list", "--objects", "--all", "--no-object-names").encode()
    out = tmp_path / "pack-x.pack"
    done = subprocess.run(
        ["git", "pack-objects", "--stdout", "-q", "--window=50"],  # without --delta-base-offset
        input=names, capture_output=True, check=True, cwd=work.path,
    )  # fmt: skip
    out.write_bytes(done.stdout)
    git("index-pack", str(out))
    assert {one.size for one in pointers_of_pack(out)} == set(range(1, 41))


def test_a_damaged_pack_is_told_and_never_called_empty(work: Work) -> None:
    for number in range(20):
        work.commit({"data.bin": pointer(number)})
    work.pack("-f", "--depth=20")
    [pack] = (work.bare / "objects" / "pack").glob("*.pack")
    data = bytearray(pack.read_bytes())
    pack.chmod(0o600)
    for at in range(40, len(data) - 40, 97):
        data[at] ^= 0xFF
    pack.write_bytes(data)
    with pytest.raises(MirrorError, match="the search for LFS objects failed"):
        reachable_objects(work.bare)


def test_every_ref_is_walked_ours_and_odd_ones_too(work: Work) -> None:
    base = work.commit({"readme": b"no pointer yet\n"})
    work.commit({"a.bin": pointer(1)})
    work.git("tag", "-a", "-m", "annotated", "v1")
    work.git("checkout", "-q", "--detach", base)
    kept = work.commit({"deep/er/b.bin": pointer(2)})
    work.git("update-ref", f"refs/mirror/keep/{kept}", kept)
    work.git("checkout", "-q", "--detach", base)
    pinned = work.commit({"c.bin": pointer(3)})
    work.git("update-ref", "refs/mirror/pull-requests/4/from", pinned)
    work.git("checkout", "-q", "--detach", base)
    gone = work.commit({"d.bin": pointer(4)})
    blob = git("hash-object", "-w", "--stdin", cwd=work.path, stdin=pointer(5)).strip()
    work.git("update-ref", "refs/odd/blob", blob)
    work.git("checkout", "-q", "main")
    work.git("branch", "-q", "gone", gone)
    work.pack("--keep-unreachable")
    assert set(reachable_objects(work.bare).values()) == {(1,), (2,), (3,), (4,), (5,)}
    work.git("branch", "-q", "-D", "gone")
    work.git("pack-refs", "--all")
    assert set(reachable_objects(work.bare).values()) == {(1,), (2,), (3,), (5,)}
    assert set(reachable_objects(work.bare, [gone]).values()) == {(4,)}
    assert reachable_objects(work.bare, [base]) == {}


def test_a_submodule_is_not_followed(work: Work) -> None:
    work.commit({"a.bin": pointer(1)})
    work.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    work.git("commit", "-q", "-m", "module")
    work.pack()
    assert set(reachable_objects(work.bare).values()) == {(1,)}


WHO = b"author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n"


def handmade(path: Path, mode: bytes, change: Callable[[bytes], bytes] = bytes) -> None:
    """A repository whose only pointer is in a folder with this mode; `change` modifies the commit."""
    pack, text = Crafted(), pointer(7)
    folder = b"100644 x.bin\0" + name_of(BLOB, text)
    top = mode + b" d\0" + name_of(TREE, folder)
    commit = change(b"tree %s\n%s\nx\n" % (name_of(TREE, top).hex().encode(), WHO))
    for kind, data in ((BLOB, text), (TREE, folder), (TREE, top), (COMMIT, commit)):
        pack.whole(kind, data)
    receive(path, pack.done())
    write_packed(path, {b"refs/heads/main": name_of(COMMIT, commit).hex()}, {})


def listed_by_git_lfs(path: Path) -> list[str]:
    return [line.split()[0] for line in git("lfs", "ls-files", "--all", "--long", cwd=path).splitlines()]


@pytest.mark.parametrize("mode", [b"40000", b"040000", b"0040000", b"40755", b"160000", b"160644", b"60000"])
def test_a_folder_is_entered_however_its_mode_is_written(tmp_path: Path, mode: bytes) -> None:
    handmade(tmp_path / "m.git", mode)
    found = reachable_objects(tmp_path / "m.git")
    assert list(found) == listed_by_git_lfs(tmp_path / "m.git")
    assert bool(found) == (b"4" in mode[:3])


def test_a_commit_that_names_its_tree_in_capitals_is_followed(tmp_path: Path) -> None:
    handmade(tmp_path / "m.git", b"40000", lambda data: data[:5] + data[5:45].upper() + data[45:])
    assert list(reachable_objects(tmp_path / "m.git")) == listed_by_git_lfs(tmp_path / "m.git") != []


def test_what_an_earlier_version_remembered_is_looked_for_anew(tmp_path: Path) -> None:
    """That version treated folders with unknown modes as something else."""
    handmade(tmp_path / "m.git", b"040000")
    wanted = reachable_objects(tmp_path / "m.git", save_cache=True)
    memory = tmp_path / "m.git" / CACHE
    content = json.loads(memory.read_bytes().partition(b"\n")[2])
    data = json.dumps({**content, "schema": 1, "found": []}).encode()
    memory.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    assert reachable_objects(tmp_path / "m.git", save_cache=True) == wanted != {}
    assert json.loads(memory.read_bytes().partition(b"\n")[2]) == content


def test_the_file_that_an_earlier_version_remembered_in_goes(tmp_path: Path) -> None:
    handmade(tmp_path / "m.git", b"040000")
    former = tmp_path / "m.git/lfs/pointers.json"
    former.parent.mkdir()
    former.write_bytes(b"0" * 64 + b"\n{}")
    assert reachable_objects(tmp_path / "m.git", save_cache=True) != {}
    assert not former.exists() and (tmp_path / "m.git" / CACHE).exists()


def test_pointers_that_disagree_about_a_size_are_all_told(work: Work) -> None:
    other = pointer(1).replace(b"size 1", b"size 77")
    work.commit({"a.bin": pointer(1), "b.bin": other})
    work.pack()
    assert list(reachable_objects(work.bare).values()) == [(1, 77)]


def test_where_there_is_no_pointer_nothing_is_walked(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    work.commit({"a.txt": b"version 1 of nothing\n" * 10})
    work.pack()
    monkeypatch.setattr(reachable, "_walk", lambda *_: pytest.fail("walked"))
    assert reachable_objects(work.bare, save_cache=True) == {}
    monkeypatch.setattr(reachable, "pointers_of_pack", lambda _: pytest.fail("read again"))
    assert reachable_objects(work.bare, save_cache=True) == {}


def walked(work: Work, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many objects Mirror reads to find all reachable pointers, with the help of its cache."""
    count = 0
    real = _Objects.get_raw

    def counted(self: object, name: object) -> object:
        nonlocal count
        count += 1
        return real(self, name)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(_Objects, "get_raw", counted)
        reachable_objects(work.bare, save_cache=True)
    return count


def test_only_what_came_is_walked(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 31):
        work.commit({f"d{number % 5}/f{number}.txt": b"%d" % number, "data.bin": pointer(number)})
    work.pack()
    assert walked(work, monkeypatch) > 60
    assert walked(work, monkeypatch) == 0
    # A successor, with the value before it kept or removed.
    for number in (100, 101):
        if number == 100:
            work.git("tag", "before")
        work.commit({"d1/new.bin": pointer(number)})
        work.pack_new()
        assert 0 < walked(work, monkeypatch) <= 8
    work.git("tag", "-d", "before")
    assert walked(work, monkeypatch) <= 8
    assert len(reachable_objects(work.bare)) == 32
    # A removed value: Mirror walks everything again, and no longer finds what only this value had.
    work.git("reset", "-q", "--hard", "HEAD~1")
    assert walked(work, monkeypatch) > 60
    assert len(reachable_objects(work.bare)) == 31
    # A new ref to an old object.
    work.git("branch", "again", "HEAD@{1}")
    walked(work, monkeypatch)
    assert len(reachable_objects(work.bare)) == 32


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "other"])
def test_what_is_remembered_may_be_lost(work: Work, harm: str) -> None:
    work.commit({"a.bin": pointer(1)})
    work.pack()
    wanted = reachable_objects(work.bare, save_cache=True)
    memory = work.bare / CACHE
    data = memory.read_bytes()
    flipped = data[:90] + bytes([data[90] ^ 1]) + data[91:]
    memory.write_bytes({"cut": data[:-9], "flip": flipped, "empty": b"", "other": b"{}\n"}[harm])
    assert reachable_objects(work.bare, save_cache=True) == wanted
    assert memory.read_bytes() == data


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=14), st.randoms(use_true_random=False))
def test_remembering_finds_what_forgetting_finds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], rng: random.Random
) -> None:
    """Whatever happens to refs and packs, the cache never hides a pointer and never invents one."""
    work = Work(tmp_path_factory.mktemp("walk") / "work")
    work.commit({"readme": b"begin\n"})
    for step, kind in enumerate(steps):
        branches = work.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
        match kind:
            case 0:
                work.pack()
            case 1:
                work.pack_new()
            case 2 if len(branches) > 1:
                work.git("checkout", "-q", "--detach")
                work.git("branch", "-q", "-D", rng.choice(branches))
            case 3:
                work.git("checkout", "-q", "-B", f"b{step}", rng.choice(branches or ["HEAD"]))
            case 4:
                work.git("tag", "-f", "moving")
            case 5:
                commits = work.git("rev-list", "--all", "--reflog").split()
                work.git("checkout", "-q", "-B", f"b{step}", rng.choice(commits))
            case _:
                content = pointer(rng.randrange(1, 9)) if rng.random() < 0.7 else b"text %d\n" % step
                work.commit({f"d{rng.randrange(3)}/f{rng.randrange(3)}": content}, f"step {step}")
        remembered = reachable_objects(work.bare, save_cache=True)
        (work.bare / CACHE).rename(work.bare / "aside")
        assert reachable_objects(work.bare) == remembered
        (work.bare / "aside").rename(work.bare / CACHE)
    work.git("checkout", "-q", "-B", "last")  # git-lfs also looks at HEAD, which is not a ref
    assert set(reachable_objects(work.bare)) == work.listed()
