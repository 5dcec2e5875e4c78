"""Requests to a git server: few of them, over few connections, to nobody else; and transfers that break."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from mirror.git.failures import GitFailed, GitNotFound, GitUnreachable
from mirror.git.mirrors.fetch import FetchJob, ProbeJob, fetch, probe, read_refs
from mirror.git.wire.limits import DEFAULT_FETCH_LIMITS, FetchLimits
from mirror.git.workers.job import OnProgress
from mirror.http import network, pools
from mirror.http.network import Network
from mirror.http.rates import MinimumRate
from tests.git.backend import GitBackend, git
from tests.git.served import GET, LOGIN, POST, get, is_equal, make_upstream, paths, state

pytestmark = pytest.mark.git


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return make_upstream(tmp_path)


@pytest.fixture
def backend(upstream: Path) -> Iterator[GitBackend]:
    with GitBackend(upstream.parent) as running:
        yield running


def test_nothing_new_costs_one_request_and_touches_nothing(backend: GitBackend, tmp_path: Path) -> None:
    mirror = tmp_path / "m.git"
    get(backend, mirror)
    before = state(mirror)
    backend.requests.clear()
    assert get(backend, mirror).changes == ()
    assert paths(backend) == [POST]
    assert state(mirror) == before


def test_a_first_mirror_costs_two_requests(backend: GitBackend, upstream: Path, tmp_path: Path) -> None:
    get(backend, tmp_path / "m.git")
    assert paths(backend) == [POST, POST]
    assert is_equal(tmp_path / "m.git", upstream)
    kind = backend.requests[0][1]
    assert kind["User-Agent"].startswith("git/")


def test_one_connection_serves_many_repositories(backend: GitBackend, upstream: Path, tmp_path: Path) -> None:
    for number in range(6):
        shutil.copytree(upstream, upstream.parent / f"{number}.git")
    for number in range(6):
        fetch(FetchJob(str(tmp_path / f"{number}.git"), f"{backend.url}/{number}.git"))
        backend.status = 404
        with pytest.raises(GitNotFound):
            fetch(FetchJob(str(tmp_path / "none.git"), f"{backend.url}/none.git"))
        backend.status = None
    assert len(backend.requests) > 12
    assert len(backend.connections) <= 1 + 6  # a refusal's connection is not kept


@pytest.mark.parametrize("when", ["at once", "for the list", "for the pack"])
def test_the_credential_goes_to_no_other_origin(
    backend: GitBackend, upstream: Path, tmp_path: Path, when: str
) -> None:
    with GitBackend(upstream.parent) as other:

        def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
            if b"command=ls-refs" in data and when != "at once":
                if when == "for the pack":
                    return False
                handler.send_response(405)
            elif b"command=fetch" in data or when != "for the pack":
                handler.send_response(307)
                handler.send_header("Location", other.url + handler.path)
            else:
                return False
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        backend.instead = instead
        with pytest.raises(GitFailed, match="redirects to another host"):
            get(backend, tmp_path / "m.git")
        assert other.requests == []
    assert all("Authorization" in headers for _, headers in backend.requests)
    assert LOGIN.password not in "".join(paths(backend))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_repository_that_has_another_name_is_followed(
    backend: GitBackend, upstream: Path, tmp_path: Path, status: int
) -> None:
    """The list is asked for where it has moved to, and so is the pack."""

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if handler.path.startswith("/up.git"):
            return False
        handler.send_response(status)
        handler.send_header("Location", handler.path.replace("/old-name", "/up"))
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    backend.instead = instead
    job = FetchJob(str(tmp_path / "m.git"), f"{backend.url}/old-name.git", LOGIN)
    fetch(job)
    assert is_equal(tmp_path / "m.git", upstream)
    assert fetch(job).changes == ()


def test_redirects_in_a_circle_end(backend: GitBackend, tmp_path: Path) -> None:
    backend.redirect = ""
    with pytest.raises(GitFailed, match="redirects more than"):
        get(backend, tmp_path / "m.git")
    assert len(backend.requests) < 10


@pytest.mark.parametrize("path", [POST, GET])
def test_a_connection_that_is_reset_is_tried_again(
    backend: GitBackend, upstream: Path, tmp_path: Path, path: str
) -> None:
    left = [2]

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if handler.path == path and left[0]:
            left[0] -= 1
            handler.close_connection = True
            return True
        if path == GET and handler.path == POST and GET not in paths(backend):
            handler.send_error(405)
            return True
        return False

    backend.instead = instead
    get(backend, tmp_path / "m.git")
    assert is_equal(tmp_path / "m.git", upstream)
    left[0] = 1000
    with pytest.raises(GitUnreachable):
        probe(f"{backend.url}/up.git", None)


@pytest.mark.parametrize("path", [POST, GET])
def test_silence_is_told(backend: GitBackend, tmp_path: Path, path: str) -> None:
    done = threading.Event()

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if handler.path == path:
            done.wait(20)
        else:
            handler.send_error(405)
        handler.close_connection = True
        return True

    backend.instead = instead
    try:
        with pytest.raises(GitUnreachable, match="fell silent"):
            probe(f"{backend.url}/up.git", None, silence_timeout=0.5)
    finally:
        done.set()


def _answer(handler: BaseHTTPRequestHandler, kind: str, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", f"application/x-git-{kind}")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(body)
    handler.close_connection = True


@pytest.mark.parametrize(
    "odd", ["another type", "a redirect elsewhere", "more than was asked for", "bad packets"]
)
def test_no_answer_is_left_open(
    backend: GitBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """Its socket would stay open until the garbage collector comes."""
    answers = []
    ask = pools.Pools.request

    def request(*words: Any, **named: Any) -> Any:
        answers.append(ask(*words, **named))
        return answers[-1]

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        rest = b"x" * 100_000
        able = b"000eversion 2\n000cls-refs\n0000"
        if handler.path == POST and GET not in paths(backend):
            handler.send_error(405)
        elif handler.path == POST and odd == "another type":
            _answer(handler, "receive-pack-result", rest)
        elif handler.path == POST:
            _answer(handler, "upload-pack-result", b"zzzz" + rest)
        elif "elsewhere" in handler.path:
            _answer(handler, "upload-pack-advertisement", able + rest)
        elif odd == "a redirect elsewhere":
            handler.send_response(302)
            handler.send_header("Location", "/elsewhere")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        elif odd == "bad packets":
            _answer(handler, "upload-pack-advertisement", b"zzzz" + rest)
        else:
            more = rest if odd == "more than was asked for" else b""
            _answer(handler, "upload-pack-advertisement", able + more)
        return True

    monkeypatch.setattr(pools.Pools, "request", request)
    backend.instead = instead
    with pytest.raises(GitFailed):
        get(backend, tmp_path / "m.git")
    assert len(answers) > 1
    assert all(answer.closed for answer in answers)


# --- transfers that break ---


@pytest.fixture
def told() -> list[str]:
    return []


def work_refs(mirror: Path) -> list[bytes]:
    return [name for name in read_refs(mirror, ours=True).refs if name.startswith(b"refs/mirror/work")]


def test_a_giant_comes_in_groups_of_refs(
    backend: GitBackend, upstream: Path, tmp_path: Path, told: list[str]
) -> None:
    mirror = tmp_path / "m.git"
    backend.break_above = 90_000  # all is 240,000
    get(backend, mirror, progress=OnProgress(lambda text, *_: told.append(text)))
    assert any("groups of" in text for text in told)
    assert is_equal(mirror, upstream)
    assert work_refs(mirror) == []
    assert not list(mirror.glob("objects/**/tmp*"))


def test_a_first_transfer_that_broke_late_is_no_reason_to_give_up(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    """However long it took: only several failures in a row are too many."""
    backend.break_above = 90_000
    limits = FetchLimits(failing_seconds=0.0)
    assert get(backend, tmp_path / "m.git", clock=time.monotonic, fetch_limits=limits).lacking == ()
    assert is_equal(tmp_path / "m.git", upstream)


def test_groups_come_the_oldest_first_and_so_do_the_halves_of_those_that_broke(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    """So each brings little more than what the one before it led to."""
    names = {}
    for line in git("for-each-ref", "--format=%(objectname) %(refname)", cwd=upstream).splitlines():
        value, name = line.split()
        names[value] = name.rpartition("/")[2]
    asked = []

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if b"command=fetch" in data:
            asked.append({names[one.decode()] for one in re.findall(rb"want ([0-9a-f]{40})", data)})
        return False

    backend.instead, backend.break_above = instead, 30_000  # all is 240,000, and a tag of two 20,000 more
    get(backend, tmp_path / "m.git")
    tags = [f"v{number}" for number in range(12)]
    pairs = [tags[at : at + 2] for at in range(0, 12, 2)]
    every = [[pair, *([one] for one in pair)] for pair in pairs]
    # The branches' own commits came with the tags.
    assert asked == [set(names.values()), *(set(group) for groups in every for group in groups)]


def test_a_giant_comes_over_several_runs(backend: GitBackend, upstream: Path, tmp_path: Path) -> None:
    """A server that gives little in each run: what came is held, and the next run goes on from there."""
    mirror = tmp_path / "m.git"
    limits = FetchLimits(failures=4, repeated_failures=4, failures_per_success=0)
    backend.break_above = 90_000
    held, runs = 0, 0
    while True:
        given = [0]

        def instead(handler: BaseHTTPRequestHandler, data: bytes, given: list[int] = given) -> bool:
            given[0] += b"command=fetch" in data
            backend.break_above = 90_000 if given[0] < 4 else 100
            return False

        backend.instead = instead
        runs += 1
        assert runs < 20
        result = get(backend, mirror, fetch_limits=limits)
        assert work_refs(mirror) == [] and len(result.refs.refs) > held
        if not result.lacking:
            break
        held = len(result.refs.refs)
        git("gc", "-q", "--prune=now", cwd=mirror)
        assert git("fsck", "--full", "--strict", cwd=mirror, check=False).count("missing") == 0
    assert runs > 2
    assert is_equal(mirror, upstream)
    assert work_refs(mirror) == []


def test_what_can_never_come_is_given_up(backend: GitBackend, tmp_path: Path) -> None:
    backend.break_above = 100
    with pytest.raises(GitUnreachable):
        get(backend, tmp_path / "m.git")
    assert len([path for path in paths(backend) if path == POST]) <= 2 + DEFAULT_FETCH_LIMITS.failures // 3
    assert read_refs(tmp_path / "m.git").refs == {}


class SlowClock:
    """Every look at it is a minute later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 60.0
        return self.now


def test_what_is_too_slow_is_given_up(
    backend: GitBackend, upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the pack's first byte on: a server may take long to get it ready."""
    blob = git("hash-object", "-w", "--stdin", cwd=upstream, stdin=os.urandom(2_000_000)).strip()
    git("update-ref", "refs/tags/large", blob, cwd=upstream)
    monkeypatch.setattr(network, "_in_force", Network(minimum_rate=MinimumRate(10**9)))
    with pytest.raises(GitUnreachable, match="bytes a second; given up"):
        get(backend, tmp_path / "m.git", clock=SlowClock())
    assert not list((tmp_path / "m.git").glob("objects/**/tmp*"))


def test_what_is_fast_enough_is_not(
    backend: GitBackend, upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_in_force", Network(minimum_rate=MinimumRate(0.0001)))
    get(backend, tmp_path / "m.git", clock=SlowClock())
    assert is_equal(tmp_path / "m.git", upstream)


@pytest.mark.parametrize("how", [ProbeJob, FetchJob])
def test_a_list_that_trickles_is_given_up(
    backend: GitBackend, tmp_path: Path, how: type[ProbeJob] | type[FetchJob]
) -> None:
    """Long before much of it has come."""
    limits = FetchLimits(read_bytes=4)
    over = threading.Event()

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-git-upload-pack-result")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not over.wait(0.01):
                handler.wfile.write(b"0")
        handler.close_connection = True
        return True

    backend.instead = instead
    url = f"{backend.url}/up.git"
    try:
        with pytest.raises(GitUnreachable, match="bytes a second; given up"):
            if how is ProbeJob:
                probe(url, None, clock=SlowClock(), fetch_limits=limits)
            else:
                fetch(FetchJob(str(tmp_path / "m.git"), url), clock=SlowClock(), fetch_limits=limits)
    finally:
        over.set()
