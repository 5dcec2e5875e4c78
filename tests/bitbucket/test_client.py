"""The client trusts nothing, waits as the server asks, and never takes a failure for the end of a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.auth.credentials import AppPassword, WorkspaceAccessToken
from mirror.auth.secrets import SecretSource
from mirror.auth.signin import sign_in
from mirror.bitbucket import endpoints
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.client import TRIES_MAX, Client
from mirror.bitbucket.client.local_leases import HOUR
from mirror.bitbucket.client.sender import ResponseLimits
from mirror.bitbucket.failures import (
    ApiError,
    BadAnswer,
    Denied,
    Gone,
    NotFound,
    RateLimited,
    Refused,
    ServerTrouble,
)
from mirror.bitbucket.lists import all_of, pages
from tests.auth.helpers import at_once
from tests.clock import FakeClock

API = "https://api.example.org/2.0"
Handler = Callable[[httpx.Request], httpx.Response]


def client(
    handler: Handler, clock: FakeClock | None = None, secrets: tuple[str, ...] = ("t0ken",), **more: Any
) -> Client:
    clock = clock or FakeClock()
    signed = [
        at_once(
            sign_in(
                WorkspaceAccessToken(SecretSource("env", "S")),
                environment={"S": secret},
                oauth_url="https://example.org/token",
                api_url=API,
                clock=clock,
            )
        )
        for secret in secrets
    ]
    return Client(signed, api_url=API, clock=clock, transport=httpx.MockTransport(handler), **more)


def answers(*responses: httpx.Response) -> Handler:
    """A server that returns these responses in turn, and the last one for ever."""
    left = list(responses)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def error(status: int, **body: Any) -> httpx.Response:
    return httpx.Response(status, json={"type": "error", "error": {"message": "no", **body}})


async def ask(handler: Handler, clock: FakeClock | None = None, **more: Any) -> Any:
    async with client(handler, clock, **more) as one:
        return (await one.get(endpoints.WORKSPACE, workspace="acme")).data


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (error(401), Refused),
        (error(403), Denied),
        (error(402), Denied),
        (error(404), NotFound),
        (error(410), Gone),
        (error(418), ApiError),
        (httpx.Response(200, text="<html>Log in</html>", headers={"Content-Type": "text/html"}), BadAnswer),
        (httpx.Response(200, text='{"a": 1', headers={"Content-Type": "application/json"}), BadAnswer),
        (
            httpx.Response(200, text='{"a": 1, "a": 2}', headers={"Content-Type": "application/json"}),
            BadAnswer,
        ),
        (httpx.Response(503), ServerTrouble),
        (httpx.Response(555), ServerTrouble),
        (httpx.Response(302), BadAnswer),
        (httpx.Response(302, headers={"Location": "http://api.example.org/2.0/x"}), BadAnswer),
        (httpx.Response(302, headers={"Location": "file:///etc/passwd"}), BadAnswer),
        (httpx.Response(403, text="nonsense"), Denied),
        (httpx.Response(403, json={"error": "a text"}), Denied),
        (httpx.Response(403, json=["a list"]), Denied),
        (error(403, detail="a text"), Denied),
        (error(403, detail={"required": "pipeline", "granted": 7}), Denied),
    ],
)
async def test_each_failure_has_its_own_type(response: httpx.Response, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        await ask(answers(response))
    assert "t0ken" not in str(caught.value)


async def test_a_denial_names_the_scopes() -> None:
    with pytest.raises(Denied) as caught:
        await ask(answers(error(403, detail={"required": ["pipeline"], "granted": ["repository"]})))
    assert caught.value.required == ("pipeline",)
    assert "pipeline" in caught.value.message


async def test_a_retired_endpoint_names_its_announcement() -> None:
    with pytest.raises(Gone) as caught:
        await ask(answers(error(410, data={"announcement_url": "https://example.org/CHANGE-3071"})))
    assert caught.value.announcement == "https://example.org/CHANGE-3071"


async def test_an_app_password_is_told_why_it_is_refused() -> None:
    clock = FakeClock()
    one = await sign_in(
        AppPassword("ann", SecretSource("env", "S")),
        environment={"S": "secret-word"},
        oauth_url="https://example.org/token",
        api_url=API,
        clock=clock,
    )
    async with Client(
        [one], api_url=API, clock=clock, transport=httpx.MockTransport(answers(error(401)))
    ) as made:
        with pytest.raises(Refused) as caught:
            await made.get(endpoints.WORKSPACE, workspace="acme")
    assert "2026-07-28" in (caught.value.hint or "")


@pytest.mark.parametrize("trouble", [500, 502, 503, 504, 555])
async def test_passing_trouble_is_waited_out(trouble: int) -> None:
    clock = FakeClock()
    assert await ask(answers(httpx.Response(trouble), httpx.Response(200, json={"ok": 1})), clock) == {
        "ok": 1
    }
    assert len(clock.slept) == 1


async def test_trouble_that_stays_ends_within_bounds() -> None:
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        raise httpx.ConnectError("refused")

    with pytest.raises(ServerTrouble):
        await ask(handler)
    assert len(seen) == TRIES_MAX


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17),
        ({"Retry-After": "Mon, 23 Nov 2026 02:00:30 GMT"}, 30),
        ({"X-RateLimit-Reset": "880"}, 880),
        ({"X-RateLimit-Reset": str(1795399200 + 60)}, 60),
        ({"X-RateLimit-Reset": "60, 60;w=3600"}, 60),
        ({"Retry-After": "99999999"}, 3600),
    ],
)
async def test_a_rate_limit_is_waited_for_as_told(headers: dict[str, str], seconds: float) -> None:
    clock = FakeClock()
    refusal = httpx.Response(429, headers=headers, json={})
    assert await ask(answers(refusal, httpx.Response(200, json={})), clock) == {}
    assert seconds <= clock.elapsed <= seconds + 3


async def test_a_limit_that_never_lifts_ends_with_try_later() -> None:
    with pytest.raises(RateLimited) as caught:
        await ask(answers(httpx.Response(429, headers={"Retry-After": "3000"})))
    assert caught.value.exit_code == 75


async def test_a_second_credential_fills_the_gap_of_the_first() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={}) if "second" in request.headers["Authorization"] else error(403)

    assert await ask(handler, secrets=("first-token", "second-token")) == {}


# -- lists


def listing(*entries: list[Any], size: int | None = None) -> Handler:
    """A list of these pages, with numbered URLs."""

    def handler(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("page", "1"))
        data: dict[str, Any] = {"values": entries[number - 1]}
        if size is not None:
            data["size"] = size
        if number < len(entries):
            data["next"] = f"{API}/repositories/acme?page={number + 1}"
        return httpx.Response(200, json=data)

    return handler


async def read(
    handler: Handler, endpoint: endpoints.Endpoint = endpoints.REPOSITORIES, **parts: str
) -> list[Any]:
    async with client(handler) as one:
        return await all_of(one, endpoint, None, **{"workspace": "acme", **parts})


def ids(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": number} for number in numbers]


async def test_next_is_followed_as_given_to_the_end() -> None:
    assert await read(listing(ids(1, 2), ids(3), ids(4))) == ids(1, 2, 3, 4)


async def test_what_shifts_onto_the_next_page_comes_once() -> None:
    assert await read(listing(ids(1, 2), ids(2, 3))) == ids(1, 2, 3)


async def test_a_list_that_shrinks_is_read_again_and_then_reported() -> None:
    with pytest.raises(BadAnswer, match="3 entries, and 2 came"):
        await read(listing(ids(1), ids(2), size=3))


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/2.0/repositories/acme?page=2",
        "http://api.example.org/2.0/x",
        "https://user@api.example.org/2.0/x",
        "https://api.example.org/1.0/x",
        "https://api.example.org/2.0/../admin",
        "//evil.example/2.0/x",
        "javascript:alert(1)",
        7,
    ],
)
async def test_next_never_leads_elsewhere(following: object) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"values": ids(1), "next": following})

    with pytest.raises(BadAnswer):
        await read(handler)
    assert len(seen) == 1


async def test_a_circle_is_noticed() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"values": ids(1), "next": str(request.url)})

    with pytest.raises(BadAnswer, match=r"loop|twice"):
        await read(handler)


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_failure_on_a_later_page_is_a_failure_of_the_list(status: int) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if "page" in request.url.params:
            return error(status)
        return httpx.Response(200, json={"values": ids(1), "next": f"{API}/repositories/acme?page=2"})

    with pytest.raises(ApiError):
        await read(handler)


async def test_a_refused_page_size_is_asked_smaller() -> None:
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("pagelen"))
        if asked[-1] is not None:
            return httpx.Response(400, json={"type": "error", "error": {"message": "Invalid pagelen"}})
        return httpx.Response(200, json={"values": ids(1)})

    assert await read(handler) == ids(1)
    assert asked == ["100", "50", None]


async def test_a_list_without_next_is_counted_to_its_end() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("page", "1"))
        values = [{"uuid": f"{number}-{one}"} for one in range(100 if number < 3 else 7)]
        return httpx.Response(200, json={"values": values, "page": number, "pagelen": 100})

    assert len(await read(handler, endpoints.PIPELINES, repository="web")) == 207


@pytest.mark.parametrize("body", [{"values": {}}, {"values": [1]}, {}, []])
async def test_what_is_not_a_list_is_refused(body: object) -> None:
    with pytest.raises(BadAnswer):
        await read(lambda _: httpx.Response(200, json=body))


async def test_a_body_that_is_too_large_is_refused_while_it_comes() -> None:
    with pytest.raises(BadAnswer, match="larger"):
        await ask(
            lambda _: httpx.Response(200, json={"a": "x" * 2000}), limits=ResponseLimits(body_bytes=1000)
        )


# -- the credential and other origins, over real sockets


class Recorder:
    """A real server that records the requests."""

    def __init__(self, respond: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.headers: list[dict[str, str]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder.headers.append(dict(self.headers))
                respond(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def give(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


async def test_the_credential_and_cookies_stay_at_home() -> None:
    storage = Recorder(give(200, b"the log", Content_Type="text/plain"))
    api = Recorder(give(307, Location=f"{storage.url}/log", Set_Cookie="session=secret"))
    clock = FakeClock()
    one = await sign_in(
        WorkspaceAccessToken(SecretSource("env", "S")),
        environment={"S": "t0ken"},
        oauth_url=f"{api.url}/token",
        api_url=f"{api.url}/2.0",
        clock=clock,
    )
    try:
        async with Client([one], api_url=f"{api.url}/2.0", clock=clock) as made:
            names = {"workspace": "a", "repository": "b", "pipeline": "{c}", "step": "{d}"}
            for _ in range(2):
                async with made.download(endpoints.STEP_LOG, **names) as chunks:
                    assert b"".join([chunk async for chunk in chunks]) == b"the log"
    finally:
        storage.close()
        api.close()
    assert all(headers["Authorization"] == "Bearer t0ken" for headers in api.headers)
    for headers in storage.headers:
        assert "Authorization" not in headers
        assert "Cookie" not in headers


# -- the budget


@given(st.lists(st.floats(0, 900), min_size=1, max_size=60), st.integers(2, 12), st.integers(0, 5))
@settings(derandomize=True, max_examples=40, deadline=None)
def test_no_rolling_hour_ever_holds_more_than_the_limit_less_the_reserve(
    gaps: list[float], limit: int, reserve: int
) -> None:
    import asyncio

    clock = FakeClock()
    budget = Budget(clock, reserve=reserve, patience=1e9)
    budget.learn("me", "api", limit=limit, remaining=None)
    made: list[float] = []

    async def spend() -> None:
        for gap in gaps:
            clock.elapsed += gap
            await budget.acquire("me", "api")
            made.append(clock.monotonic())

    asyncio.run(spend())
    allowed = max(1, limit - reserve)
    for moment in made:
        assert sum(1 for other in made if moment - HOUR < other <= moment) <= allowed


async def test_what_others_use_of_the_same_identity_counts() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    budget.learn("me", "api", limit=100, remaining=40)
    assert budget.left("me", "api") == 40


async def test_pages_say_how_many_there_are() -> None:
    async with client(listing(ids(1), ids(2), size=2)) as one:
        sizes = [page.size async for page in pages(one, endpoints.REPOSITORIES, None, workspace="acme")]
    assert sizes == [2, 2]


def test_errors_hold_no_control_characters() -> None:
    from mirror.bitbucket.failures import plain

    assert plain("a\x1b[31m\r\nb\x00" + "c" * 1000) == "a[31m b" + "c" * 293 + "…"
    assert json.dumps(plain({"x": 1}))
