"""Requests that change something: sent once, and again only where nothing can have been made."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import pytest

from mirror.auth.credentials import ApiToken
from mirror.bitbucket.client.change import Change
from mirror.bitbucket.endpoints import DOWNLOADS, HOOKS, PULL_REQUESTS, SCHEDULES, WORKSPACE
from mirror.bitbucket.failures import ApiError, BadAnswer, Denied, MaybeMade
from mirror.errors import CredentialRefused
from mirror.http.requests import FilePart, RequestFailed
from tests.auth.helpers import signed, variable
from tests.bitbucket.helpers import API, Server, client_for, token

WHERE = {"workspace": "acme", "repository": "website"}
MAKE = Change("POST", {"url": "https://ci.example/"})
SET = Change("PUT", {"enabled": True})
USERS_ONLY = "This API is not accessible by this authentication mechanism"


def said(status: int, text: str, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"type": "error", "error": {"message": text}}, **more)


def made() -> httpx.Response:
    return httpx.Response(201, json={"uuid": "{1}"})


async def test_json_is_sent_and_the_query_for_reading_is_not() -> None:
    server = Server([made])
    async with client_for(server) as client:
        answer = await client.send(MAKE, PULL_REQUESTS, **WHERE)
        assert answer.data == {"uuid": "{1}"}
        await client.send(Change("POST"), HOOKS, **WHERE)
    first, second = server.asked
    assert first.url.path.endswith("/pullrequests") and not first.url.query
    assert first.headers["content-type"] == "application/json" and json.loads(first.content) == MAKE.body
    assert second.content.strip() == b"{}"  # never a POST without a body


@pytest.mark.parametrize("answer", [httpx.Response(204), httpx.Response(201), httpx.Response(200, text="ok")])
async def test_a_change_may_be_answered_with_nothing(answer: httpx.Response) -> None:
    async with client_for(Server([lambda: answer])) as client:
        assert (await client.send(SET, HOOKS, **WHERE)).data is None


async def test_files_are_sent_as_a_form() -> None:
    server = Server([lambda: said(429, "slow down"), lambda: httpx.Response(201)])
    file = FilePart("files", "käse.txt", io.BytesIO(b"bytes of it"))
    async with client_for(server) as client:
        change = Change("POST", {"title": "Cheese", "is_private": True}, (file,))
        assert (await client.send(change, DOWNLOADS, **WHERE)).data is None
    again = server.asked[1]
    assert again.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b"bytes of it" in again.content and "käse.txt".encode() in again.content
    assert b"\r\n\r\ntrue\r\n" in again.content and b"\r\n\r\nCheese\r\n" in again.content


LOST: list[Any] = [
    lambda: said(500, "oops"),
    lambda: said(408, "too slow"),
    lambda: said(504, "the gateway gave up", headers={"Retry-After": "3"}),
    lambda: httpx.Response(502, html="<h1>Bad gateway</h1>"),
    lambda: httpx.Response(200, html="<h1>Back soon</h1>"),
    lambda: httpx.ReadTimeout("slow"),
    lambda: httpx.RemoteProtocolError("server disconnected"),
]


@pytest.mark.parametrize("reply", LOST)
async def test_a_post_that_may_have_been_carried_out_is_not_sent_again(reply: Any) -> None:
    server = Server([reply, made])
    async with client_for(server) as client:
        with pytest.raises(MaybeMade, match="whether it was carried out is not known"):
            await client.send(MAKE, HOOKS, **WHERE)
    assert len(server.asked) == 1


@pytest.mark.parametrize("reply", LOST)
async def test_a_put_is_sent_again(reply: Any) -> None:
    server = Server([reply, made])
    async with client_for(server) as client:
        await client.send(SET, HOOKS, **WHERE)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "reply",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.ConnectTimeout("no route"),
        lambda: said(429, "slow down"),
        lambda: said(503, "busy", headers={"Retry-After": "3"}),
        lambda: said(401, "Token is invalid, expired, or not supported for this endpoint."),
    ],
)
async def test_a_post_is_sent_again_where_nothing_was_made(reply: Any) -> None:
    server = Server([reply, made])
    async with client_for(server) as client:
        assert (await client.send(MAKE, HOOKS, **WHERE)).data == {"uuid": "{1}"}
    assert len(server.asked) == 2


async def test_a_401_with_another_reason_refuses_the_change_and_no_credential() -> None:
    server = Server([lambda: said(401, "You have reached the maximum limit of schedules"), made])
    async with client_for(server) as client:
        with pytest.raises(ApiError, match="maximum limit of schedules") as caught:
            await client.send(MAKE, SCHEDULES, **WHERE)
        assert caught.value.status == 401 and not client.refusals and len(server.asked) == 1
        assert (await client.send(MAKE, SCHEDULES, **WHERE)).data == {"uuid": "{1}"}


async def test_a_refused_credential_is_told() -> None:
    async with client_for(Server([lambda: said(401, "Token is invalid, expired, or …")])) as client:
        with pytest.raises(CredentialRefused):
            await client.send(MAKE, HOOKS, **WHERE)


def who(request: httpx.Request) -> str:
    return request.headers["authorization"].partition(" ")[0]


async def test_what_needs_a_user_goes_to_a_user_first() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return said(403, USERS_ONLY) if who(request) == "Bearer" else made()

    user = signed(ApiToken(email="ann@acme.example", token=variable("SECRET")), "secret")
    server = Server(answer)
    async with client_for(server, token(), user) as client:
        await client.send(Change("PUT", {}, needs_user=True), HOOKS, **WHERE)
        assert [who(one) for one in server.asked] == ["Basic"]
    async with client_for(server, token()) as client:
        with pytest.raises(Denied) as caught:
            await client.send(Change("PUT", {}, needs_user=True), HOOKS, **WHERE)
    assert caught.value.hint is not None and "API token" in caught.value.hint


async def test_what_one_credential_may_not_do_another_does() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return made() if who(request) == "Basic" else said(403, USERS_ONLY)

    user = signed(ApiToken(email="ann@acme.example", token=variable("SECRET")), "secret")
    async with client_for(answer, token(), user) as client:
        assert (await client.send(SET, HOOKS, **WHERE)).data == {"uuid": "{1}"}


@pytest.mark.parametrize(("status", "text"), [(400, "a reviewer left"), (402, "user limit"), (409, "exists")])
async def test_a_refusal_has_its_status_and_message(status: int, text: str) -> None:
    async with client_for(Server([lambda: said(status, text)])) as client:
        with pytest.raises(ApiError, match=text) as caught:
            await client.send(MAKE, HOOKS, **WHERE)
    assert caught.value.status == status


@pytest.mark.parametrize("change", [MAKE, SET])
async def test_a_change_follows_no_redirect_that_would_make_it_another(change: Change) -> None:
    server = Server([lambda: httpx.Response(301, headers={"Location": f"{API}/x"}), made])
    async with client_for(server) as client:
        with pytest.raises(BadAnswer, match="redirected"):
            await client.send(change, HOOKS, **WHERE)
    assert len(server.asked) == 1


async def test_a_change_may_be_sent_to_another_place_of_the_api() -> None:
    there = f"{API}/workspaces/acme"
    server = Server([lambda: httpx.Response(308, headers={"Location": there}), made])
    async with client_for(server) as client:
        await client.send(MAKE, WORKSPACE, workspace="acme")
    assert [one.method for one in server.asked] == ["POST", "POST"] and server.asked[1].content
    away = Server(
        [lambda: httpx.Response(307, headers={"Location": "https://elsewhere.example/2.0/x"}), made]
    )
    async with client_for(away) as client:
        with pytest.raises(BadAnswer, match="redirected"):
            await client.send(MAKE, WORKSPACE, workspace="acme")
    assert len(away.asked) == 1


async def test_a_name_that_no_address_can_have_is_refused() -> None:
    async with client_for(Server([made])) as client:
        with pytest.raises(RequestFailed, match="no address can have"):
            await client.send(MAKE, HOOKS, workspace="acme", repository="\udcff")
