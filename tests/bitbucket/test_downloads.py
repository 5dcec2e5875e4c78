"""Files: requested as bytes, resumed after a broken connection, limited in memory and size."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from mirror.bitbucket import endpoints
from mirror.bitbucket.endpoints import BYTES, JSON, Endpoint
from mirror.bitbucket.failures import BadAnswer, ServerTrouble
from tests.bitbucket.helpers import Server, client_for

WHERE: dict[str, str | int] = {"workspace": "acme", "repository": "shop", "name": "big.iso"}
CONTENT = bytes(range(256)) * 1000
BROKEN = httpx.ReadError("reset")
# Endpoints whose responses are not JSON.
FILES = [
    endpoints.STEP_LOG, endpoints.SERVICE_LOG, endpoints.PATCH, endpoints.PULL_REQUEST_PATCH,
    endpoints.DOWNLOAD, endpoints.ISSUE_ATTACHMENT, endpoints.SNIPPET_FILE, endpoints.SNIPPET_FILE_NOW,
    endpoints.SYSTEM_KEY,
]  # fmt: skip


class Broken(httpx.AsyncByteStream):
    """A body whose connection breaks after the first `most` bytes."""

    def __init__(self, content: bytes, most: int | None) -> None:
        self.content = content
        self.most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content[: self.most]
        if self.most is not None:
            raise BROKEN


class Storage:
    """A server of one file that breaks each response off after `step` bytes, and may support ranges."""

    def __init__(
        self, *, step: int, ranges: bool = True, tag: Callable[[int], str] = lambda _: '"a"'
    ) -> None:
        self.step = step
        self.ranges = ranges
        self.tag = tag
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        first = 0
        headers = {"ETag": self.tag(len(self.asked))} if self.tag(len(self.asked)) else {}
        told = request.headers.get("range")
        if self.ranges and told and request.headers.get("if-range") == headers.get("ETag"):
            first = int(told.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"
        rest = CONTENT[first:]
        most = self.step if len(rest) > self.step else None
        return httpx.Response(206 if first else 200, stream=Broken(rest, most), headers=headers)


async def read(server: Callable[[httpx.Request], httpx.Response], file_max: int = 1 << 30) -> bytes:
    data = bytearray()
    made = client_for(server, file_max=file_max)
    async with made as client, client.download(endpoints.DOWNLOAD, **WHERE) as chunks:
        async for chunk in chunks:
            data += chunk
    return bytes(data)


@pytest.mark.parametrize(
    "endpoint", [one for one in vars(endpoints).values() if isinstance(one, Endpoint)], ids=lambda e: e.name
)
def test_what_is_no_json_is_asked_for_as_bytes(endpoint: Endpoint) -> None:
    assert endpoint.accept == (BYTES if endpoint in FILES else JSON)


async def test_each_request_says_what_it_takes() -> None:
    server = Server([lambda: httpx.Response(200, json={})])
    async with client_for(server) as client:
        await client.get(endpoints.REPOSITORY, None, workspace="acme", repository="shop")
        async with client.download(endpoints.DOWNLOAD, **WHERE):
            pass
    assert [one.headers["accept"] for one in server.asked] == ["application/json", "*/*"]


async def test_a_download_that_breaks_off_is_taken_up_where_it_broke() -> None:
    server = Storage(step=100_000)
    assert await read(server) == CONTENT
    assert [one.headers.get("range") for one in server.asked] == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize(
    "server",
    [
        Storage(step=100_000, ranges=False),
        Storage(step=100_000, tag=lambda _: ""),
        Storage(step=100_000, tag=lambda count: f'"{count}"'),
    ],
    ids=["knows no ranges", "says nothing that tells it from another", "another file by now"],
)
async def test_what_cannot_be_proven_to_be_the_same_file_is_not_put_together(server: Storage) -> None:
    with pytest.raises(ServerTrouble):
        await read(server)
    assert len(server.asked) <= 2


async def test_a_download_that_never_comes_farther_is_given_up() -> None:
    server = Storage(step=0)
    with pytest.raises(ServerTrouble):
        await read(server)
    assert len(server.asked) <= 7


async def test_a_file_that_says_it_is_too_large_is_not_begun() -> None:
    server = Server([lambda: httpx.Response(200, content=CONTENT)])
    with pytest.raises(BadAnswer, match="larger than 1000 bytes") as caught:
        await read(server, file_max=1000)
    assert "limits.file_max" in (caught.value.hint or "")


async def test_a_web_page_is_a_file_where_it_says_that_it_is_an_attachment() -> None:
    """The media type of a snippet's file follows from its name."""
    headers = {"Content-Type": "text/html", "Content-Disposition": 'attachment; filename="index.html"'}
    server = Server([lambda: httpx.Response(200, content=b"<p>mine</p>", headers=headers)])
    assert await read(server) == b"<p>mine</p>"


async def test_a_file_of_any_size_takes_little_memory() -> None:
    size, piece = 600 << 20, b"\0" * (1 << 20)

    class Large(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(size // len(piece)):
                yield piece

    server = Server([lambda: httpx.Response(200, stream=Large())])
    got = 0
    tracemalloc.start()
    try:
        async with client_for(server) as client, client.download(endpoints.DOWNLOAD, **WHERE) as chunks:
            async for chunk in chunks:
                got += len(chunk)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == size and most < 16 << 20
