"""The client follows redirects within limits, and sends the credential only below the API's root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from mirror.bitbucket.client.client import REDIRECTS_MAX, Client
from mirror.bitbucket.endpoints import REPOSITORY, STEP_LOG
from mirror.bitbucket.failures import BadAnswer, NotFound, ServerTrouble
from mirror.errors import CredentialRefused, MirrorError
from tests.bitbucket.helpers import API, FakeClock, Server, client_for, token

WHERE = {"workspace": "acme", "repository": "old-name"}
LOG = {**WHERE, "pipeline": "{p}", "step": "{s}"}
STORAGE = "https://storage.example.test/bucket/log?X-Signature=abc"


def to(location: str, status: int = 302) -> httpx.Response:
    return httpx.Response(status, headers={"location": location})


def signatures(server: Server) -> list[str | None]:
    return [one.headers.get("authorization") for one in server.asked]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/2.0/repositories/acme/new-name", f"{API}/repositories/acme/new-name"])
async def test_a_renamed_repository_is_followed_with_the_credential(status: int, location: str) -> None:
    server = Server([lambda: to(location, status), lambda: httpx.Response(200, json={"slug": "new-name"})])
    async with client_for(server) as client:
        answer = await client.get(REPOSITORY, None, **WHERE)
    assert answer.data == {"slug": "new-name"}
    assert answer.url == f"{API}/repositories/acme/new-name"
    assert signatures(server) == ["Bearer secret-of-token"] * 2


async def test_storage_gets_no_credential_and_is_not_counted_as_the_api() -> None:
    server = Server([lambda: to(STORAGE, 307), lambda: httpx.Response(200, content=b"log")])
    async with client_for(server) as client:
        async with client.download(STEP_LOG, **LOG) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"log"
        assert client.requests == 1
        assert client.budget.used(client.sign_ins[0].identity, "api")[0] == 1
    assert signatures(server) == ["Bearer secret-of-token", None]
    assert str(server.asked[1].url) == STORAGE


async def test_the_way_back_to_the_api_is_not_signed_either() -> None:
    """Otherwise anybody that the API redirects to could choose what the client reads with our credential."""
    back = f"{API}/repositories/acme/secret-repository"

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host != "api.example.test":
            return to(back)
        return httpx.Response(401, json={}) if request.url.path.endswith("repository") else to(STORAGE)

    server = Server(answer)
    async with client_for(server) as client:
        with pytest.raises(MirrorError) as caught:
            await client.get(REPOSITORY, None, **WHERE)
    assert not isinstance(caught.value, CredentialRefused)
    assert None in signatures(server)
    assert signatures(server)[:3] == ["Bearer secret-of-token", None, None]


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://api.example.test/2.0/repositories/acme/x",
        "http://storage.example.test/x",
        "file:///etc/passwd",
        "ftp://storage.example.test/x",
        "javascript:alert(1)",
        "https://",
        "https://[::1",
        "https://user:password@storage.example.test/x",
        "https://user@api.example.test/2.0/x",
    ],
)
async def test_a_redirect_to_nowhere_good_is_not_followed(location: str) -> None:
    server = Server([lambda: to(location)])
    async with client_for(server) as client:
        with pytest.raises(BadAnswer):
            await client.get(REPOSITORY, None, **WHERE)
    # URLs that libraries parse differently end at the API itself, within limits.
    assert {(one.url.scheme, one.url.host) for one in server.asked} == {("https", "api.example.test")}
    assert len(server.asked) in (1, REDIRECTS_MAX + 1)


async def test_redirects_without_end_are_left() -> None:
    server = Server(lambda request: to(str(request.url.copy_add_param("again", "1"))))
    async with client_for(server) as client:
        with pytest.raises(BadAnswer, match="redirects"):
            await client.get(REPOSITORY, None, **WHERE)
    assert len(server.asked) == REDIRECTS_MAX + 1


@pytest.mark.parametrize("path", ["/1.0/x", "/2.0evil/x", "/", "/2.0/../1.0/x", "/2.0/%2e%2e/1.0/x"])
async def test_beside_the_api_on_its_own_host_nothing_is_signed(path: str) -> None:
    server = Server(
        [lambda: to(f"https://api.example.test{path}"), lambda: httpx.Response(200, content=b"log")]
    )
    async with client_for(server) as client, client.download(STEP_LOG, **LOG) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"log"
    assert signatures(server)[1] is None


@pytest.mark.parametrize(
    ("status", "error", "asked"),
    [
        (404, NotFound, 2),
        (410, NotFound, 2),
        (401, BadAnswer, 10),
        (403, BadAnswer, 10),
        (500, ServerTrouble, 10),
        (429, ServerTrouble, 10),
        (204, BadAnswer, 2),
    ],
)
async def test_what_storage_refuses_says_nothing_of_the_credential(
    status: int, error: type[MirrorError], asked: int
) -> None:
    """The storage answers 403 to an expired URL; the client asks the API for a new one."""
    server = Server(
        lambda request: to(STORAGE) if request.url.host == "api.example.test" else httpx.Response(status)
    )
    clock = FakeClock()
    async with client_for(server, clock=clock) as client:
        with pytest.raises(error):
            async with client.download(STEP_LOG, **LOG):
                pass
        assert client.budget.left(client.sign_ins[0].identity, "api") > 900, "the API refused nothing"
    assert len(server.asked) == asked


async def test_a_web_page_instead_of_a_log_is_the_front_end_in_trouble() -> None:
    server = Server([lambda: httpx.Response(200, html="<html>"), lambda: httpx.Response(200, content=b"log")])
    async with client_for(server) as client, client.download(STEP_LOG, **LOG) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"log"


@contextmanager
def listening(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A real server on a free port; yields its URL and the headers of its requests."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


async def test_over_real_sockets_no_credential_and_no_cookie_crosses_origins() -> None:
    def storage(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200, b"log", Content_Type="text/plain", Set_Cookie="s=1; Path=/")

    with listening(storage) as (elsewhere, seen_elsewhere):

        def api(handler: BaseHTTPRequestHandler) -> None:
            cookies = {"Set_Cookie": "session=secret-session; Path=/"}
            if handler.path.endswith("/log"):
                reply(handler, 302, b"", Location=f"{elsewhere}/bucket", **cookies)
            else:
                reply(handler, 200, b"{}", Content_Type="application/json", **cookies)

        with listening(api) as (base, seen):
            url = f"{base}/2.0"
            async with Client([token(api_url=url)], api_url=url, clock=FakeClock()) as client:
                for _ in range(3):
                    await client.get(REPOSITORY, None, **WHERE)
                    async with client.download(STEP_LOG, **LOG) as chunks:
                        assert b"".join([chunk async for chunk in chunks]) == b"log"
    assert len(seen) == 6
    assert len(seen_elsewhere) == 3
    assert all(one["authorization"] == "Bearer secret-of-token" for one in seen)
    assert not any("cookie" in one for one in seen + seen_elsewhere)
    assert not any("secret" in value for one in seen_elsewhere for value in one.values())
    assert not any("authorization" in one or "referer" in one for one in seen_elsewhere)


async def test_over_real_sockets_connections_are_kept() -> None:
    ports: set[int] = set()

    def api(handler: BaseHTTPRequestHandler) -> None:
        ports.add(handler.client_address[1])
        reply(handler, 200, b"{}", Content_Type="application/json")

    with listening(api) as (base, seen):
        url = f"{base}/2.0"
        async with Client([token(api_url=url)], api_url=url, clock=FakeClock()) as client:
            for _ in range(5):
                await client.get(REPOSITORY, None, **WHERE)
    assert len(seen) == 5
    assert len(ports) == 1
