"""Heads of pull requests that the mirror's own server does not advertise, from C git's servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.git.failures import GitUnauthorized, GitUnreachable
from mirror.git.lfs.reachable import reachable_objects
from mirror.git.mirrors import pull_request_heads as heads_module
from mirror.git.mirrors.fetch import FetchJob, GitLogin, fetch, read_refs
from mirror.git.mirrors.fsck import CheckJob, check, direct_values
from mirror.git.mirrors.pull_request_heads import HeadsJob, HeadsResult, pin_heads
from mirror.reclaim.freeing import remove_refs
from tests.git.backend import GitBackend, git, need_git

pytestmark = pytest.mark.git


def commit(work: Path, text: str) -> str:
    (work / "file").write_text(text * 50)
    git("add", ".", cwd=work)
    git("commit", "-qm", text, cwd=work)
    return git("rev-parse", "HEAD", cwd=work).strip()


def lfs_commit(work: Path, oid: str) -> str:
    """A commit with a pointer to an LFS object, below a folder."""
    (work / "data").mkdir(exist_ok=True)
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid * 32}\nsize 5000\n"
    (work / "data" / f"{oid}.bin").write_text(text)
    return commit(work, f"{oid}\n")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    need_git()
    work = tmp_path / "work"
    git("init", "-q", "-b", "main", str(work))
    for number in range(5):
        commit(work, f"{number}\n")
    return work


@pytest.fixture
def backend(work: Path, tmp_path: Path) -> Iterator[GitBackend]:
    root = tmp_path / "root"
    git("clone", "-q", "--mirror", str(work), str(root / "up.git"))
    with GitBackend(root, user="ann", password="secret") as running:
        yield running


@pytest.fixture
def mirror(backend: GitBackend, tmp_path: Path) -> Path:
    path = tmp_path / "m.git"
    fetch(FetchJob(str(path), f"{backend.url}/up.git", GitLogin("ann", "secret")))
    return path


def ask(backend: GitBackend, mirror: Path, wants: dict[int, str], **more: object) -> HeadsResult:
    url = f"{backend.url}/{more.pop('name', 'fork')}.git"
    login = more.pop("login", GitLogin("ann", "secret"))
    return pin_heads(HeadsJob(str(mirror), url, wants, login, silence_timeout=30.0, **more))  # type: ignore[arg-type]


def fork(backend: GitBackend, work: Path, *branches: str) -> dict[str, str]:
    """A fork that was left behind, with a commit of its own on each branch."""
    git("clone", "-q", "--bare", str(work), str(backend.root / "fork.git"))
    git("update-ref", "refs/heads/main", "main~2", cwd=backend.root / "fork.git")
    heads = {}
    for name in branches:
        git("checkout", "-q", "-B", name, "main~2", cwd=work)
        heads[name] = commit(work, f"{name}\n")
        git("push", "-q", str(backend.root / "fork.git"), name, cwd=work)
    git("checkout", "-q", "main", cwd=work)
    return heads


def pins(mirror: Path) -> dict[int, str]:
    found = read_refs(mirror, ours=True).refs
    return {
        int(name.split(b"/")[3]): value
        for name, value in found.items()
        if name.startswith(b"refs/mirror/pull-requests/")
    }


def test_heads_of_a_fork_come_in_one_pack_and_are_asked_for_once(
    backend: GitBackend, work: Path, mirror: Path
) -> None:
    heads = fork(backend, work, "one", "two")
    before = read_refs(mirror)
    backend.requests.clear()
    wants = {1: heads["one"][:12], 2: heads["two"], 3: "0" * 11 + "1"}
    result = ask(backend, mirror, wants)
    assert result == HeadsResult({1: heads["one"], 2: heads["two"]}, (3,), None)
    assert pins(mirror) == {1: heads["one"], 2: heads["two"]}
    posts = [path for path, _ in backend.requests if path.endswith("/git-upload-pack")]
    assert len(posts) == 2  # the branches, and one pack
    assert read_refs(mirror) == before  # no ref of the mirror's own moved
    assert check(CheckJob(str(mirror), (heads["one"], heads["two"]))).problems == ()
    assert git("fsck", "--full", "--strict", cwd=mirror) == ""
    assert sum(len(list((mirror / "objects" / "pack").glob(kind))) for kind in ("*.pack", "*.idx")) == 4
    backend.requests.clear()
    again = ask(backend, mirror, {1: heads["one"][:12], 2: heads["two"]})
    assert again.pins == result.pins and backend.requests == []


def test_only_what_is_new_comes_from_a_fork_that_was_left_behind(
    backend: GitBackend, work: Path, mirror: Path
) -> None:
    heads = fork(backend, work, "one")
    git("update-ref", "-d", "refs/heads/main", cwd=backend.root / "fork.git")
    ask(backend, mirror, {1: heads["one"]})
    [_, small] = sorted(path.stat().st_size for path in (mirror / "objects/pack").glob("*.idx"))[::-1]
    # A commit, a tree and a blob; the header and tables of an index take 1072 bytes.
    assert small <= 1072 + 4 * 28 + 3 * 28


def test_a_fork_that_was_left_behind_farther_than_we_look_is_known_by_what_it_advertises(
    backend: GitBackend, work: Path, mirror: Path
) -> None:
    heads = fork(backend, work, "one")
    ask(backend, mirror, {1: heads["one"]}, history_max=1)
    assert min(path.stat().st_size for path in (mirror / "objects/pack").glob("*.idx")) <= 1072 + 7 * 28


def test_lfs_objects_of_what_was_let_go_and_comes_back_with_a_head_are_seen(
    backend: GitBackend, work: Path, mirror: Path
) -> None:
    """Its objects are still in a pack, where nothing that is new was to be found."""
    git("clone", "-q", "--bare", str(work), str(backend.root / "fork.git"))
    up = f"{backend.url}/up.git"
    old = lfs_commit(work, "ab")
    git("push", "-q", str(backend.root / "up.git"), "main", cwd=work)
    git("push", "-q", str(backend.root / "fork.git"), "main", cwd=work)
    fetch(FetchJob(str(mirror), up, GitLogin("ann", "secret")))
    git("update-ref", "refs/heads/main", "main~1", cwd=backend.root / "up.git")
    fetch(FetchJob(str(mirror), up, GitLogin("ann", "secret")))
    assert list(reachable_objects(mirror, save_cache=True)) == ["ab" * 32]
    # As prune lets it go where there is no C git.
    remove_refs(mirror, lambda _, value: value == old)
    assert reachable_objects(mirror, save_cache=True) == {}
    head = commit(work, "On top\n")
    git("push", "-q", str(backend.root / "fork.git"), "main:topic", cwd=work)
    assert ask(backend, mirror, {1: head}).pins == {1: head}
    assert list(reachable_objects(mirror, save_cache=True)) == ["ab" * 32]


def test_lfs_objects_that_came_before_a_fork_broke_off_are_seen_with_the_next_head(
    backend: GitBackend, work: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lfs_commit(work, "cd")  # so that there is something to save_cache
    git("push", "-q", str(backend.root / "up.git"), "main", cwd=work)
    fetch(FetchJob(str(mirror), f"{backend.url}/up.git", GitLogin("ann", "secret")))
    git("clone", "-q", "--bare", str(work), str(backend.root / "fork.git"))
    old = lfs_commit(work, "ab")
    git("push", "-q", str(backend.root / "fork.git"), "main:topic", "main:stays", cwd=work)

    def breaks_off(*_: object) -> set[str]:
        raise GitUnreachable("it answered 503")

    with monkeypatch.context() as patch:
        patch.setattr(heads_module._Server, "by_hash", breaks_off)
        with pytest.raises(GitUnreachable):
            ask(backend, mirror, {1: old, 2: "e" * 40})  # the branch came, what was to follow did not
    assert list(reachable_objects(mirror, save_cache=True)) == ["cd" * 32]
    head = commit(work, "The pull request moves on\n")
    git("push", "-q", str(backend.root / "fork.git"), "main:topic", cwd=work)
    assert ask(backend, mirror, {1: head}).pins == {1: head}
    assert list(reachable_objects(mirror, save_cache=True)) == ["ab" * 32, "cd" * 32]


def test_a_head_that_no_branch_has_comes_by_its_full_hash(
    backend: GitBackend, work: Path, mirror: Path
) -> None:
    heads = fork(backend, work, "one", "two")
    for name in ("one", "two"):
        git("update-ref", f"refs/heads/{name}", "main", cwd=backend.root / "fork.git")
    wants = {1: heads["one"], 2: heads["two"][:12], 3: "ab" * 20}
    result = ask(backend, mirror, wants)
    # Protocol version 2 gives what it has, advertised or not; twelve digits are no hash to ask for.
    assert result.pins == {1: heads["one"]}
    assert result.lacking == (3, 2)
    assert ask(backend, mirror, {2: heads["two"]}).pins == {2: heads["two"]}


def test_the_own_server_is_asked_by_hash_alone(backend: GitBackend, work: Path, mirror: Path) -> None:
    git("checkout", "-q", "-B", "topic", "main~1", cwd=work)
    lost = [commit(work, f"lost {number}\n") for number in range(6)]
    up = backend.root / "up.git"
    git("push", "-q", str(up), "topic", cwd=work)
    git("update-ref", "-d", "refs/heads/topic", cwd=up)
    wants = dict(enumerate(lost, start=1)) | {9: "cd" * 20, 10: "ef" * 6}
    backend.requests.clear()
    result = ask(backend, mirror, wants, name="up", own=True)
    assert result.pins == {number: value for number, value in wants.items() if number < 9}
    assert result.lacking == (9,)  # and of the one with twelve digits nothing is known
    assert len(backend.requests) <= 2 + 8


def test_a_server_that_gives_nothing_by_hash_is_not_asked_for_ever(backend: GitBackend, mirror: Path) -> None:
    wants = {number: f"{number:040x}" for number in range(1, 200)}
    backend.requests.clear()
    result = ask(backend, mirror, wants, name="up", own=True)
    assert result.pins == {} and len(result.lacking) == 199
    assert len(backend.requests) <= 2 + 12


@pytest.mark.parametrize("status", [403, 404, 410])
def test_the_refusal_of_a_fork_is_a_fact_about_it(backend: GitBackend, mirror: Path, status: int) -> None:
    before = direct_values(mirror)
    backend.status = status
    backend.requests.clear()
    result = ask(backend, mirror, {1: "ab" * 20})
    assert result.refused is not None and str(status) in result.refused
    assert result.lacking == (1,) and result.pins == {}
    assert direct_values(mirror) == before
    # Asked a second time as anybody, for the credential may be the reason; never more.
    signed = [("Authorization" in headers) for _, headers in backend.requests]
    assert list(dict.fromkeys(signed)) == [True, False] and len(signed) <= 4


def test_a_credential_that_a_fork_refuses_does_not_hide_a_public_one(
    backend: GitBackend, work: Path, mirror: Path
) -> None:
    heads = fork(backend, work, "one")
    backend.expected = None  # anybody may read
    with GitBackend(backend.root, user="nobody", password="else") as private:
        assert ask(private, mirror, {1: heads["one"]}).refused is not None
        with pytest.raises(GitUnauthorized):
            ask(private, mirror, {1: heads["one"]}, name="up", own=True)
    assert ask(backend, mirror, {1: heads["one"]}).pins == {1: heads["one"]}


@pytest.mark.parametrize(("fault", "value"), [("status", 503), ("cut", 200), ("stall", 200)])
def test_a_network_in_trouble_is_no_fact_about_a_fork(
    backend: GitBackend, work: Path, mirror: Path, fault: str, value: int
) -> None:
    heads = fork(backend, work, "one")
    before = {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()}
    setattr(backend, fault, value)
    with pytest.raises(GitUnreachable):
        ask(backend, mirror, {1: heads["one"]})
    assert {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()} == before


def test_a_pack_that_is_damaged_pins_nothing(backend: GitBackend, work: Path, mirror: Path) -> None:
    fork(backend, work)
    git("checkout", "-q", "-B", "one", "main", cwd=work)
    (work / "big").write_bytes(os.urandom(20_000))
    head = commit(work, "with something big\n")
    git("push", "-q", str(backend.root / "fork.git"), "one", cwd=work)
    before = {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()}
    backend.corrupt = 10_000
    result = ask(backend, mirror, {1: head[:12]})
    assert result.pins == {} and result.refused is not None
    assert {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()} == before


def test_another_head_of_a_pull_request_keeps_the_one_before(
    backend: GitBackend, work: Path, mirror: Path
) -> None:
    first = fork(backend, work, "one")["one"]
    ask(backend, mirror, {1: first})
    git("checkout", "-q", "-B", "one", "main~3", cwd=work)
    second = commit(work, "again\n")
    git("push", "-qf", str(backend.root / "fork.git"), "one", cwd=work)
    assert ask(backend, mirror, {1: second}).pins == {1: second}
    assert read_refs(mirror, ours=True).refs[b"refs/mirror/keep/" + first.encode()] == first
    git("gc", "-q", "--prune=now", cwd=mirror)
    assert check(CheckJob(str(mirror), (first, second))).problems == ()
