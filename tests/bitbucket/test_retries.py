"""The client retries what may pass, within limits, and nothing else."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from mirror.bitbucket.client.credential_choice import TRIES_MAX, WAIT_MAX
from mirror.bitbucket.client.sender import ResponseLimits
from mirror.bitbucket.endpoints import REPOSITORY, STEP_LOG
from mirror.bitbucket.failures import BadAnswer, ServerTrouble
from mirror.errors import MirrorError
from tests.bitbucket.helpers import FakeClock, Reply, Server, client_for

WHERE = {"workspace": "acme", "repository": "website"}
LOG = {**WHERE, "pipeline": "{p}", "step": "{s}"}
JSON = {"content-type": "application/json"}


def good() -> httpx.Response:
    return httpx.Response(200, json={"ok": True})


PASSING: dict[str, Callable[[], Reply]] = {
    "500": lambda: httpx.Response(500, text="oops"),
    "502": lambda: httpx.Response(502, html="<html>Bad gateway</html>"),
    "503": lambda: httpx.Response(503, json={"error": {"message": "soon"}}),
    "555": lambda: httpx.Response(555),
    "a web page": lambda: httpx.Response(200, html="<html>Down for maintenance</html>"),
    "no content type": lambda: httpx.Response(200, content=b"{}", headers={"content-type": ""}),
    "JSON cut short": lambda: httpx.Response(200, content=b'{"values": [{"a"', headers=JSON),
    "nothing": lambda: httpx.Response(200, content=b"", headers=JSON),
    "a reset": lambda: httpx.ReadError("connection reset"),
    "a refused connection": lambda: httpx.ConnectError("refused"),
    "a connection that takes too long": lambda: httpx.ConnectTimeout("slow"),
    "an answer that takes too long": lambda: httpx.ReadTimeout("slow"),
    "a broken answer": lambda: httpx.RemoteProtocolError("peer closed connection"),
}


@pytest.mark.parametrize("name", PASSING)
async def test_what_passes_is_tried_again(name: str) -> None:
    clock = FakeClock()
    server = Server([PASSING[name], PASSING[name], good])
    async with client_for(server, clock=clock) as client:
        assert (await client.get(REPOSITORY, None, **WHERE)).data == {"ok": True}
        assert client.requests == 3
    assert len(clock.slept) == 2
    assert 0.5 <= clock.slept[0] <= 1 <= clock.slept[1] <= 2, "it waits longer each time, not in step"


@pytest.mark.parametrize("name", PASSING)
async def test_what_does_not_pass_ends_after_some_tries(name: str) -> None:
    server = Server([PASSING[name]])
    async with client_for(server) as client:
        with pytest.raises(MirrorError) as caught:
            await client.get(REPOSITORY, None, **WHERE)
    assert isinstance(caught.value, ServerTrouble | BadAnswer)
    assert len(server.asked) == TRIES_MAX


@pytest.mark.parametrize("name", ["500", "a reset", "a web page"])
async def test_downloads_are_tried_again_too(name: str) -> None:
    server = Server([PASSING[name], lambda: httpx.Response(200, content=b"log")])
    async with client_for(server) as client, client.download(STEP_LOG, **LOG) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"log"
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 410, 418])
async def test_what_is_an_answer_is_asked_for_once(status: int) -> None:
    server = Server([lambda: httpx.Response(status, json={})])
    async with client_for(server) as client:
        with pytest.raises(MirrorError):
            await client.get(REPOSITORY, None, **WHERE)
    assert len(server.asked) == 1


async def test_a_failing_server_may_ask_for_patience_within_reason() -> None:
    clock = FakeClock()
    server = Server(
        [
            lambda: httpx.Response(503, headers={"retry-after": "20"}),
            lambda: httpx.Response(503, headers={"retry-after": "86400"}),
            good,
        ]
    )
    async with client_for(server, clock=clock) as client:
        await client.get(REPOSITORY, None, **WHERE)
    assert clock.slept == [20.0, WAIT_MAX]


class Stream(httpx.AsyncByteStream):
    """A body that arrives piece by piece, and may break."""

    def __init__(self, *pieces: bytes | Exception, wait: float = 0.0) -> None:
        self.pieces = pieces
        self.wait = wait
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(self.wait)
            if isinstance(piece, Exception):
                raise piece
            self.given += len(piece)
            yield piece


async def test_a_body_that_breaks_off_is_tried_again() -> None:
    broken = httpx.RemoteProtocolError("peer closed connection without sending complete message body")
    server = Server([lambda: httpx.Response(200, stream=Stream(b'{"a":', broken), headers=JSON), good])
    async with client_for(server) as client:
        assert (await client.get(REPOSITORY, None, **WHERE)).data == {"ok": True}


async def test_a_download_that_breaks_off_is_trouble_and_not_a_short_file() -> None:
    broken = httpx.ReadError("reset")
    server = Server([lambda: httpx.Response(200, stream=Stream(b"the first half", broken))])
    async with client_for(server) as client:
        with pytest.raises(ServerTrouble):
            async with client.download(STEP_LOG, **LOG) as chunks:
                assert [chunk async for chunk in chunks]
    assert len(server.asked) == 1


async def test_an_answer_larger_than_the_bound_is_not_read_on() -> None:
    stream = Stream(*[b" " * 10_000] * 1000)
    server = Server([lambda: httpx.Response(200, stream=stream, headers=JSON)])
    async with client_for(server, limits=ResponseLimits(body_bytes=100_000)) as client:
        with pytest.raises(BadAnswer, match="larger than"):
            await client.get(REPOSITORY, None, **WHERE)
    assert stream.given <= 120_000


async def test_a_download_larger_than_the_bound_is_not_read_on() -> None:
    stream = Stream(*[b" " * 10_000] * 1000)
    server = Server([lambda: httpx.Response(200, stream=stream)])
    async with client_for(server, file_max=100_000) as client:
        with pytest.raises(BadAnswer, match="larger than 100000 bytes"):
            async with client.download(STEP_LOG, **LOG) as chunks:
                async for _ in chunks:
                    pass
    assert stream.given <= 120_000


@pytest.mark.parametrize("layers", [1, 2])
async def test_a_small_body_that_unfolds_without_end_is_stopped(layers: int) -> None:
    bomb = b" " * (64 << 20)
    for _ in range(layers):
        bomb = gzip.compress(bomb, 1)
    headers = {**JSON, "content-encoding": ", ".join(["gzip"] * layers)}
    server = Server([lambda: httpx.Response(200, stream=Stream(bomb), headers=headers)])
    async with client_for(server, limits=ResponseLimits(body_bytes=4 << 20)) as client:
        with pytest.raises(BadAnswer):
            await client.get(REPOSITORY, None, **WHERE)
    assert len(server.asked) == 1


@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_gzip_is_undone_however_it_comes(pieces: int) -> None:
    body = b'{"text": "' + b"mirror " * 200_000 + b'"}'
    data = gzip.compress(body[:1000]) + gzip.compress(body[1000:])
    step = -(-len(data) // pieces)
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    headers = {**JSON, "content-encoding": "gzip"}
    server = Server([lambda: httpx.Response(200, stream=Stream(*parts), headers=headers)])
    async with client_for(server) as client:
        answer = await client.get(REPOSITORY, None, **WHERE)
    assert answer.object("x")["text"] == "mirror " * 200_000


@pytest.mark.parametrize("data", [gzip.compress(b"{}", mtime=0)[:-9], b"not gzip"], ids=["cut", "none"])
async def test_broken_gzip_is_tried_again(data: bytes) -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    server = Server([lambda: httpx.Response(200, stream=Stream(data), headers=headers), good])
    async with client_for(server) as client:
        assert (await client.get(REPOSITORY, None, **WHERE)).data == {"ok": True}


async def test_one_byte_now_and_then_is_not_an_answer() -> None:
    drip = Stream(*[b" "] * 1000, wait=0.01)
    server = Server([lambda: httpx.Response(200, stream=drip, headers=JSON), good])
    async with client_for(server, limits=ResponseLimits(seconds=0.3)) as client:
        assert (await client.get(REPOSITORY, None, **WHERE)).data == {"ok": True}
    assert drip.given < 1000


async def test_no_answer_at_all_is_not_waited_for_without_end() -> None:
    calls = 0

    async def silent_once(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.sleep(600)
        return good()

    async with client_for(silent_once, limits=ResponseLimits(seconds=0.3)) as client:
        assert (await client.get(REPOSITORY, None, **WHERE)).data == {"ok": True}


async def test_no_more_requests_than_agreed_are_under_way_at_once() -> None:
    under_way, most = 0, 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return good()

    async with client_for(slow, concurrency=3) as client:
        await asyncio.gather(*(client.get(REPOSITORY, None, **WHERE) for _ in range(20)))
        assert client.requests == 20
    assert most == 3


async def test_a_cancelled_request_frees_its_place() -> None:
    async def silent(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("silent"):
            await asyncio.sleep(600)
        return good()

    async with client_for(silent, concurrency=1) as client:
        task = asyncio.create_task(client.get(REPOSITORY, None, workspace="acme", repository="silent"))
        await asyncio.sleep(0.01)
        task.cancel()
        async with asyncio.timeout(60):
            assert (await client.get(REPOSITORY, None, **WHERE)).data == {"ok": True}
