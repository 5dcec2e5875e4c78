"""Upstreams that cannot give some of what they advertise: the rest arrives, and the result names what did
not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from mirror.backup.git.mirrors import part_of_refs
from mirror.errors import MirrorError
from mirror.git.failures import GitUnreachable
from mirror.git.mirrors.fetch import FetchJob, FetchResult, fetch
from mirror.git.mirrors.fsck import CheckJob, check
from mirror.git.refs import read_head, read_refs
from mirror.git.wire import fetch_pack
from mirror.git.wire.limits import DEFAULT_FETCH_LIMITS
from mirror.http import retries
from mirror.model import Head, PartState
from tests.git.backend import GitBackend, git, need_git

pytestmark = pytest.mark.git


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF_FIRST", 0.01)


MAIN, BAD, TAG = b"refs/heads/main", b"refs/heads/bad", b"refs/tags/t"
BRANCHES = 20


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A bare repository of loose objects: `main`, some branches from it, and `bad` with a history of its
    own."""
    need_git()
    work, bare = tmp_path / "work", tmp_path / "root" / "up.git"
    git("init", "-q", "-b", "main", str(work))
    for number in range(4):
        commit(work, f"file-{number}")
    for number in range(BRANCHES):
        git("checkout", "-q", "-b", f"b{number:02}", "main", cwd=work)
        commit(work, f"branch-{number}")
    git("checkout", "-q", "-b", "bad", "main", cwd=work)
    for number in range(3):
        commit(work, f"bad-{number}")
    git("checkout", "-q", "main", cwd=work)
    git("clone", "-q", "--mirror", str(work), str(bare))
    return bare


def commit(work: Path, name: str) -> str:
    (work / name).write_text(f"{name}\n" * 50)
    git("add", ".", cwd=work)
    git("commit", "-qm", name, cwd=work)
    return git("rev-parse", "HEAD", cwd=work).strip()


@pytest.fixture
def backend(upstream: Path) -> Iterator[GitBackend]:
    with GitBackend(upstream.parent) as running:
        yield running


def get(backend: GitBackend, mirror: Path) -> FetchResult:
    return fetch(FetchJob(str(mirror), f"{backend.url}/up.git", silence_timeout=30.0))


def hand_over(work: Path, upstream: Path, branch: str) -> None:
    """Does what a push does, without the checks, because the repository is damaged."""
    pack = git_bytes("pack-objects", "-q", "--stdout", "--revs", cwd=work, stdin=f"{branch}\n^{branch}~1\n")
    git("unpack-objects", "-q", cwd=upstream, stdin=pack)
    (upstream / "refs" / "heads" / branch).write_text(git("rev-parse", branch, cwd=work))


def git_bytes(*words: str, cwd: Path, stdin: str) -> bytes:
    return subprocess.run(
        ["git", *words], cwd=cwd, input=stdin.encode(), capture_output=True, check=True
    ).stdout


def fetches(backend: GitBackend) -> int:
    return sum(1 for path, _ in backend.requests if path.endswith("git-upload-pack"))


def loose(upstream: Path, what: str) -> Path:
    value = git("rev-parse", what, cwd=upstream).strip()
    return upstream / "objects" / value[:2] / value[2:]


def lose(upstream: Path, what: str) -> None:
    loose(upstream, what).unlink()


def damage(upstream: Path, what: str) -> None:
    file = loose(upstream, what)
    data = file.read_bytes()
    file.unlink()  # it may be one file, shared with another repository
    file.write_bytes(data[:10] + b"\0\0\0\0" + data[14:])


SPOILED: dict[str, Callable[[Path], None]] = {
    "its tree is lost": lambda up: lose(up, "bad^{tree}"),
    "its file is lost": lambda up: lose(up, "bad:bad-2"),
    "its file is damaged": lambda up: damage(up, "bad:bad-1"),
    "its tree is damaged": lambda up: damage(up, "bad~1^{tree}"),
    "an older commit is lost": lambda up: lose(up, "bad~2"),
    "an older commit is damaged": lambda up: damage(up, "bad~1"),
}


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("how", SPOILED)
def test_one_bad_branch_costs_no_other(
    backend: GitBackend, upstream: Path, tmp_path: Path, how: str, is_old: bool
) -> None:
    mirror = tmp_path / "m.git"
    backend.is_old = is_old
    SPOILED[how](upstream)
    result = get(backend, mirror)
    wanted = dict(read_refs(upstream).refs)
    bad = wanted.pop(BAD)
    assert result.refs.refs == read_refs(mirror).refs == wanted
    assert [name for name, _ in result.lacking] == [BAD]
    [(_, reason)] = result.lacking
    assert re.search("refuses|there: |failed|hung up|left out", reason)
    assert fetches(backend) < (40 if is_old else 20)
    part = part_of_refs(result, {"refs": len(wanted)})
    assert part.state is PartState.PARTIAL
    assert part.reason is not None and "refs/heads/bad" in part.reason and reason in part.reason
    assert check(CheckJob(str(mirror), tuple(wanted.values()))).problems == ()
    # The next run asks only for it, and sees the others move on.
    work = tmp_path / "work"
    new = commit(work, "newer")
    hand_over(work, upstream, "main")
    backend.requests.clear()
    result = get(backend, mirror)
    assert [name for name, _ in result.lacking] == [BAD] and result.refs.refs[MAIN] == new
    assert fetches(backend) <= (8 if is_old else 5)
    # After the repair it arrives.
    (upstream / "refs/heads/bad").write_text(git("rev-parse", "main~2", cwd=work))
    result = get(backend, mirror)
    assert result.lacking == () and read_refs(mirror).refs[BAD] != bad
    assert not (mirror / fetch_pack.FILE).exists()
    backend.requests.clear()
    assert get(backend, mirror).changes == ()
    assert fetches(backend) == 1


def test_a_branch_that_went_bad_stays_as_it_was_held(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    mirror = tmp_path / "m.git"
    before = get(backend, mirror).refs.refs
    work = tmp_path / "work"
    git("checkout", "-q", "bad", cwd=work)
    commit(work, "worse")
    git("push", "-q", str(upstream), "bad", cwd=work)
    git("update-ref", "-d", "refs/heads/b00", cwd=upstream)
    lose(upstream, "bad:worse")
    result = get(backend, mirror)
    assert [name for name, _ in result.lacking] == [BAD]
    assert result.refs.refs[BAD] == read_refs(mirror).refs[BAD] == before[BAD]
    assert [(one.name, one.kind) for one in result.changes] == [(b"refs/heads/b00", "removed")]
    git("gc", "-q", "--prune=now", cwd=mirror)
    assert check(CheckJob(str(mirror), tuple(before.values()))).problems == ()


def test_a_default_branch_that_cannot_be_had_is_unborn(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    git("symbolic-ref", "HEAD", "refs/heads/bad", cwd=upstream)
    lose(upstream, "bad^{tree}")
    result = get(backend, tmp_path / "m.git")
    assert result.refs.head == read_head(tmp_path / "m.git") == Head("unborn", BAD)


def test_a_tag_on_what_is_lost(backend: GitBackend, upstream: Path, tmp_path: Path) -> None:
    git("tag", "-a", "t", "-m", "t", "bad", cwd=upstream)
    git("update-ref", "-d", "refs/heads/bad", cwd=upstream)
    lose(upstream, "t^{commit}")
    result = get(backend, tmp_path / "m.git")
    assert [name for name, _ in result.lacking] == [TAG]
    assert len(result.refs.refs) == BRANCHES + 1
    assert TAG not in result.refs.peeled


@pytest.mark.parametrize("is_old", [False, True])
def test_a_shallow_upstream_gives_what_is_whole(
    backend: GitBackend, upstream: Path, tmp_path: Path, is_old: bool
) -> None:
    backend.is_old = is_old
    work, shallow = tmp_path / "work", tmp_path / "root" / "shallow.git"
    git("branch", "first", "main~3", cwd=work)
    git("clone", "-q", "--bare", "--depth", "1", f"file://{work}", str(shallow))
    git("fetch", "-q", f"file://{work}", "first:refs/heads/first", cwd=shallow)
    upstream.rename(tmp_path / "other.git")
    shallow.rename(upstream)
    result = get(backend, tmp_path / "m.git")
    assert [name for name, _ in result.lacking] == [MAIN]
    assert set(result.refs.refs) == {b"refs/heads/first"}
    assert result.refused == ()
    if not is_old:  # the old protocol reports it in another place
        assert "shallow" in result.lacking[0][1]


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("how", ["deleted", "rewritten"])
def test_a_ref_that_moves_between_list_and_fetch_is_no_fault(
    backend: GitBackend, upstream: Path, tmp_path: Path, how: str, is_old: bool
) -> None:
    backend.is_old = is_old
    done: list[bool] = []

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        del handler
        if b"want " in data and not done:
            done.append(True)
            words = ("-d", "refs/heads/bad") if how == "deleted" else ("refs/heads/bad", "main~2")
            git("update-ref", *words, cwd=upstream)
            git("gc", "-q", "--prune=now", cwd=upstream)
        return False

    backend.instead = instead
    result = get(backend, tmp_path / "m.git")
    assert done and result.lacking == () and result.refused == ()
    assert read_refs(tmp_path / "m.git").refs == read_refs(upstream).refs
    assert (BAD in result.refs.refs) == (how == "rewritten")


BEGUN = b"0019\x02Enumerating objects.\n" + b"0014\x01PACK\0\0\0\2\0\0\0\x7f"
FATAL = b"000dpackfile\n0039\x03aborting due to possible repository corruption here"
# The status, the body, and whether the body has the length that the header promises.
DYING = {
    "in the middle of a pack": (200, BEGUN, False),
    "before it says a word": (200, b"", True),
    "with an error of its gateway": (502, b"<html>", True),
    "with an error of its own": (500, b"<html>", True),
    "with words": (200, b"0028ERR upload-pack: not our ref 12345678\n", True),
    "with a fatal error": (200, FATAL, True),
}


@pytest.mark.parametrize("how", DYING)
def test_a_server_that_dies_while_it_packs(
    backend: GitBackend, upstream: Path, tmp_path: Path, how: str
) -> None:
    """With two bad branches, wherever they are among the others."""
    values = read_refs(upstream).refs
    bad = {values[BAD], values[b"refs/heads/b07"]}
    status, body, is_whole = DYING[how]

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if not any(f"want {one}".encode() in data for one in bad):
            return False
        handler.send_response(status)
        kind = "application/x-git-upload-pack-result" if status == 200 else "text/html"
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body) + (0 if is_whole else 1000)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True
        return True

    backend.instead = instead
    result = get(backend, tmp_path / "m.git")
    assert [name for name, _ in result.lacking] == [b"refs/heads/b07", BAD]
    assert result.refs.refs == {name: value for name, value in values.items() if value not in bad}
    assert fetches(backend) < 40


def test_a_server_that_gives_nothing_is_soon_left_alone(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    for number in range(400):
        git("update-ref", f"refs/heads/many-{number}", f"main~{number % 4}", cwd=upstream)

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if b"command=fetch" not in data:
            return False
        body = b"0028ERR upload-pack: out of memory      \n"
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-git-upload-pack-result")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    backend.instead = instead
    with pytest.raises(MirrorError, match="out of memory"):
        get(backend, tmp_path / "m.git")
    assert fetches(backend) <= DEFAULT_FETCH_LIMITS.failures + 3
    assert read_refs(tmp_path / "m.git").refs == {}


def test_a_server_that_goes_away_is_no_reason_to_name_a_ref(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    mirror = tmp_path / "m.git"
    get(backend, mirror)
    work = tmp_path / "work"
    commit(work, "newer")
    git("push", "-q", str(upstream), "main", cwd=work)
    before = read_refs(mirror).refs

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if b"command=fetch" in data:
            backend.status = 503
        del handler
        return False

    backend.instead = instead
    with pytest.raises(GitUnreachable):
        get(backend, mirror)
    assert read_refs(mirror).refs == before


def test_many_bad_refs_hold_up_no_new_one(backend: GitBackend, upstream: Path, tmp_path: Path) -> None:
    """Whatever is bad: Mirror asks last for what was unavailable the last time."""
    mirror, work = tmp_path / "m.git", tmp_path / "work"
    lose(upstream, "main~2:file-1")
    for number in range(60):
        base = git("commit-tree", "-p", "main", "-m", f"{number}", "main^{tree}", cwd=work).strip()
        git("push", "-q", str(upstream), f"{base}:refs/heads/more-{number}", cwd=work)
    git("checkout", "-q", "--orphan", "apart", cwd=work)
    git("rm", "-rfq", ".", cwd=work)
    commit(work, "of its own")
    git("push", "-q", str(upstream), "apart:refs/tags/apart", cwd=work)
    result = get(backend, mirror)
    assert set(result.refs.refs) == {b"refs/tags/apart"}
    assert len(result.lacking) == BRANCHES + 62
    commit(work, "also of its own")
    git("push", "-q", str(upstream), "apart:refs/heads/zz", cwd=work)
    backend.requests.clear()
    assert b"refs/heads/zz" in get(backend, mirror).refs.refs
    assert fetches(backend) < 2 * DEFAULT_FETCH_LIMITS.failures
