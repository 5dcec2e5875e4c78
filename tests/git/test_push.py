"""Pushes to C git's own servers that accept only some refs, each with words of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from mirror.git.failures import GitUnreachable
from mirror.git.refs import read_refs
from mirror.git.wire.push import PushJob, PushResult, push
from mirror.http import retries
from mirror.restore.server import problems_of
from tests.git.backend import GitBackend, git, need_git
from tests.git.test_odd_objects import COMMITS, TAGS, TREES, Odd

pytestmark = pytest.mark.git


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF_FIRST", 0.01)


MAIN = b"refs/heads/main"
PULLS = [b"refs/pull-requests/%d/from" % number for number in range(1, 13)]


def commit(work: Path, name: str, size: int = 2000) -> str:
    (work / name).write_bytes(os.urandom(size))
    git("add", ".", cwd=work)
    git("commit", "-qm", name, cwd=work)
    return git("rev-parse", "HEAD", cwd=work).strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A mirror: a history of twelve commits, three branches, two tags, and refs of pull requests."""
    need_git()
    work, bare = tmp_path / "work", tmp_path / "source.git"
    git("init", "-q", "-b", "main", str(work))
    for number in range(12):
        commit(work, f"file-{number}")
    git("tag", "-a", "v1", "-m", "one", "main~6", cwd=work)
    git("tag", "v2", "main~2", cwd=work)
    for branch in ("b1", "b2"):
        git("checkout", "-q", "-b", branch, "main~3", cwd=work)
        commit(work, branch)
    git("clone", "-q", "--mirror", str(work), str(bare))
    for name in PULLS:
        git("update-ref", name.decode(), "main~1", cwd=bare)
    git("symbolic-ref", "HEAD", "refs/heads/main", cwd=bare)
    return bare


@pytest.fixture
def target(tmp_path: Path) -> Path:
    bare = tmp_path / "root" / "target.git"
    git("init", "-q", "--bare", "-b", "trunk", str(bare))
    return bare


@pytest.fixture
def backend(target: Path) -> Iterator[GitBackend]:
    with GitBackend(target.parent) as running:
        yield running


def bring(backend: GitBackend, source: Path, **more: object) -> PushResult:
    refs = dict(read_refs(source).refs)
    return push(PushJob(str(source), f"{backend.url}/target.git", None, refs, **more))  # type: ignore[arg-type]


def hook(target: Path, name: str, text: str) -> None:
    file = target / "hooks" / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def is_whole(target: Path, source: Path, but: set[bytes] = frozenset()) -> bool:  # type: ignore[assignment]
    """Whether the target has every ref except these, with everything that it reaches."""
    assert "missing" not in git("fsck", "--connectivity-only", "--no-dangling", cwd=target, check=False)
    wanted = {name: value for name, value in read_refs(source).refs.items() if name not in but}
    return dict(read_refs(target).refs) == wanted


def test_a_target_that_takes_all_gets_all_in_one_push(
    backend: GitBackend, source: Path, target: Path
) -> None:
    result = bring(backend, source)
    assert result.refused == () and result.error is None
    assert is_whole(target, source)
    # Branches and tags, then the others.
    assert sum(1 for path, _ in backend.requests if path.endswith("/git-receive-pack")) == 2
    assert bring(backend, source).pushed == ()


def test_odd_objects_come_back_as_they_were(tmp_path: Path, target: Path, backend: GitBackend) -> None:
    odd = Odd(tmp_path / "odd")
    parent = odd.good
    for number, rest in enumerate(COMMITS.values()):
        parent = odd.commit(rest, odd.tree, parent)
        odd.point(f"refs/heads/c{number}", parent)
    for number, rest in enumerate(TAGS.values()):
        odd.point(f"refs/tags/t{number}", odd.made("tag", f"object {parent}\n".encode() + rest))
    names = {b"tree": odd.tree, b"blob": odd.blob, b"other": odd.other}
    for number, content in enumerate(TREES.values()):
        tree = odd.made("tree", content % {key: bytes.fromhex(value) for key, value in names.items()})
        odd.point(f"refs/heads/t{number}", odd.commit(b"\nx\n", tree, odd.good))
    result = bring(backend, odd.bare)
    assert result.refused == ()
    assert is_whole(target, odd.bare)
    objects = ("rev-list", "--objects", "--all")
    assert sorted(git(*objects, cwd=target).split("\n")) == sorted(git(*objects, cwd=odd.bare).split("\n"))


def test_hidden_refs_are_declined_one_by_one(backend: GitBackend, source: Path, target: Path) -> None:
    git("config", "transfer.hideRefs", "refs/pull-requests", cwd=target)
    result = bring(backend, source)
    assert dict(result.refused) == dict.fromkeys(PULLS, "deny updating a hidden ref")
    assert is_whole(target, source, but=set(PULLS))
    assert len(backend.requests) < 10  # after a refusal of a single ref, Mirror does not push it again


def test_a_hook_that_declines_the_whole_push_for_one_ref(
    backend: GitBackend, source: Path, target: Path
) -> None:
    hook(
        target,
        "pre-receive",
        'grep -q refs/heads/b1 && echo "b1 is protected: ask Ann" >&2 && exit 1; exit 0',
    )
    result = bring(backend, source)
    [(name, why)] = result.refused
    assert name == b"refs/heads/b1"
    assert why.startswith("pre-receive hook declined") and "b1 is protected: ask Ann" in why
    assert is_whole(target, source, but={name})


def test_a_hook_for_one_ref_keeps_the_others(backend: GitBackend, source: Path, target: Path) -> None:
    hook(target, "update", 'case "$1" in refs/tags/*) echo "no tags here" >&2; exit 1;; esac')
    result = bring(backend, source)
    assert [name for name, _ in result.refused] == [b"refs/tags/v1", b"refs/tags/v2"]
    assert all("hook declined" in why and "no tags here" in why for _, why in result.refused)
    assert is_whole(target, source, but={name for name, _ in result.refused})


def test_one_bad_object_keeps_only_its_branch_out(backend: GitBackend, source: Path, target: Path) -> None:
    git("config", "receive.fsckObjects", "true", cwd=target)
    folder = git("rev-parse", "main^{tree}", cwd=source).strip()
    tree = git(
        "hash-object", "-w", "--literally", "-t", "tree", "--stdin",
        cwd=source, stdin=b"040000 d\0" + bytes.fromhex(folder),
    ).strip()  # fmt: skip
    old = git("commit-tree", "-m", "old", tree, cwd=source).strip()
    child = git("commit-tree", "-m", "child", "-p", old, folder, cwd=source).strip()
    git("update-ref", "refs/heads/old", child, cwd=source)
    result = bring(backend, source)
    [(name, why)] = result.refused
    assert name == b"refs/heads/old"
    assert "zeroPaddedFilemode" in why and tree in why
    assert is_whole(target, source, but={name})


def test_a_history_above_the_size_limit_comes_in_steps(
    backend: GitBackend, source: Path, target: Path
) -> None:
    git("config", "receive.maxInputSize", "9000", cwd=target)  # everything is 28,000
    result = bring(backend, source)
    assert result.refused == () and result.error is None
    assert is_whole(target, source)
    assert len(backend.requests) < 60


def test_a_tag_with_a_large_history_of_its_own_leaves_nothing_behind(
    backend: GitBackend, source: Path, target: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    git("checkout", "-q", "--orphan", "apart", cwd=work)
    git("rm", "-rfq", ".", cwd=work)
    for number in range(6):
        commit(work, f"apart-{number}", 3000)
    git("tag", "-a", "apart", "-m", "apart", cwd=work)
    git("fetch", "-q", str(work), "refs/tags/apart:refs/tags/apart", cwd=source)
    git("config", "receive.maxInputSize", "13000", cwd=target)
    result = bring(backend, source)
    assert result.refused == ()
    assert is_whole(target, source)


def test_a_commit_above_the_size_limit_is_named_with_how_far_it_came(
    backend: GitBackend, source: Path, target: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    git("checkout", "-q", "-b", "large", "main", cwd=work)
    commit(work, "before")
    commit(work, "large", 30_000)
    commit(work, "after")
    git("fetch", "-q", str(work), "large:refs/heads/large", cwd=source)
    git("config", "receive.maxInputSize", "9000", cwd=target)
    result = bring(backend, source)
    [(name, why)] = result.refused
    assert name == b"refs/heads/large"
    before = git("rev-parse", "large~2", cwd=source).strip()
    assert f"it is at {before[:12]} there, 2 of" in why
    assert "exceeds maximum allowed size" in why
    assert git("rev-parse", "refs/heads/large", cwd=target).strip() == before
    assert is_whole(target, source, but={name}) or dict(read_refs(target).refs)[name] == before


@pytest.mark.parametrize("place", ["server", "here"])
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_what_the_mirror_itself_cannot_give_keeps_only_its_own_refs_out(
    backend: GitBackend, source: Path, target: Path, how: str, place: str
) -> None:
    value = git("rev-parse", "b1:b1", cwd=source).strip()
    file = source / "objects" / value[:2] / value[2:]
    data = file.read_bytes()
    file.unlink()
    if how == "damaged":
        file.write_bytes(data[:-20])
    if place == "server":
        result = bring(backend, source)
    else:
        result = push(PushJob(str(source), target.as_uri(), None, dict(read_refs(source).refs)))
    [(name, why)] = result.refused
    assert result.damaged == {name} == {b"refs/heads/b1"}
    assert (value in why) if how == "lost" else "damaged" in why
    [(code, text)] = problems_of(result, overwrite=False)
    assert code == 4 and "refs/heads/b1" in text and "mirror verify" in text
    assert is_whole(target, source, but={name})


@pytest.mark.parametrize("how", ["413", "cut off", "502"])
def test_a_gateway_with_a_limit_is_met_in_steps(
    backend: GitBackend, source: Path, target: Path, how: str
) -> None:
    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if handler.command != "POST" or len(data) < 9000:
            return False
        handler.close_connection = True
        if how != "cut off":
            handler.send_response(int(how))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        return True

    backend.instead = instead
    result = bring(backend, source)
    assert result.refused == () and result.error is None
    assert is_whole(target, source)


def test_what_came_before_a_target_goes_away_is_told(backend: GitBackend, source: Path, target: Path) -> None:
    pushes: list[int] = []

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        del data
        pushes.append(handler.command == "POST")
        if sum(pushes) == 2:
            backend.status = 503
        return False

    backend.instead = instead
    result = bring(backend, source)
    assert isinstance(result.error, GitUnreachable)
    assert set(result.pushed) == set(read_refs(target).refs)
    assert {name for name, _ in result.refused} == set(PULLS)
    assert all(why.startswith("not reached: ") for _, why in result.refused)


# --- the default branch ---


def test_over_http_it_is_told_which_default_branch_to_set(
    backend: GitBackend, source: Path, target: Path
) -> None:
    found = bring(backend, source, default=MAIN).default
    assert found is not None
    assert (found.wanted, found.theirs, found.is_set) == (MAIN, None, False)
    git("symbolic-ref", "HEAD", "refs/heads/b1", cwd=target)
    found = bring(backend, source, default=MAIN).default
    assert found is not None and found.theirs == b"refs/heads/b1"
    git("symbolic-ref", "HEAD", "refs/heads/main", cwd=target)
    assert bring(backend, source, default=MAIN).default is None


def test_in_a_local_repository_it_is_set(source: Path, target: Path, tmp_path: Path) -> None:
    refs = dict(read_refs(source).refs)
    found = push(PushJob(str(source), target.as_uri(), None, refs, default=MAIN)).default
    assert found is not None and found.is_set
    git("clone", "-q", str(target), str(tmp_path / "clone"))
    assert (tmp_path / "clone" / "file-11").exists()
    # A default branch that was set before is a person's choice.
    other = tmp_path / "other.git"
    git("clone", "-q", "--bare", "-b", "b1", str(source), str(other))
    found = push(PushJob(str(source), other.as_uri(), None, refs, default=MAIN)).default
    assert found is not None and (found.theirs, found.is_set) == (b"refs/heads/b1", False)
    found = push(PushJob(str(source), other.as_uri(), None, refs, default=MAIN, overwrite=True)).default
    assert found is not None and found.is_set
    assert git("symbolic-ref", "HEAD", cwd=other).strip() == "refs/heads/main"


def test_a_repository_with_a_work_tree_keeps_its_branch(source: Path, tmp_path: Path) -> None:
    git("init", "-q", "-b", "trunk", str(tmp_path / "tree"))
    refs = dict(read_refs(source).refs)
    found = push(PushJob(str(source), (tmp_path / "tree").as_uri(), None, refs, default=MAIN)).default
    assert found is not None and not found.is_set
    assert git("symbolic-ref", "HEAD", cwd=tmp_path / "tree").strip() == "refs/heads/trunk"
