"""For packs that C git made, in every way that it makes them, Mirror gets exactly C git's result."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from dulwich.pack import write_pack_index_v2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from benchmarks.made import make
from mirror.git import refs
from mirror.git.bare import create
from mirror.git.failures import GitFailed
from mirror.git.pack import scanner
from mirror.git.pack.entries import EntryTable
from mirror.git.pack.format import read_entry_header
from mirror.git.pack.index import write_index
from mirror.git.pack.limits import DEFAULT_LIMITS, SPILL_BYTES, PackLimits
from mirror.git.pack.receiver import sweep
from mirror.git.pack.resolver import Resolver
from mirror.git.pack.scanner import PackScanner
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
    is_refused_by_git,
    name_of,
    receive,
    true_links,
)

pytestmark = pytest.mark.git
WHO = b"Ann <ann@example.org> 1767225600 +0000\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history with something of everything that a pack may contain."""
    need_git()
    path = tmp_path_factory.mktemp("packs") / "made.git"
    make(path, 40)

    def blob(data: bytes) -> str:
        return git("hash-object", "-w", "--stdin", cwd=path, stdin=data).strip()

    def raw(kind: str, data: bytes) -> str:
        words = ("hash-object", "-w", "-t", kind, "--literally", "--stdin")
        return git(*words, cwd=path, stdin=data).strip()

    rng = random.Random(7)
    noise = rng.randbytes(2_500_000)
    large = [blob(noise), blob(noise[:1_200_000] + b"changed" + noise[1_200_000:]), blob(b"line\n" * 900_000)]
    empty_tree = git("mktree", cwd=path, stdin=b"").strip()
    lines = [f"100644 blob {one}\tlarge-{at}" for at, one in enumerate(large)]
    lines += [f"100644 blob {blob(b'')}\tempty", f"040000 tree {empty_tree}\tnothing"]
    lines += [f"160000 commit {'1' * 40}\tmodule", f"120000 blob {blob(b'empty')}\tlink"]
    wide = [f"100644 blob {blob(b'%d' % n)}\tfile-{n:04}" for n in range(300)]
    tip = "main"
    for turn in range(12):
        wide[turn * 20] = f"100755 blob {blob(b'new %d' % turn)}\tfile-{turn * 20:04}"
        rows = "".join(f"{line}\n" for line in [*lines, *wide[turn:]])
        tree = git("mktree", "--missing", cwd=path, stdin=rows.encode()).strip()
        padded = raw("tree", b"040000 sub\0" + bytes.fromhex(tree) + b"0160000 mod\0" + b"\x22" * 20)
        tip = git("commit-tree", padded, "-p", tip, "-m", f"{turn}", cwd=path).strip()
    git("update-ref", "refs/heads/main", tip, cwd=path)
    for name, of in (("commit", tip), ("tree", tree), ("blob", large[1]), ("tag", "to-commit")):
        git("tag", "-a", f"to-{name}", "-m", "x" * 300, of, cwd=path)
    return path


def every_object(path: Path) -> bytes:
    return git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", cwd=path).encode()


def a_pack(path: Path, *words: str, of: bytes | None = None) -> bytes:
    """A pack of the named objects, by default of all."""
    out = path.parent / f"packed-{os.urandom(4).hex()}"
    of = of if of is not None else every_object(path)
    name = git("pack-objects", "-q", *words, str(out), cwd=path, stdin=of).split()[0]
    return out.with_name(f"{out.name}-{name}.pack").read_bytes()


def indexed_by_git(path: Path, data: bytes) -> tuple[bytes, bytes]:
    """The pack and the index that `git index-pack` makes of `data`."""
    git("init", "-q", "--bare", "-b", "main", str(path))
    git("index-pack", "--stdin", cwd=path, stdin=data)
    [pack] = (path / "objects" / "pack").glob("*.pack")
    return pack.read_bytes(), pack.with_suffix(".idx").read_bytes()


def published(path: Path) -> tuple[bytes, bytes]:
    """The one published pack and its index; there must be nothing else."""
    found = sorted(path.glob("objects/**/*"))
    names = [one for one in found if one.is_file()]
    assert [one.suffix for one in names] == [".idx", ".pack"]
    pack = names[1]
    assert pack.stem == "pack-" + pack.read_bytes()[-20:].hex() == names[0].stem
    return pack.read_bytes(), names[0].read_bytes()


WAYS = {
    "offsets": ["--delta-base-offset"],
    "names": [],
    "deep": ["--delta-base-offset", "--window=50", "--depth=400", "--no-reuse-delta"],
    "no deltas": ["--window=0", "--no-reuse-delta"],
    "stored": ["--delta-base-offset", "--compression=0", "--no-reuse-object"],
    "small pieces": ["--compression=9", "--depth=3", "--no-reuse-object", "--no-reuse-delta"],
}


@pytest.fixture(scope="module")
def made(repository: Path) -> dict[str, bytes]:
    """The repository's objects in packs, by the way in which they were made."""
    return {way: a_pack(repository, *words) for way, words in WAYS.items()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("processes", [1, 3])
def test_pack_and_index_are_those_of_git_byte_for_byte(
    repository: Path,
    made: dict[str, bytes],
    tmp_path: Path,
    way: str,
    processes: int,
) -> None:
    data, mirror = made[way], tmp_path / "m.git"
    limits = PackLimits(parallel_min_entries=1)
    count, links = receive(mirror, data, [65_515] * 1000, processes=processes, limits=limits)
    assert published(mirror) == indexed_by_git(tmp_path / "git.git", data)
    assert count == len(every_object(repository).split())
    assert links == true_links(repository)
    assert git("fsck", "--full", "--strict", "--no-dangling", cwd=mirror, check=False) == git(
        "fsck", "--full", "--strict", "--no-dangling", cwd=tmp_path / "git.git", check=False
    )
    git("verify-pack", str(next((mirror / "objects/pack").glob("*.idx"))))


@given(way=st.sampled_from(sorted(WAYS)), seed=st.integers(0, 2**32), most=st.sampled_from([2000, 300_000]))
@settings(
    derandomize=True,
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_pieces_of_any_size_come_to_the_same(
    made: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, way: str, seed: int, most: int
) -> None:
    rng, data = random.Random(seed), made[way]
    sizes = [rng.choice([0, 1, 11, 12, 13, 20, 32, rng.randrange(1, most)]) for _ in range(4000)]
    path = tmp_path_factory.mktemp("pieces")
    receive(path / "m.git", data, sizes)
    receive(path / "whole.git", data)
    assert published(path / "m.git") == published(path / "whole.git")


@pytest.mark.parametrize("after", range(1, 80))
def test_a_small_pack_may_be_cut_anywhere_into_pieces(tmp_path: Path, after: int) -> None:
    """Mirror tries to read every entry as soon as it may be complete."""
    pack = Crafted()
    first = pack.whole(BLOB, b"one")
    pack.offset_delta(first, delta(3, 4, copy(0, 3), insert(b"!")))
    pack.whole(BLOB, b"")
    pack.name_delta(name_of(BLOB, b""), delta(0, 5, insert(b"empty")))
    data = pack.done()
    receive(tmp_path / "m.git", data, [after])
    assert published(tmp_path / "m.git") == indexed_by_git(tmp_path / "git.git", data)


BOUNDS = {
    "large from the first byte": PackLimits(spill_bytes=1),
    "large from a few bytes": PackLimits(spill_bytes=300),
    "nothing is held": PackLimits(cache_bytes=0),
    "inflated as it comes": PackLimits(stream_min_bytes=0, piece_bytes=7),
    "some inflated as it comes": PackLimits(stream_min_bytes=200),
    "looked at all the time": PackLimits(gather_bytes=1),
    "shared out": PackLimits(parallel_min_entries=1, cache_bytes=0),
    "going ahead": PackLimits(ahead_min_entries=50, gather_bytes=2000),
    "columns in files": PackLimits(column_bytes=0),
    "columns grow": PackLimits(initial_entries=3),
    "few at a time": PackLimits(names_per_pass=5, names_per_chunk=7),
    "links forgotten": PackLimits(links_kept=3, links_per_read=1),
    "every tree by what it takes over": PackLimits(tree_marks_min_bytes=0),
    "all together": PackLimits(
        spill_bytes=3000,
        cache_bytes=5000,
        parallel_min_entries=1,
        ahead_min_entries=40,
        tree_marks_min_bytes=0,
        stream_min_bytes=900,
        gather_bytes=500,
        column_bytes=1000,
        initial_entries=30,
        names_per_pass=9,
    ),
}


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("way", ["deep", "names"])
def test_whatever_does_not_fit_goes_to_disk_and_nothing_changes(
    repository: Path, made: dict[str, bytes], tmp_path: Path, bounds: str, way: str
) -> None:
    _, links = receive(tmp_path / "m.git", made[way], [10_000] * 1000, processes=2, limits=BOUNDS[bounds])
    assert published(tmp_path / "m.git") == indexed_by_git(tmp_path / "git.git", made[way])
    assert links == true_links(repository)


def test_an_entry_ends_where_the_large_one_after_it_begins(tmp_path: Path) -> None:
    """What resolves ahead reads the last entry that is here while a large one is still arriving."""
    content = random.Random(3).randbytes(5000)
    pack = Crafted()
    pack.whole(TREE, b"100644 large\0" + name_of(BLOB, content))
    begins = pack.whole(BLOB, content)
    limits = PackLimits(stream_min_bytes=100, gather_bytes=1)
    path = tmp_path / "part.pack"
    with path.open("wb") as stream, closing(PackScanner(stream, tmp_path, limits)) as scanning:
        scanning.write(pack.done()[: begins + 2000])
        stream.flush()
        with closing(Resolver(path, scanning.entries, limits)) as resolver:
            resolver.resolve(processes=1)
            assert b"".join(resolver.links()) == name_of(BLOB, content)


@pytest.mark.parametrize("large", [SPILL_BYTES, 500])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_thin_pack_is_completed_from_what_is_there(
    repository: Path, tmp_path: Path, large: int, processes: int
) -> None:
    limits = PackLimits(spill_bytes=large, parallel_min_entries=1)
    mirror, other = tmp_path / "m.git", tmp_path / "git.git"
    old = a_pack(repository, "--revs", of=b"main~3\n")
    receive(mirror, old, limits=limits)
    indexed_by_git(other, old)
    thin = thin_of(repository)
    assert is_refused_by_git(tmp_path / "nothing.git", thin)
    count, _ = receive(mirror, thin, [777] * 100, processes=processes, limits=limits)
    assert count == int.from_bytes(thin[8:12], "big")
    git("index-pack", "--fix-thin", "--stdin", cwd=other, stdin=thin)
    assert every_object(mirror) == every_object(other)
    assert len(list(mirror.glob("objects/pack/*"))) == 4
    for index in mirror.glob("objects/pack/*.idx"):
        again = tmp_path / "again.idx"
        git("index-pack", "-o", str(again), str(index.with_suffix(".pack")))
        assert again.read_bytes() == index.read_bytes()
        again.unlink()
        git("verify-pack", str(index))
    assert "missing" not in git("fsck", "--full", "--no-dangling", cwd=mirror, check=False)


def thin_of(repository: Path) -> bytes:
    """What a server sends to a client that has all but the last three commits: some deltas have bases among
    these."""
    words = ["git", "pack-objects", "-q", "--thin", "--stdout", "--revs", "--delta-base-offset"]
    done = subprocess.run(words, cwd=repository, input=b"main\n^main~3\n", capture_output=True, check=True)
    return done.stdout


def test_an_empty_pack_changes_nothing(tmp_path: Path) -> None:
    create(tmp_path / "m.git")
    before = files(tmp_path / "m.git")
    assert receive(tmp_path / "m.git", Crafted().done()) == (0, set())
    assert files(tmp_path / "m.git") == before


def a_small_history() -> tuple[list[tuple[int, bytes]], bytes]:
    """A blob, a tree, a commit and a tag of it; returns the id of the tag."""
    blob = (BLOB, b"content\n")
    tree = (TREE, b"100644 a\0" + name_of(*blob))
    commit = (COMMIT, b"tree %s\nauthor %scommitter %s\nx\n" % (name_of(*tree).hex().encode(), WHO, WHO))
    tag = (TAG, b"object %s\ntype commit\ntag t\ntagger %s\nx\n" % (name_of(*commit).hex().encode(), WHO))
    return [blob, tree, commit, tag], name_of(*tag)


def test_an_object_may_come_twice(tmp_path: Path) -> None:
    need_git()
    pack = Crafted()
    objects, _ = a_small_history()
    for kind, content in objects * 2:
        pack.whole(kind, content)
    blob = objects[0][1]
    first = pack.whole(BLOB, blob)
    pack.offset_delta(first, delta(len(blob), len(blob), copy(0, len(blob))))
    pack.offset_delta(first, delta(len(blob), 3, copy(2, 3)))
    data = pack.done()
    for processes in (1, 2):
        mirror = tmp_path / f"{processes}.git"
        assert receive(mirror, data, processes=processes)[0] == 11
        assert published(mirror)[0] == data
        assert git("cat-file", "--batch-all-objects", "--batch-check", cwd=mirror).count("\n") == 5
        git("fsck", "--full", "--strict", cwd=mirror)
    assert published(tmp_path / "1.git") == indexed_by_git(tmp_path / "git.git", data)


def test_offsets_of_many_gigabytes_are_written_as_they_should(tmp_path: Path) -> None:
    limits = PackLimits(names_per_pass=100, names_per_chunk=13)
    rng = random.Random(1)
    rows, offset = [], 12
    with closing(EntryTable(tmp_path)) as entries:
        entries.grow(1000)
        for _ in range(1000):
            row = rng.randbytes(20), offset, rng.randrange(1 << 32)
            entries.add(BLOB, offset, offset + 2, 5, row[2], row[0])
            rows.append(row)
            offset += rng.choice([30, 1 << 20, 0x7FFFFFFF - offset if offset < 0x7FFFFFFF else 9, 1 << 30])
        write_index(tmp_path / "ours.idx", entries, b"c" * 20, limits)
    assert rows[-1][1] > 1 << 33
    with (tmp_path / "theirs.idx").open("wb") as stream:
        write_pack_index_v2(stream, sorted(rows), b"c" * 20)
    assert (tmp_path / "ours.idx").read_bytes() == (tmp_path / "theirs.idx").read_bytes()


def test_a_pack_whose_index_did_not_come_gets_the_same_one(made: dict[str, bytes], tmp_path: Path) -> None:
    receive(tmp_path / "m.git", made["deep"])
    before = published(tmp_path / "m.git")
    next((tmp_path / "m.git").glob("objects/pack/*.idx")).unlink()
    (tmp_path / "m.git" / "objects" / "pack" / "tmp_pack_left").write_bytes(b"over")
    sweep(tmp_path / "m.git")
    assert published(tmp_path / "m.git") == before


def test_a_damaged_pack_of_the_mirror_is_not_called_the_servers(
    made: dict[str, bytes], tmp_path: Path
) -> None:
    receive(tmp_path / "m.git", made["deep"])
    [index] = (tmp_path / "m.git").glob("objects/pack/*.idx")
    index.unlink()
    pack = index.with_suffix(".pack")
    pack.chmod(0o600)
    pack.write_bytes(made["deep"][:-1])
    with capture_logs() as logs:
        sweep(tmp_path / "m.git")
    [entry] = logs
    assert entry["event"] == "git.pack_without_index" and entry["file"] == pack.name
    assert entry["problem"] == "the local pack is damaged: its checksum is truncated"
    assert pack.exists() and not index.exists()


def test_small_pieces_cost_no_more_looks_than_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mirror does not inflate an incomplete entry again for every few bytes."""
    pack = Crafted()
    pack.whole(BLOB, random.Random(3).randbytes(900_000))
    data = pack.done()
    looks = []

    def looking(data: bytes, at: int, offset: int) -> tuple[int, int, int, bytes, int]:
        looks.append(at)
        return read_entry_header(data, at, offset)

    monkeypatch.setattr(scanner, "read_entry_header", looking)
    with (tmp_path / "p").open("wb") as stream, closing(PackScanner(stream, tmp_path)) as scan:
        for at in range(0, len(data), 100):
            scan.write(data[at : at + 100])
        assert scan.finish() == hashlib.sha1(data[:-20]).digest()
    assert len(looks) <= len(data) // DEFAULT_LIMITS.gather_bytes + 2


def test_another_object_under_a_name_that_is_held_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No two contents with one SHA-1 are available, so the test changes how the stored object reads."""
    need_git()
    made, mirror = tmp_path / "made.git", tmp_path / "m.git"
    git("init", "-q", "--bare", "-b", "main", str(made))
    blob = git("hash-object", "-w", "--stdin", cwd=made, stdin=b"one").strip()
    other = git("hash-object", "-w", "--stdin", cwd=made, stdin=b"two").strip()
    receiver = [
        subprocess.run(
            ["git", "pack-objects", "--stdout", "-q"],
            cwd=made,
            input=text.encode(),
            capture_output=True,
            check=True,
        ).stdout
        for text in (f"{blob}\n", f"{blob}\n{other}\n")
    ]
    create(mirror)
    receive(mirror, receiver[0])
    before = sorted(path.name for path in (mirror / "objects" / "pack").iterdir())
    monkeypatch.setattr(refs._Objects, "get_raw", lambda _self, _name: (3, b"not one"))
    with pytest.raises(GitFailed, match=f"as {blob}, which the mirror has"):
        receive(mirror, receiver[1])
    assert sorted(path.name for path in (mirror / "objects" / "pack").iterdir()) == before
    monkeypatch.undo()
    assert receive(mirror, receiver[1])[0] == 2
