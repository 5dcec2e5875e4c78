"""Every status and every odd body has a meaning, and none of them means "there is nothing"."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.auth.credentials import ApiToken, AppPassword
from mirror.bitbucket.client.responses import deprecation
from mirror.bitbucket.endpoints import REPOSITORY
from mirror.bitbucket.failures import (
    TEXT_MAX,
    ApiError,
    BadAnswer,
    Denied,
    Gone,
    NotFound,
    RateLimited,
    Refused,
    ServerTrouble,
    plain,
)
from mirror.errors import MirrorError
from tests.auth.helpers import signed, variable
from tests.bitbucket.helpers import FakeClock, Server, client_for

WHERE = {"workspace": "acme", "repository": "website"}


def error_body(message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"message": message, **more}}


async def ask(server: Server, **more: Any) -> Any:
    async with client_for(server, **more) as client:
        return (await client.get(REPOSITORY, None, **WHERE)).data


async def test_a_good_answer_keeps_the_text_of_its_numbers() -> None:
    body = b'{"size": 1.10, "big": 123456789012345678901234567890}'
    server = Server([lambda: httpx.Response(200, content=body, headers={"content-type": "application/json"})])
    data = await ask(server)
    assert data["size"].text == "1.10"
    assert data["big"] == 123456789012345678901234567890
    assert server.paths == ["/2.0/repositories/acme/website"]
    assert server.asked[0].headers["authorization"] == "Bearer secret-of-token"
    assert server.asked[0].headers["user-agent"].startswith("mirror/")


@pytest.mark.parametrize(
    ("status", "error", "exit_code"),
    [
        (204, ApiError, 1),
        (206, ApiError, 1),
        (304, ApiError, 1),
        (400, ApiError, 1),
        (401, Refused, 12),
        (402, Denied, 1),
        (403, Denied, 1),
        (404, NotFound, 1),
        (405, ApiError, 1),
        (410, Gone, 1),
        (418, ApiError, 1),
        (429, RateLimited, 75),
        (500, ServerTrouble, 75),
        (503, ServerTrouble, 75),
        (555, ServerTrouble, 75),
        (599, ServerTrouble, 75),
    ],
)
async def test_each_status_has_its_meaning(status: int, error: type[MirrorError], exit_code: int) -> None:
    server = Server([lambda: httpx.Response(status, json=error_body("because"))])
    with pytest.raises(error) as caught:
        await ask(server)
    assert type(caught.value) is error
    assert caught.value.exit_code == exit_code
    if status >= 400 and status != 429:
        assert "because" in caught.value.message


async def test_a_missing_scope_is_named() -> None:
    detail = {"required": ["pullrequest"], "granted": ["repository", "account"]}
    server = Server([lambda: httpx.Response(403, json=error_body("lacks privileges", detail=detail))])
    with pytest.raises(Denied) as caught:
        await ask(server)
    assert caught.value.required == ("pullrequest",)
    assert caught.value.granted == ("repository", "account")
    assert "pullrequest" in caught.value.message
    assert caught.value.status == 403


async def test_a_plan_that_is_too_small_is_a_refusal_with_its_reason() -> None:
    server = Server([lambda: httpx.Response(402, json=error_body("Upgrade your plan"))])
    with pytest.raises(Denied, match="Upgrade your plan") as caught:
        await ask(server)
    assert caught.value.required == ()


async def test_a_retired_thing_names_its_announcement() -> None:
    body = error_body("CHANGE-3071 - deprecated", data={"announcement_url": "https://example.test/3071"})
    server = Server([lambda: httpx.Response(410, json=body)])
    with pytest.raises(Gone, match="CHANGE-3071") as caught:
        await ask(server)
    assert caught.value.announcement == "https://example.test/3071"


@pytest.mark.parametrize(
    "body",
    [
        error_body("m", detail="a text"),
        error_body("m", detail={"required": "one", "granted": None}),
        error_body("m", detail={"required": {"a": 1}, "granted": [1, None, "x"]}),
        error_body("m", detail=["a", "list"]),
        error_body("m", data="text", fields=[1]),
        {"error": "only a text"},
        {"error": None},
        {"error": {"message": {"not": "text"}}},
        {"type": "error"},
        [],
        ["error"],
        "error",
        None,
        0,
    ],
)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 418])
async def test_odd_error_bodies_never_break_the_client(status: int, body: Any) -> None:
    server = Server([lambda: httpx.Response(status, json=body)])
    with pytest.raises(MirrorError):
        await ask(server)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500])
@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"error": "cut', b"\xff\xfe", b"[" * 3000, b'{"a":1,"a":2}', b"NaN"]
)
async def test_broken_error_bodies_never_break_the_client(status: int, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    server = Server([lambda: httpx.Response(status, content=content, headers=headers)])
    with pytest.raises(MirrorError):
        await ask(server)


async def test_a_text_in_detail_is_told() -> None:
    server = Server([lambda: httpx.Response(403, json=error_body("no", detail="ask the owner"))])
    with pytest.raises(Denied, match="ask the owner"):
        await ask(server)


@pytest.mark.parametrize("status", [404, 410])
async def test_a_web_page_that_says_gone_says_nothing_of_the_thing(status: int) -> None:
    """The API says it in JSON; this is the front end, and no evidence of absence."""
    server = Server([lambda: httpx.Response(status, html="<html>Not found</html>")])
    with pytest.raises(BadAnswer) as caught:
        await ask(server)
    assert not isinstance(caught.value, NotFound | Gone)
    assert len(server.asked) == 5


@given(st.text(max_size=2000))
@settings(max_examples=100, derandomize=True)
def test_text_from_a_server_is_one_short_printable_line(text: str) -> None:
    shown = plain(text)
    assert len(shown) <= TEXT_MAX + 1
    assert all(sign.isprintable() for sign in shown)


async def test_control_characters_of_a_message_do_not_reach_the_terminal() -> None:
    nasty = "bad\x1b]0;title\x07 \u202egnp\r\n" + "x" * 5000
    server = Server([lambda: httpx.Response(400, json=error_body(nasty))])
    with pytest.raises(ApiError) as caught:
        await ask(server)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


async def test_a_server_that_repeats_the_secret_does_not_get_it_into_our_messages() -> None:
    server = Server([lambda: httpx.Response(400, json=error_body("bad token secret-of-token !"))])
    with pytest.raises(ApiError) as caught:
        await ask(server)
    assert "secret-of-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("credential", "hint"),
    [
        (AppPassword("ann", variable("SECRET")), "switched app passwords off on 2026-07-28"),
        (ApiToken("ann@example.test", variable("SECRET")), "expired"),
    ],
)
async def test_a_refusal_says_what_to_do_for_this_kind(credential: Any, hint: str) -> None:
    server = Server([lambda: httpx.Response(401, json=error_body("Token is invalid"))])
    async with client_for(server, signed(credential, "some-secret")) as client:
        with pytest.raises(Refused) as caught:
            await client.get(REPOSITORY, None, **WHERE)
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    assert len(server.asked) <= 4


async def test_a_refused_credential_is_not_sent_again() -> None:
    server = Server([lambda: httpx.Response(401, json=error_body("no"))])
    async with client_for(server) as client:
        for _ in range(3):
            with pytest.raises(Refused):
                await client.get(REPOSITORY, None, **WHERE)
    assert len(server.asked) <= 4, "it is doubted once, and then left alone"


async def test_deprecation_is_logged_once_for_each_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    headers = {
        "Deprecation": "Fri, 20 Feb 2026 00:00:00 GMT",
        "Sunset": "Fri, 21 Aug 2026 00:00:00 GMT",
        "Link": '<https://example.test/changelog#CHANGE-3071>; rel="deprecation"',
    }
    server = Server([lambda: httpx.Response(200, json={}, headers=headers)])
    async with client_for(server, clock=FakeClock()) as client:
        for _ in range(3):
            await client.get(REPOSITORY, None, **WHERE)
    out = capsys.readouterr().out
    assert out.count("bitbucket.deprecated") == 1
    assert "https://example.test/changelog#CHANGE-3071" in out and "rel=" not in out
    assert "2026-02-20" in out and "2026-08-21" in out


@pytest.mark.parametrize("value", ["true", "@1771545600", "soon", "Fri, 99 Feb 2026 00:00:00 GMT", ""])
def test_a_deprecation_that_is_no_date_is_told_as_it_is(value: str) -> None:
    assert deprecation(httpx.Response(200, headers={"Deprecation": value})) == {"deprecation": value}


@pytest.mark.parametrize("nothing", [{}, error_body("Whoops")], ids=["empty", "an error"])
async def test_an_answer_that_says_nothing_is_no_thing(nothing: dict[str, Any]) -> None:
    server = Server([lambda: httpx.Response(200, json=nothing)])
    async with client_for(server) as client:
        answer = await client.get(REPOSITORY, None, **WHERE)
    with pytest.raises(BadAnswer):
        answer.object("repository")


@pytest.mark.parametrize("status", [408, 425])
async def test_what_passes_is_asked_for_again(status: int) -> None:
    server = Server(
        [lambda: httpx.Response(status, json=error_body("Late")), lambda: httpx.Response(200, json={"a": 1})]
    )
    assert await ask(server) == {"a": 1}
