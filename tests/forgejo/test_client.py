"""What the client makes of answers: pages, failures, redirects; and where its token goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from mirror.auth.secrets import Secret
from mirror.errors import MirrorError
from mirror.forgejo import endpoints
from mirror.forgejo.client import Client
from mirror.forgejo.failures import Refused, ServerTrouble
from mirror.http.network import Network
from mirror.http.requests import MaybeMade, RequestFailed
from tests.clock import FakeClock

PLACE = {"owner": "acme", "repository": "web/site"}
Answer = Callable[[httpx.Request], httpx.Response]


class Server(httpx.MockTransport):
    """Gives one answer after the other, the last one for ever; `asked` are the requests."""

    def __init__(self, *answers: Answer | httpx.Response | Exception) -> None:
        super().__init__(self._next)
        self.asked: list[httpx.Request] = []
        self._answers = list(answers)

    def _next(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        found = answer if isinstance(answer, httpx.Response) else answer(request)
        stream = httpx.ByteStream(found.content)  # not read yet, as from a socket
        return httpx.Response(found.status_code, headers=found.headers, stream=stream)


def client_of(server: Server) -> Client:
    return Client(
        "https://git.example.org/sub/",
        Secret("t0k3n-word"),
        clock=FakeClock(),
        network=Network(),
        transport=server,
    )


async def get(server: Server) -> Any:
    async with client_of(server) as client:
        return await client.get(endpoints.REPOSITORY, **PLACE)


async def post(server: Server) -> Any:
    async with client_of(server) as client:
        return await client.send("POST", endpoints.NEW_ISSUE, PLACE, {"title": "x"})


async def test_requests_are_below_the_url_and_signed() -> None:
    server = Server(httpx.Response(200, json={"id": 1}))
    assert await get(server) == {"id": 1}
    [request] = server.asked
    assert str(request.url) == "https://git.example.org/sub/api/v1/repos/acme/web%2Fsite"
    assert request.headers["Authorization"] == "token t0k3n-word"


async def test_a_list_is_read_to_its_end_however_short_its_pages_are() -> None:
    def page(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params["page"])
        assert (request.url.params["state"], request.url.params["type"]) == ("all", "issues")
        return httpx.Response(200, json=[{"number": number}] if number < 4 else [])

    async with client_of(Server(page)) as client:
        assert [one["number"] for one in await client.entries(endpoints.ISSUES, **PLACE)] == [1, 2, 3]
    counted = Server(httpx.Response(200, json=[{"number": 1}], headers={"X-Total-Count": "1"}))
    async with client_of(counted) as client:
        assert len(await client.entries(endpoints.ISSUES, **PLACE)) == 1
    assert len(counted.asked) == 1


async def test_a_list_without_an_end_is_refused() -> None:
    for headers in ({}, {"X-Total-Count": "9" * 5000}):
        server = Server(httpx.Response(200, json=[{"number": 1}], headers=headers))
        async with client_of(server) as client:
            with pytest.raises(RequestFailed, match="issues: the list has no end"):
                await client.entries(endpoints.ISSUES, **PLACE)
        assert len(server.asked) == 2


async def test_a_redirect_is_not_followed() -> None:
    server = Server(httpx.Response(301, headers={"Location": "https://elsewhere.example.org/"}))
    with pytest.raises(RequestFailed, match="repository: answered 301") as caught:
        await get(server)
    assert "the server's own URL" in str(caught.value.hint)
    assert [request.url.host for request in server.asked] == ["git.example.org"]


@pytest.mark.parametrize(
    ("answer", "times", "kind"),
    [
        (httpx.Response(401, json={"message": "bad token"}), 1, Refused),
        (httpx.Response(403, json={"message": "no scope"}), 1, RequestFailed),
        (httpx.Response(503, text="down"), 5, RequestFailed),
        (httpx.ReadError("reset"), 5, ServerTrouble),
        (httpx.Response(200, text="<html>"), 1, RequestFailed),
    ],
)
async def test_failures_of_reading(
    answer: httpx.Response | Exception, times: int, kind: type[MirrorError]
) -> None:
    server = Server(answer)
    with pytest.raises(kind):
        await get(server)
    assert len(server.asked) == times


@pytest.mark.parametrize(
    ("answer", "times", "kind"),
    [
        (httpx.Response(422, json={"message": "no"}), 1, RequestFailed),
        (httpx.Response(502, text="gateway"), 1, MaybeMade),
        (httpx.ReadError("reset"), 1, MaybeMade),
        (httpx.ConnectError("refused"), 5, ServerTrouble),
        (httpx.Response(429, json={"message": "slow"}), 5, ServerTrouble),
    ],
)
async def test_what_may_have_been_made_is_not_sent_again(
    answer: httpx.Response | Exception, times: int, kind: type[MirrorError]
) -> None:
    server = Server(answer)
    with pytest.raises(kind):
        await post(server)
    assert len(server.asked) == times


async def test_success_without_json_is_success() -> None:
    assert await post(Server(httpx.Response(201, text="made"))) is None
