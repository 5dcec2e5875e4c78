"""Tokens that expire: requested once for all callers, in time, again after a 401, and not more often."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from mirror.auth.credentials import ConnectJwt, Credential, OAuthConsumer
from mirror.auth.flows import SignInTrouble
from mirror.errors import CredentialRefused, MirrorError, TryLater, UsageError
from tests.auth.helpers import API, OAUTH, FakeClock, client_of, signed, variable

KINDS: list[Credential] = [
    OAuthConsumer("consumer", variable("SECRET")),
    ConnectJwt("app", "client", variable("SECRET")),
]
SECRET = "shared-0123456789"


class Server:
    """A sign-in server, and an API that knows which of its tokens are valid."""

    def __init__(self) -> None:
        self.given = 0
        self.dead: set[str] = set()
        self.calls = 0
        self.lasts: object = 3600
        self.answers: list[httpx.Response | Exception] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if str(request.url) == OAUTH:
            assert request.extensions["timeout"]["read"] is not None, "a renewal must not wait for ever"
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer
            self.given += 1
            return httpx.Response(200, json={"access_token": f"token-{self.given}", "expires_in": self.lasts})
        self.calls += 1
        token = request.headers["authorization"].removeprefix("Bearer ")
        return httpx.Response(401 if token in self.dead else 200, json={"by": token})


def again(answer: httpx.Response) -> httpx.Response:
    return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@pytest.mark.parametrize("credential", KINDS, ids=lambda one: one.kind)
async def test_concurrent_requests_share_one_renewal(credential: Credential) -> None:
    server = Server()
    ready = signed(credential, SECRET)
    async with client_of(server) as client:
        answers = await asyncio.gather(*(client.get(f"{API}/x", auth=ready.auth) for _ in range(20)))
        assert {one.json()["by"] for one in answers} == {"token-1"}
        server.dead.add("token-1")
        answers = await asyncio.gather(*(client.get(f"{API}/x", auth=ready.auth) for _ in range(20)))
        assert {one.json()["by"] for one in answers} == {"token-2"}
    assert server.given == 2


@pytest.mark.parametrize("credential", KINDS, ids=lambda one: one.kind)
async def test_a_token_is_renewed_before_it_lapses(credential: Credential) -> None:
    server, clock = Server(), FakeClock()
    ready = signed(credential, SECRET, clock=clock)
    async with client_of(server) as client:
        await client.get(f"{API}/x", auth=ready.auth)
        clock.elapsed = 3400
        assert (await client.get(f"{API}/x", auth=ready.auth)).json()["by"] == "token-1"
        clock.elapsed = 3500
        assert (await client.get(f"{API}/x", auth=ready.auth)).json()["by"] == "token-2"
        assert (await ready.git_login(client))[1] == "token-2"
        clock.elapsed = 3500 + 3500
        assert (await ready.git_login(client))[1] == "token-3"


async def test_after_a_second_401_the_answer_stands() -> None:
    server = Server()
    server.dead |= {f"token-{number}" for number in range(9)}
    ready = signed(KINDS[0], SECRET)
    async with client_of(server) as client:
        answer = await client.get(f"{API}/x", auth=ready.auth)
    assert (answer.status_code, server.given, server.calls) == (401, 2, 2)


@pytest.mark.parametrize("lasts", [1, 0, -5, None, "soon", True, 10**400, 1e300])
async def test_an_odd_lifetime_neither_breaks_nor_lasts_for_ever(lasts: object) -> None:
    server, clock = Server(), FakeClock()
    server.lasts = lasts
    ready = signed(KINDS[0], SECRET, clock=clock)
    async with client_of(server) as client:
        await client.get(f"{API}/x", auth=ready.auth)
        clock.elapsed = 200_000
        await client.get(f"{API}/x", auth=ready.auth)
    assert server.given == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(400, json={"error": "unauthorized_client"}), CredentialRefused),
        (httpx.Response(401, text="no"), CredentialRefused),
        (httpx.Response(403, text="no"), CredentialRefused),
        (httpx.Response(429), SignInTrouble),
        (httpx.Response(503, text="<html>"), SignInTrouble),
        (httpx.Response(200, text="<html>Sign in</html>"), SignInTrouble),
        (httpx.Response(200, json={"access_token": ""}), SignInTrouble),
        (httpx.Response(200, json={"access_token": "with\r\nline"}), SignInTrouble),
        (httpx.Response(200, json=["access_token"]), SignInTrouble),
        (httpx.Response(200, content=b'{"access_token": ' + b"[" * 5000), SignInTrouble),
        (httpx.Response(302, headers={"location": "https://evil.example.test/"}), UsageError),
        (httpx.Response(404), UsageError),
    ],
)
@pytest.mark.parametrize("credential", KINDS, ids=lambda one: one.kind)
async def test_a_failed_renewal_has_a_meaning_and_leaves_the_lock_free(
    credential: Credential, answer: httpx.Response, error: type[MirrorError]
) -> None:
    server = Server()
    ready = signed(credential, SECRET)
    async with client_of(server) as client:
        server.answers.append(
            httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        )
        with pytest.raises(error):
            await client.get(f"{API}/x", auth=ready.auth)
        server.answers.append(
            httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        )
        with pytest.raises(error):
            await ready.git_login(client)
        async with asyncio.timeout(1):
            assert (await client.get(f"{API}/x", auth=ready.auth)).status_code == 200


@pytest.mark.parametrize("credential", KINDS, ids=lambda one: one.kind)
async def test_a_sign_in_server_out_of_reach_is_tried_later(credential: Credential) -> None:
    server = Server()
    ready = signed(credential, SECRET)
    async with client_of(server) as client:
        server.answers.append(httpx.ConnectError("unreachable"))
        with pytest.raises(TryLater):
            await ready.git_login(client)
        server.answers.append(httpx.ConnectError("unreachable"))
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{API}/x", auth=ready.auth)
        async with asyncio.timeout(1):
            assert (await client.get(f"{API}/x", auth=ready.auth)).status_code == 200


async def test_a_token_answer_without_end_is_not_read_to_its_end() -> None:
    class Endless(httpx.AsyncByteStream):
        sent = 0

        async def __aiter__(self):  # type: ignore[no-untyped-def]
            while True:
                Endless.sent += 65536
                yield b" " * 65536

    server = Server()
    ready = signed(KINDS[0], SECRET)
    async with client_of(server) as client:
        server.answers.append(httpx.Response(200, stream=Endless()))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"{API}/x", auth=ready.auth)
    assert Endless.sent <= 1 << 20


def test_a_synchronous_client_is_refused_rather_than_left_unsigned() -> None:
    ready = signed(KINDS[0], SECRET)
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with httpx.Client(transport=transport) as client, pytest.raises(RuntimeError):
        client.get(f"{API}/x", auth=ready.auth)
