"""Mirror retries a busy git server, as it does the API, and reports the server's message."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from mirror.git.failures import GitFailed, GitForbidden, GitNotFound, GitUnauthorized, GitUnreachable
from mirror.git.mirrors.fetch import GitLogin
from mirror.git.wire import client as transport
from mirror.git.wire.client import HttpClient
from mirror.git.workers.clock import Watch
from mirror.http import network
from mirror.http.network import Network
from mirror.http.retries import TRIES_MAX, WAIT_MAX
from tests.git.backend import GitBackend
from tests.git.served import GET, LOGIN, POST, get, is_equal, make_upstream, paths

pytestmark = pytest.mark.git
NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


class Patience(Watch):
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    def now(self) -> float:
        return NOW.timestamp() + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_upstream(tmp_path_factory.mktemp("upstream"))


@pytest.fixture
def backend(upstream: Path) -> Iterator[GitBackend]:
    transport._DIRECT_LISTINGS.clear()
    with GitBackend(upstream.parent) as running:
        yield running


class Refusing:
    """Answers the next `times` requests for `paths` with a status, a text and headers."""

    def __init__(
        self, *paths: str, status: int, times: int = 1, text: str = "", after: str | None = None
    ) -> None:
        self.paths, self.status, self.left, self.text, self.after = paths, status, times, text, after
        self.kind = "text/plain"

    def __call__(self, handler: BaseHTTPRequestHandler, _: bytes) -> bool:
        if handler.path not in self.paths or not self.left:
            return False
        self.left -= 1
        handler.send_response(self.status)
        if self.after is not None:
            handler.send_header("Retry-After", self.after)
        handler.send_header("Content-Type", self.kind)
        handler.send_header("Content-Length", str(len(self.text)))
        handler.end_headers()
        handler.wfile.write(self.text.encode())
        return True


def client(backend: GitBackend, watch: Watch, login: GitLogin | None = LOGIN) -> HttpClient:
    return HttpClient(f"{backend.url}/up.git", login=login, silence_timeout=5, watch=watch)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["7", format_datetime(NOW.replace(second=7), usegmt=True), "7, 7;w=60"])
def test_it_comes_back_when_it_was_asked_to(backend: GitBackend, status: int, after: str) -> None:
    backend.instead = Refusing(POST, GET, status=status, times=1, after=after)
    watch = Patience()
    refs = client(backend, watch).list_refs()
    assert refs is not None and refs.refs
    assert watch.slept == [7.0]


def test_it_comes_back_by_itself_where_it_was_not_told_when(backend: GitBackend) -> None:
    backend.instead = Refusing(POST, GET, status=503, times=3)
    watch = Patience()
    assert client(backend, watch).list_refs() is not None
    assert len(watch.slept) == 3 and watch.slept[0] == 0.0 < watch.slept[1] < watch.slept[2]


def test_in_the_end_it_is_told_with_the_servers_words(backend: GitBackend) -> None:
    refusing = Refusing(POST, GET, status=503, times=99, text="Down for maintenance\x07 until noon")
    backend.instead = refusing
    with pytest.raises(GitUnreachable, match="answered 503: Down for maintenance until noon"):
        client(backend, Patience()).list_refs()
    assert 99 - refusing.left == 1 + TRIES_MAX


def test_for_very_long_it_is_not_waited(backend: GitBackend) -> None:
    refusing = Refusing(POST, GET, status=429, times=99, after="3600")
    backend.instead = refusing
    watch = Patience()
    with pytest.raises(GitUnreachable, match="asks to come back in 3600 s"):
        client(backend, watch).list_refs()
    assert 99 - refusing.left == 1 and max(watch.slept, default=0) <= WAIT_MAX


def test_a_pack_is_asked_for_again_too(backend: GitBackend, upstream: Path, tmp_path: Path) -> None:
    left = [2]

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if b"command=fetch" not in data or not left[0]:
            return False
        left[0] -= 1
        handler.send_error(503)
        return True

    backend.instead = instead
    get(backend, tmp_path / "m.git")
    assert is_equal(tmp_path / "m.git", upstream) and left == [0]


@pytest.mark.parametrize("path", [POST, GET])
def test_one_stray_refusal_costs_nothing(backend: GitBackend, path: str) -> None:
    backend.instead = Refusing(path, status=401)
    assert client(backend, Patience()).list_refs() is not None


@pytest.mark.parametrize(
    ("status", "error"), [(401, GitUnauthorized), (403, GitForbidden), (404, GitNotFound), (400, GitFailed)]
)
def test_every_refusal_has_the_servers_words_and_no_secret(
    backend: GitBackend, status: int, error: type[Exception]
) -> None:
    said = f"No way, {LOGIN.password}!"
    backend.instead = Refusing(POST, GET, status=status, times=99, text=said)
    with pytest.raises(error, match="No way, ") as caught:
        client(backend, Patience()).list_refs()
    assert LOGIN.password not in str(caught.value)


def test_a_page_is_told_by_its_title(backend: GitBackend) -> None:
    refusing = Refusing(POST, GET, status=403, times=99)
    refusing.text = "<html><head><title>Your IP is not allowed</title></head><body>x</body></html>"
    refusing.kind = "text/html; charset=utf-8"
    backend.instead = refusing
    with pytest.raises(GitForbidden, match=r": Your IP is not allowed$"):
        client(backend, Patience()).list_refs()


def test_one_repositorys_nonsense_says_nothing_of_the_others(backend: GitBackend) -> None:
    odd = Refusing("/odd.git/git-upload-pack", status=400, times=99)
    backend.instead = odd
    for name in ("odd.git", "up.git", "odd.git", "up.git"):
        one = HttpClient(f"{backend.url}/{name}", login=LOGIN, silence_timeout=5, watch=Patience())
        if name == "up.git":
            assert one.list_refs() is not None
        else:
            with pytest.raises(GitNotFound):
                one.list_refs()
    # The odd one got one such request; the other one request each time.
    assert [one for one in paths(backend) if "info/refs" not in one] == [
        "/odd.git/git-upload-pack",
        POST,
        POST,
    ]


def test_a_server_that_knows_no_such_request_is_not_asked_so_for_ever(backend: GitBackend) -> None:
    def instead(handler: BaseHTTPRequestHandler, _: bytes) -> bool:
        if "git-upload-pack" in handler.path and "info/refs" not in handler.path:
            handler.send_error(405)
            return True
        return False

    backend.instead = instead
    for number in range(6):
        one = HttpClient(f"{backend.url}/{number}.git", login=LOGIN, silence_timeout=5, watch=Patience())
        with pytest.raises(GitFailed):
            one.list_refs()
    assert sum("info/refs" not in one for one in paths(backend)) == 3


def test_a_head_that_trickles_is_given_up(backend: GitBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte arrives in time, but the headers never end."""
    monkeypatch.setattr(network, "_in_force", Network(head_timeout=0.3))
    over = threading.Event()

    def instead(handler: BaseHTTPRequestHandler, _: bytes) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        with contextlib.suppress(OSError):
            while not over.wait(0.05):
                handler.wfile.write(b"x")
        handler.close_connection = True
        return True

    backend.instead = instead
    one = HttpClient(f"{backend.url}/up.git", login=LOGIN, silence_timeout=0.5, watch=Patience())
    try:
        with pytest.raises(GitUnreachable, match="fell silent"):
            one.list_refs()
    finally:
        over.set()
