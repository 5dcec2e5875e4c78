"""Git servers with wrong or unexpected responses: Mirror never waits for them without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from dulwich.protocol import pkt_line

from mirror.errors import MirrorError
from mirror.git.failures import GitFailed, GitUnauthorized
from mirror.git.mirrors.fetch import read_refs
from mirror.git.wire.limits import FetchLimits
from tests.git.backend import GitBackend, git
from tests.git.served import GET, POST, get, is_equal, make_upstream, paths, state

pytestmark = pytest.mark.git


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return make_upstream(tmp_path)


@pytest.fixture
def backend(upstream: Path) -> Iterator[GitBackend]:
    with GitBackend(upstream.parent) as running:
        yield running


def test_a_server_of_the_old_protocol_is_mirrored(
    backend: GitBackend, upstream: Path, tmp_path: Path
) -> None:
    backend.is_old = True
    mirror = tmp_path / "m.git"
    result = get(backend, mirror)
    assert is_equal(mirror, upstream)
    assert result.refs.head is not None and result.refs.head.value == b"refs/heads/main"
    assert set(result.refs.peeled) == {b"refs/tags/v%d" % number for number in range(12)}
    git("update-ref", "refs/heads/main", "main~2", cwd=upstream)
    assert [change.kind for change in get(backend, mirror).changes] == ["rewritten"]
    before, backend.requests = state(mirror), []
    get(backend, mirror)
    assert paths(backend) == [GET]
    assert state(mirror) == before


def of_the_blue(
    backend: GitBackend, status: int, headers: dict[str, str], body: bytes
) -> Callable[[BaseHTTPRequestHandler, bytes], bool]:
    """Answers an ls-refs request that no GET preceded with this status, these headers and this body."""

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        if handler.command != "POST" or b"command=ls-refs" not in data or GET in paths(backend):
            return False
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        return True

    return instead


RESULT = {"Content-Type": "application/x-git-upload-pack-result"}
PAGE = {"Content-Type": "text/html"}
LINE = b"%s refs/heads/main\n" % (b"1" * 40)
FULL = pkt_line(b"%s HEAD symref-target:refs/heads/main\n" % (b"1" * 40)) + pkt_line(LINE)
BLUE: dict[str, tuple[int, dict[str, str], bytes]] = {
    "not allowed": (405, PAGE, b"no"),
    "not found": (404, PAGE, b"no"),
    "bad request": (400, PAGE, b"no"),
    "in trouble": (500, PAGE, b"no"),
    "a page": (200, PAGE, b"<html>" * 100),
    "a large page": (200, PAGE, b"<html>" * 100_000),
    "moved": (302, {"Location": GET}, b""),
    "moved for good": (308, {"Location": GET}, b"over there"),
    "nothing": (200, RESULT, b""),
    "no packets": (200, RESULT, b"hello, world"),
    "an error": (200, RESULT, pkt_line(b"ERR access denied or repository not exported\n")),
    "a short error": (200, RESULT, pkt_line(b"ERR\n") + b"0000"),
    "an error and an end": (200, RESULT, pkt_line(b"ERR no\n") + b"0000"),
    "no end": (200, RESULT, FULL),
    "cut in a line": (200, RESULT, FULL[:-4]),
    "more after the end": (200, RESULT, FULL + b"0000" + FULL),
    "a packet that cannot be": (200, RESULT, b"0003"),
    "a negative packet": (200, RESULT, b"-001"),
    "a line of one word": (200, RESULT, pkt_line(b"word\n") + b"0000"),
    "no refs": (200, RESULT, b"0000"),
    "no head": (200, RESULT, pkt_line(LINE) + b"0000"),
    "the old answer": (200, RESULT, pkt_line(LINE[:-1] + b"\0side-band-64k\n") + b"0000"),
}


@pytest.mark.parametrize("how", BLUE)
def test_who_does_not_answer_out_of_the_blue_is_asked_as_usual(
    backend: GitBackend, upstream: Path, tmp_path: Path, how: str
) -> None:
    backend.instead = of_the_blue(backend, *BLUE[how])
    get(backend, tmp_path / "m.git")
    assert is_equal(tmp_path / "m.git", upstream)
    assert paths(backend)[:2] == [POST, GET]


def forever(
    status: int, headers: dict[str, str], piece: bytes, begin: bytes = b""
) -> Callable[[BaseHTTPRequestHandler, bytes], bool]:
    """Answers every request with an endless response."""

    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        handler.close_connection = True
        handler.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            handler.send_header(name, value)
        handler.end_headers()
        try:
            handler.wfile.write(begin)
            while True:
                handler.wfile.write(piece)
        except OSError:
            return True

    return instead


ADVERTISEMENT = {"Content-Type": "application/x-git-upload-pack-advertisement"}
SERVICE = pkt_line(b"# service=git-upload-pack\n") + b"0000"
OLD = SERVICE + pkt_line(LINE[:-1] + b"\0side-band-64k\n")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("headers", "piece", "begin"),
    [
        (PAGE, b"<html>" * 1000, b""),
        ({}, b"<html>" * 1000, b""),
        (RESULT, pkt_line(LINE) * 100, b""),
        (ADVERTISEMENT, pkt_line(LINE) * 100, OLD),
        (ADVERTISEMENT, pkt_line(b"capability=x\n") * 100, pkt_line(b"version 2\n")),
        (ADVERTISEMENT, b"0000" * 1000, OLD),
    ],
)
def test_no_answer_is_read_without_end(
    backend: GitBackend,
    tmp_path: Path,
    headers: dict[str, str],
    piece: bytes,
    begin: bytes,
) -> None:
    backend.instead = forever(200, headers, piece, begin)
    with pytest.raises(GitFailed):
        get(backend, tmp_path / "m.git", fetch_limits=FetchLimits(advertisement_bytes=2_000_000))
    assert not (tmp_path / "m.git" / "packed-refs").exists()


@pytest.mark.timeout(60)
def test_an_endless_refusal_is_a_refusal(backend: GitBackend, tmp_path: Path) -> None:
    backend.instead = forever(401, PAGE, b"<html>" * 1000)
    with pytest.raises(GitUnauthorized):
        get(backend, tmp_path / "m.git")


@pytest.mark.parametrize("is_old", [False, True])
def test_what_a_server_says_of_itself_is_told_in_one_clean_line(
    backend: GitBackend, tmp_path: Path, is_old: bool
) -> None:
    def instead(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        text = pkt_line(b"ERR \x1b[31mno more\x07 of this\nsecond line")
        body = SERVICE + text if is_old and handler.command == "GET" else text
        handler.send_response(200)
        kind = ADVERTISEMENT if handler.command == "GET" else RESULT
        handler.send_header("Content-Type", kind["Content-Type"])
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    backend.instead = instead
    with pytest.raises(MirrorError) as caught:
        get(backend, tmp_path / "m.git")
    assert str(caught.value).isprintable()


def test_odd_names_are_kept_byte_for_byte(backend: GitBackend, upstream: Path, tmp_path: Path) -> None:
    names = [b"refs/heads/\xff\xfe", "refs/heads/zweig-ü".encode(), b"refs/pull/1/head", b"refs/heads/a=b"]
    names += [b"refs/heads/" + b"n" * 200, b"refs/notes/x", b"refs/heads/';rm'", b"refs/x/y#z"]
    value = git("rev-parse", "main", cwd=upstream).strip()
    with (upstream / "packed-refs").open("ab") as stream:
        stream.writelines(value.encode() + b" " + name + b"\n" for name in names)
    lines = (upstream / "packed-refs").read_bytes().splitlines(keepends=True)
    blocks = b"".join(lines[1:]).replace(b"\n^", b"\0^").splitlines(keepends=True)
    blocks.sort(key=lambda block: block[41:])
    (upstream / "packed-refs").write_bytes(lines[0] + b"".join(blocks).replace(b"\0^", b"\n^"))
    for is_old in (False, True):
        backend.is_old = is_old
        mirror = tmp_path / f"{is_old}.git"
        get(backend, mirror)
        assert set(read_refs(mirror).refs) >= set(names)
        assert is_equal(mirror, upstream)
