"""Connections that ask nothing, never end, or take no answer keep nobody else out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mirror.config import Address, address
from mirror.web import connections, serving

HALF_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-More: "
HALF_BODY = b"POST /long HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc"
ENDED = b""

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class World:
    """A server whose answer to `/long` waits for `go`, and whose answer to `/large` never ends by itself."""

    def __init__(self) -> None:
        self.began, self.go, self.large_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        routes = [
            Route("/", lambda _: PlainTextResponse("here")),
            Route("/long", self._long, methods=["GET", "POST"]),
            Route("/large", self._large),
        ]
        self.app = Starlette(routes=routes)
        self._others: list[Ends] = []

    async def _long(self, request: Request) -> Response:
        await request.body()
        self.began.set()
        await self.go.wait()
        return PlainTextResponse("done")

    async def _large(self, _: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * (1 << 18)
                    await asyncio.sleep(0)
            finally:
                self.large_ended.set()

        return StreamingResponse(pieces())

    async def open(self, at: Address, data: bytes) -> Ends:
        """A connection that sends this, and nothing more."""
        ends = await asyncio.open_connection(at.host, at.port)
        ends[1].write(data)
        self._others.append(ends)
        return ends

    def close(self) -> None:
        for _, writer in self._others:
            writer.close()


@asynccontextmanager
async def _world() -> AsyncIterator[tuple[World, Address]]:
    world = World()
    async with serving(world.app, address("127.0.0.1:0"), key="web.listen") as at:
        try:
            yield world, at
        finally:
            world.go.set()
            world.close()


async def _get(at: Address, path: str) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
        return (await client.get(f"http://{at.text}{path}")).text


async def _rest(ends: Ends) -> bytes:
    """What comes until the other end closes."""
    try:
        return await ends[0].read()
    except ConnectionResetError:
        return ENDED


async def test_idle_connections_make_room_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MOST", 3)
    async with _world() as (world, at):
        idle = [await world.open(at, HALF_HEAD) for _ in range(10)]
        assert await _get(at, "/") == "here"
        for ends in idle[:8]:
            assert await _rest(ends) == ENDED, "the oldest are closed"


async def test_an_answer_that_is_being_made_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MOST", 2)
    async with _world() as (world, at):
        long = asyncio.create_task(_get(at, "/long"))
        await world.began.wait()
        idle = [await world.open(at, HALF_HEAD) for _ in range(6)]
        for ends in idle[:4]:
            assert await _rest(ends) == ENDED
        world.go.set()
        assert await long == "done"


async def test_one_more_is_refused_where_all_have_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MOST", 1)
    async with _world() as (world, at):
        long = asyncio.create_task(_get(at, "/long"))
        await world.began.wait()
        assert await _rest(await world.open(at, HALF_HEAD)) == ENDED
        world.go.set()
        assert await long == "done"


@pytest.mark.parametrize("half", [b"", HALF_HEAD, HALF_BODY])
async def test_a_request_that_does_not_come_ends_its_connection(
    half: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.05)
    async with _world() as (world, at):
        assert await _rest(await world.open(at, half)) == ENDED


async def test_the_time_of_a_request_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[asyncio.TimerHandle] = []
    loop, call_later = asyncio.get_running_loop(), asyncio.get_running_loop().call_later

    def noting(delay: float, *rest: object) -> asyncio.TimerHandle:
        timer = call_later(delay, *rest)  # type: ignore[arg-type]
        if delay == connections.REQUEST_SECONDS:
            timers.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", noting)
    async with _world() as (world, at):
        long = asyncio.create_task(_get(at, "/long"))
        await world.began.wait()
        assert [timer.cancelled() for timer in timers] == [True], "a slow answer is no slow request"
        world.go.set()
        assert await long == "done"


async def test_who_takes_nothing_of_an_answer_gets_no_more_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STUCK_SECONDS", 0.05)
    async with _world() as (world, at):
        with socket.create_connection((at.host, at.port)) as taker:
            taker.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await world.large_ended.wait()
