"""Reading packs that C git made, in every way that it makes them, and packs that lie."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from dulwich.errors import ApplyDeltaError
from dulwich.pack import apply_delta, write_pack_index_v2

from benchmarks.made import make
from mirror.git.bare import create
from mirror.git.failures import GitFailed
from mirror.git.mirrors.fsck import CheckJob, check
from mirror.git.pack import delta as pack_delta
from mirror.git.pack import fsck as pack_fsck
from mirror.git.pack.fsck import CHECK_CACHE_BYTES, KNOWN_MAX, PIECEWISE_MIN_BYTES, LinkChecker, PackChecker
from mirror.git.pack.index import PackIndex
from tests.git.backend import git, need_git
from tests.git.crafted import BLOB, Crafted, copy, delta, header, is_refused_by_git, name_of

pytestmark = pytest.mark.git


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of small changes: long delta chains, a large file, a submodule, a tag."""
    need_git()
    path = tmp_path_factory.mktemp("packs") / "made.git"
    make(path, 60)
    large = git("hash-object", "-w", "--stdin", cwd=path, stdin=b"line\n" * 1_000_000).strip()
    lines = f"100644 blob {large}\tlarge\n160000 commit {'1' * 40}\tmodule\n".encode()
    tree = git("mktree", "--missing", cwd=path, stdin=lines).strip()
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    commit = git(*who, "commit-tree", tree, "-p", "main", "-m", "Large", cwd=path).strip()
    git("update-ref", "refs/heads/main", commit, cwd=path)
    git(*who, "tag", "-a", "v1", "-m", "One", commit, cwd=path)
    git("repack", "-a", "-d", "-q", "-f", cwd=path)
    return path


@pytest.fixture(params=["alone", "shared"])
def parallel_min_entries(request: pytest.FixtureRequest) -> int:
    """One process reads a pack, or several do."""
    return 1 if request.param == "shared" else 1 << 40


def read(
    repository: Path,
    parallel_min_entries: int,
    *,
    cache_bytes: int = CHECK_CACHE_BYTES,
    piecewise_min_bytes: int = PIECEWISE_MIN_BYTES,
    known_max: int = KNOWN_MAX,
) -> tuple[int, list[tuple[str, str | None]], set[bytes]]:
    """Objects, findings and missing links of the one pack."""
    [pack] = (repository / "objects" / "pack").glob("*.pack")
    found: list[tuple[str, str | None]] = []
    links = LinkChecker(known_max)
    with closing(PackIndex(pack.with_suffix(".idx"))) as index:
        links.add_index(index)
        checker = PackChecker(
            pack,
            index,
            links,
            lambda text, oid: found.append((text, oid)),
            cache_bytes=cache_bytes,
            piecewise_min_bytes=piecewise_min_bytes,
            parallel_min_entries=parallel_min_entries,
        )
        with closing(checker):
            return checker.check(processes=2), found, links.missing


@pytest.mark.parametrize("held", [CHECK_CACHE_BYTES, 1])
@pytest.mark.parametrize("piecewise", [PIECEWISE_MIN_BYTES, 1000])
@pytest.mark.parametrize("deltas", ["offset", "name"])
def test_every_object_is_read_whatever_the_bounds(
    repository: Path, tmp_path: Path, parallel_min_entries: int, held: int, piecewise: int, deltas: str
) -> None:
    path = tmp_path / "copy.git"
    git("clone", "-q", "--mirror", "--no-hardlinks", str(repository), str(path))
    git("-c", f"repack.useDeltaBaseOffset={str(deltas == 'offset').lower()}", "repack", "-adqf", cwd=path)
    listed = git("rev-list", "--objects", "--all", cwd=path).splitlines()
    result = read(path, parallel_min_entries, cache_bytes=held, piecewise_min_bytes=piecewise, known_max=10)
    assert result == (len(listed), [], set())


def test_a_link_without_its_target_is_missed(
    repository: Path, tmp_path: Path, parallel_min_entries: int
) -> None:
    path = tmp_path / "copy.git"
    git("clone", "-q", "--mirror", "--no-hardlinks", str(repository), str(path))
    kept = git("rev-list", "--objects", "--all", cwd=path).splitlines()
    victim = git("rev-parse", "main~1:src/00/00.txt", cwd=path).strip()
    names = "\n".join(line.split(" ")[0] for line in kept if not line.startswith(victim)).encode()
    [old] = (path / "objects" / "pack").glob("*.pack")
    git("pack-objects", "-q", str(tmp_path / "pack"), cwd=path, stdin=names + b"\n")
    for one in old.parent.iterdir():
        one.unlink()
    for one in tmp_path.glob("pack-*"):
        one.rename(old.parent / one.name)
    assert read(path, parallel_min_entries)[1:] == ([], {bytes.fromhex(victim)})
    [problem] = check(
        CheckJob(str(path), (git("rev-parse", "main", cwd=path).strip(),), in_store=False)
    ).problems
    assert (problem.object, problem.problem) == (victim, "is missing")


def test_an_object_that_is_not_what_the_index_calls_it_is_named(
    repository: Path, tmp_path: Path, parallel_min_entries: int
) -> None:
    """Every checksum is correct: only hashing finds it."""
    path = tmp_path / "copy.git"
    git("clone", "-q", "--mirror", "--no-hardlinks", str(repository), str(path))
    [index] = (path / "objects" / "pack").glob("*.idx")
    index.chmod(0o600)
    data = bytearray(index.read_bytes()[:-20])
    count = struct.unpack_from(">L", data, 8 + 255 * 4)[0]
    at = 8 + 256 * 4 + 20 * (count // 2)
    data[at + 19] ^= 1
    index.write_bytes(data + hashlib.sha1(data).digest())
    count_, found, _ = read(path, parallel_min_entries)
    assert count_ == count
    assert found == [("its content has another hash", bytes(data[at : at + 20]).hex())]


def test_a_damaged_entry_is_named_with_all_that_is_made_from_it(
    repository: Path, tmp_path: Path, parallel_min_entries: int
) -> None:
    path = tmp_path / "copy.git"
    git("clone", "-q", "--mirror", "--no-hardlinks", str(repository), str(path))
    [pack] = (path / "objects" / "pack").glob("*.pack")
    rows = [line.split() for line in git("verify-pack", "-v", str(pack), cwd=path).splitlines()]
    entries = [row for row in rows if len(row) in (5, 7) and len(row[0]) == 40]
    bases = {row[6] for row in entries if len(row) == 7}
    victim = next(row for row in entries if row[0] in bases and len(row) == 5)
    below = {victim[0]}
    while more := {row[0] for row in entries if len(row) == 7 and row[6] in below} - below:
        below |= more
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[int(victim[4]) + int(victim[3]) // 2] ^= 0x10
    pack.write_bytes(data)
    named = {name for text, name in read(path, parallel_min_entries)[1] if "checked" not in text}
    assert victim[0] in named
    assert named <= below


def test_whatever_byte_is_flipped_is_found_by_several_processes_too(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.git"
    git("clone", "-q", "--mirror", "--no-hardlinks", str(repository), str(path))
    [pack] = (path / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    whole = pack.read_bytes()
    for at in random.Random(1).sample(range(12, len(whole) - 20), 10):
        pack.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        answers = []
        for parallel_min_entries in (1, 1 << 40):
            count, found, missing = read(path, parallel_min_entries)
            answers.append((count, sorted(found, key=str), missing))
        assert answers[0] == answers[1]
        assert answers[0][1], at


def test_a_process_that_dies_costs_time_and_nothing_else(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> list[object]:
        raise GitFailed("a process died")

    monkeypatch.setattr(pack_fsck, "in_processes", dies)
    count, found, missing = read(repository, 1)
    assert count > 100 and (found, missing) == ([], set())


BASE = b"some text that others are made from\n" * 10


@pytest.mark.parametrize(
    "wrong",
    [
        delta(len(BASE), 30, copy(0, 30), copy(5000, 30)),
        delta(len(BASE), 30, copy(0, 30), copy(0, 30)),
        delta(len(BASE), 0),
    ],
    ids=["a last copy from beyond the base", "a last copy too many", "no instruction"],
)
def test_a_delta_that_c_git_refuses_is_damage_though_its_result_has_the_right_hash(
    tmp_path: Path, wrong: bytes
) -> None:
    pack = Crafted()
    first, made = pack.whole(BLOB, BASE), BASE[: 30 if len(wrong) > 4 else 0]
    pack.offset_delta(first, wrong)
    data = pack.done()
    assert is_refused_by_git(tmp_path / "git", data)
    mirror = tmp_path / "m.git"
    create(mirror)
    file = mirror / "objects" / "pack" / f"pack-{data[-20:].hex()}.pack"
    file.write_bytes(data)
    starts = {
        12: name_of(BLOB, BASE),
        12 + len(header(BLOB, len(BASE)) + zlib.compress(BASE)): name_of(BLOB, made),
    }
    entries = sorted((name, offset, 0) for offset, name in starts.items())
    with file.with_suffix(".idx").open("wb") as index:
        write_pack_index_v2(index, entries, data[-20:])
    problems = check(CheckJob(str(mirror), (name_of(BLOB, made).hex(),))).problems
    assert any("cannot be read" in text for text in map(str, problems))


def test_a_dulwich_that_refuses_such_deltas_by_itself_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = apply_delta

    def strict(base: bytes, delta: bytes) -> list[bytes]:
        if delta.endswith(pack_delta._INVALID_COPY):
            raise ApplyDeltaError("it copies what is not there")
        return real(base, delta)

    monkeypatch.setattr(pack_delta, "_dulwich_apply", strict)
    assert pack_delta._dulwich_is_strict()
