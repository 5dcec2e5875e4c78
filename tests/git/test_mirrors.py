"""Mirrors only gain objects, whatever the server does."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dulwich.protocol import pkt_line
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.errors import MirrorError
from mirror.git.failures import GitFailed, GitNotFound, GitUnauthorized, GitUnreachable
from mirror.git.mirrors.fetch import FetchJob, FetchResult, GitLogin, fetch, read_refs
from mirror.git.mirrors.fsck import CheckJob, check, direct_values
from mirror.git.wire import fetch_pack
from mirror.git.workers.pool import WorkerPool
from tests.git.backend import GitBackend, git, need_git

pytestmark = pytest.mark.git


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A bare repository with a short history, made by C git."""
    need_git()
    work, bare = tmp_path / "work", tmp_path / "root" / "up.git"
    git("init", "-q", "-b", "main", str(work))
    for number in range(4):
        (work / "file").write_text(f"{number}\n" * 50)
        git("add", ".", cwd=work)
        git("commit", "-qm", f"{number}", cwd=work)
    git("tag", "-a", "v1", "-m", "one", cwd=work)
    git("clone", "-q", "--mirror", str(work), str(bare))
    return bare


@pytest.fixture
def backend(upstream: Path) -> Iterator[GitBackend]:
    with GitBackend(upstream.parent, user="ann", password="secret") as running:
        yield running


def get(backend: GitBackend, mirror: Path, pins: dict[int, str] | None = None) -> FetchResult:
    login = GitLogin("ann", "secret")
    return fetch(FetchJob(str(mirror), f"{backend.url}/up.git", login, pins or {}, silence_timeout=30.0))


def test_a_second_fetch_of_nothing_new_changes_no_byte(backend: GitBackend, tmp_path: Path) -> None:
    mirror = tmp_path / "m.git"
    get(backend, mirror)
    before = {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()}
    again = get(backend, mirror)
    assert again.changes == () and again.received_objects == 0
    assert {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()} == before


def test_files_are_for_the_owner_alone(backend: GitBackend, tmp_path: Path) -> None:
    os.umask(0o022)
    mirror = tmp_path / "m.git"
    get(backend, mirror)
    for path in mirror.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("how", ["force-push", "delete", "forward", "directory"])
def test_every_value_that_a_ref_had_stays_reachable(
    backend: GitBackend, upstream: Path, tmp_path: Path, how: str
) -> None:
    mirror = tmp_path / "m.git"
    old = get(backend, mirror).refs.refs
    match how:
        case "force-push":
            git("update-ref", "refs/heads/main", "refs/heads/main~2", cwd=upstream)
        case "delete":
            git("update-ref", "-d", "refs/tags/v1", cwd=upstream)
        case "forward":
            tree = git("rev-parse", "main^{tree}", cwd=upstream).strip()
            commit = git("commit-tree", "-p", "main", "-m", "next", tree, cwd=upstream).strip()
            git("update-ref", "refs/heads/main", commit, cwd=upstream)
        case "directory":
            git("update-ref", "refs/heads/a", "main", cwd=upstream)
            get(backend, mirror)
            git("update-ref", "-d", "refs/heads/a", cwd=upstream)
            git("update-ref", "refs/heads/a/b", "main", cwd=upstream)
    result = get(backend, mirror)
    kinds = {change.kind for change in result.changes}
    expected = {"force-push": {"rewritten"}, "delete": {"removed"}, "forward": {"forwarded"}}
    assert kinds == expected.get(how, {"removed", "created"})
    git("gc", "-q", "--prune=now", cwd=mirror)
    assert set(old.values()) <= direct_values(mirror)
    assert check(CheckJob(str(mirror), tuple(old.values()))).problems == ()
    assert git("for-each-ref", "refs/heads", "refs/tags", cwd=mirror) == git("for-each-ref", cwd=upstream)


@pytest.mark.parametrize(
    ("fault", "value", "error"),
    [
        ("cut", 300, None),
        ("corrupt", 10_000, None),
        ("stall", 300, None),
        ("status", 503, GitUnreachable),
        ("status", 404, GitNotFound),
        ("status", 200, GitFailed),
        ("status", 403, GitFailed),
    ],
)
def test_a_transfer_that_fails_leaves_the_mirror_as_it_was(
    backend: GitBackend,
    upstream: Path,
    tmp_path: Path,
    fault: str,
    value: int,
    error: type[MirrorError] | None,
) -> None:
    mirror = tmp_path / "m.git"
    get(backend, mirror)
    before = {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()}
    work = tmp_path / "work"
    (work / "big").write_bytes(os.urandom(20_000))
    git("add", ".", cwd=work)
    git("commit", "-qm", "big", cwd=work)
    git("push", "-q", str(upstream), "main", cwd=work)
    setattr(backend, fault, value)
    if error is not None:
        with pytest.raises(error):
            get(backend, mirror)
    else:  # the server still lists its refs: the result reports only the ref whose objects it does not give
        result = get(backend, mirror)
        assert [name for name, _ in result.lacking] == [b"refs/heads/main"]
        assert result.changes == ()
        (mirror / fetch_pack.FILE).unlink()
    assert {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()} == before
    setattr(backend, fault, None)
    assert get(backend, mirror).received_objects > 0
    assert git("fsck", "--full", "--strict", cwd=mirror) == ""
    leftovers = [
        path.name for path in (mirror / "objects").rglob("*") if path.name.startswith(("tmp", "incoming"))
    ]
    assert leftovers == []


def test_a_refused_password_is_the_credentials_fault(backend: GitBackend, tmp_path: Path) -> None:
    job = FetchJob(str(tmp_path / "m.git"), f"{backend.url}/up.git", GitLogin("ann", "wr0ng-password"))
    with pytest.raises(GitUnauthorized) as caught:
        fetch(job)
    assert "wr0ng" not in str(caught.value) + repr(job)


def test_a_redirect_to_another_origin_is_not_followed(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    with GitBackend(upstream.parent) as other:
        backend.redirect = other.url
        backend.expected = None
        with pytest.raises(GitFailed, match="another host"):
            get(backend, tmp_path / "m.git")
        assert other.requests == []


def test_heads_of_pull_requests_are_pinned_by_short_hash(backend: GitBackend, tmp_path: Path) -> None:
    mirror = tmp_path / "m.git"
    head = get(backend, mirror).refs.refs[b"refs/heads/main"]
    result = get(backend, mirror, pins={7: head[:12], 8: "0123456789ab", 9: "not a hash!!"})
    assert result.pins == {7: head}
    assert result.unpinned == (8, 9)
    assert read_refs(mirror, ours=True).refs[b"refs/mirror/pull-requests/7/from"] == head


class LyingServer:
    """Speaks just enough of the old protocol to advertise any refs."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def __enter__(self) -> LyingServer:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/up.git"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        first, *rest = self._lines
        body = pkt_line(b"# service=git-upload-pack\n") + pkt_line(None)
        body += pkt_line(first + (b" " if b"\0" in first else b"\0") + b"ofs-delta side-band-64k\n")
        body += b"".join(pkt_line(line + b"\n") for line in rest) + pkt_line(None)
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
                    b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )


HOSTILE = [
    b"refs/../../victim", b"refs/heads/../../../victim", b"refs/heads/a..b", b"refs/heads/x.lock",
    b"refs/heads/\x01", b"refs/heads/sp ace", b"refs/heads/" + b"n" * 2000, b"refs/heads/", b"objects/info",
    b"refs/heads/a:b", b"refs/heads/-", b"config", b"/etc/passwd", b"refs//heads/x",
]  # fmt: skip


def test_hostile_names_are_refused_and_the_rest_is_mirrored(backend: GitBackend, tmp_path: Path) -> None:
    mirror = tmp_path / "inside" / "m.git"
    mirror.parent.mkdir()
    victim = tmp_path / "inside" / "victim"
    victim.write_text("alive")
    head = get(backend, mirror).refs.refs[b"refs/heads/main"].encode()
    lines = [head + b" refs/heads/good", *[head + b" " + name for name in HOSTILE]]
    with LyingServer(lines) as server:
        result = fetch(FetchJob(str(mirror), server.url))
    names = {name for name, _ in result.refused}
    assert names >= {name for name in HOSTILE if name != b"refs/heads/-"}
    assert b"refs/heads/good" in result.refs.refs
    assert victim.read_text() == "alive"
    assert (
        git("for-each-ref", "--format=%(refname)", "refs/heads/good", cwd=mirror).strip() == "refs/heads/good"
    )


def test_a_server_that_leaves_out_an_object_moves_no_ref(backend: GitBackend, tmp_path: Path) -> None:
    mirror = tmp_path / "m.git"
    before = get(backend, mirror).refs.refs
    with LyingServer([b"1" * 40 + b" refs/heads/main"]) as server, pytest.raises(MirrorError):
        fetch(FetchJob(str(mirror), server.url, silence_timeout=30.0))
    assert read_refs(mirror).refs == before


NAMES = ("refs/heads/a", "refs/heads/b", "refs/heads/a/x", "refs/tags/t")


@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), max_size=3), min_size=2, max_size=4)
)
@settings(
    derandomize=True,
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_keep_rule_holds_for_any_history(
    backend: GitBackend,
    upstream: Path,
    tmp_path_factory: pytest.TempPathFactory,
    states: list[dict[str, int]],
) -> None:
    mirror = tmp_path_factory.mktemp("keep") / "m.git"
    ever: set[str] = set()
    for state in states:
        if "refs/heads/a" in state and "refs/heads/a/x" in state:
            continue
        for line in git("for-each-ref", "--format=%(refname)", cwd=upstream).split():
            if line != "refs/heads/main":
                git("update-ref", "-d", line, cwd=upstream)
        for name, back in state.items():
            git("update-ref", name, f"refs/heads/main~{back}", cwd=upstream)
        ever |= set(get(backend, mirror).refs.refs.values())
        git("gc", "-q", "--prune=now", cwd=mirror)
    assert ever <= direct_values(mirror)
    assert git("fsck", "--full", "--strict", cwd=mirror) == ""


PARENT = """
import asyncio, os, sys
from mirror.git.mirrors.fetch import FetchJob
from mirror.git.workers.pool import WorkerPool
async def main():
    async with WorkerPool(1, environment=os.environ) as pool:
        task = asyncio.ensure_future(pool.run(FetchJob(sys.argv[1], sys.argv[2], silence_timeout=60)))
        while not pool._all: await asyncio.sleep(0.05)
        print(next(iter(pool._all)).process.pid, flush=True)
        await task
asyncio.run(main())
"""


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_worker_dies_with_its_parent(upstream: Path, tmp_path: Path) -> None:
    with GitBackend(upstream.parent) as backend:
        backend.stall = 200
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(tmp_path / "m.git"), f"{backend.url}/up.git"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.5)
        assert alive(worker)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        deadline = time.monotonic() + 60
        while alive(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(worker)


async def test_a_killed_worker_fails_its_job_and_is_replaced(upstream: Path, tmp_path: Path) -> None:
    with GitBackend(upstream.parent) as backend:
        backend.stall = 200
        async with WorkerPool(1, environment=os.environ) as pool:
            job = FetchJob(str(tmp_path / "m.git"), f"{backend.url}/up.git", silence_timeout=60)
            task = asyncio.ensure_future(pool.run(job))
            while not backend.requests:
                await asyncio.sleep(0.02)
            next(iter(pool._all)).process.kill()
            with pytest.raises(GitFailed, match="worker died"):
                await task
            backend.stall = None
            assert (await pool.run(job)).received_objects > 0
