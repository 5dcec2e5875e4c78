"""A 401 is not always about the credential: the client checks before it gives up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, cast

import httpx
import pytest

from mirror.bitbucket.client.unauthorized import place_of
from mirror.bitbucket.endpoints import PULL_REQUESTS, REPOSITORY, STEP_LOG, WORKSPACE
from mirror.bitbucket.failures import Denied, Refused, ServerTrouble
from tests.bitbucket.helpers import Server, client_for, token

WHERE = {"workspace": "acme", "repository": "website"}
SAID = "Token is invalid, expired, or not supported for this endpoint."


def refusal() -> httpx.Response:
    return httpx.Response(401, json={"type": "error", "error": {"message": SAID}})


def refusing(*ends: str) -> Server:
    """A server that refuses URLs with this ending, to everybody."""
    return Server(lambda one: refusal() if one.url.path.endswith(ends) else httpx.Response(200, json={}))


async def test_the_standing_401_of_one_endpoint_is_that_endpoints_own() -> None:
    server = refusing("/pullrequests")
    async with client_for(server) as client:
        await client.get(WORKSPACE, None, workspace="acme")
        for _ in range(5):
            with pytest.raises(Denied, match="not supported for this endpoint") as caught:
                await client.get(PULL_REQUESTS, None, **WHERE)
            await client.get(REPOSITORY, None, **WHERE)
        assert caught.value.status == 401
        assert client.refusals == []
    asked = Counter(one.url.path.rpartition("/")[2] for one in server.asked)
    assert asked == {"acme": 2, "pullrequests": 7, "website": 5}, "it is checked once, not each time"


async def test_the_standing_401_of_the_very_first_endpoint_is_its_own_too() -> None:
    server = refusing("/pullrequests")
    async with client_for(server) as client:
        with pytest.raises(Denied):
            await client.get(PULL_REQUESTS, None, **WHERE)
        await client.get(REPOSITORY, None, **WHERE)


async def test_what_the_credential_may_not_read_shows_that_it_is_known() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return refusal() if request.url.path.endswith("/pullrequests") else httpx.Response(403, json={})

    async with client_for(answer) as client:
        with pytest.raises(Denied, match="401"):
            await client.get(PULL_REQUESTS, None, **WHERE)


@pytest.mark.parametrize("share", [0.02, 0.05])
async def test_refusals_for_nothing_at_all_cost_nothing(share: float) -> None:
    chance = random.Random(3)
    server = Server(lambda _: refusal() if chance.random() < share else httpx.Response(200, json={}))
    async with client_for(server) as client:
        for number in range(300):
            await client.get(REPOSITORY, None, workspace="acme", repository=f"r{number % 7}")
        assert client.refusals == []


async def test_a_revoked_credential_is_found_out_and_left_alone() -> None:
    revoked = False

    def answer(_: httpx.Request) -> httpx.Response:
        return refusal() if revoked else httpx.Response(200, json={})

    server = Server(answer)
    async with client_for(server) as client:
        await client.get(WORKSPACE, None, workspace="acme")
        revoked = True
        before = len(server.asked)
        results = await asyncio.gather(
            *(client.get(REPOSITORY, None, **WHERE) for _ in range(20)), return_exceptions=True
        )
        assert {type(one) for one in results} == {Refused}
        with pytest.raises(Refused):
            await client.get(REPOSITORY, None, **WHERE)
    # The requests that were already sent, and one check for all of them.
    assert len(server.asked) - before <= 20 + 4


async def test_many_that_are_refused_at_once_are_checked_together() -> None:
    seen: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        is_first = "/repositories/" in path and path not in seen
        seen.append(path)
        await asyncio.sleep(0.05)
        return refusal() if is_first else httpx.Response(200, json={})

    async with client_for(cast("Any", answer), concurrency=8) as client:
        await client.get(WORKSPACE, None, workspace="acme")
        await asyncio.gather(
            *(client.get(REPOSITORY, None, workspace="acme", repository=f"r{number}") for number in range(8))
        )
    assert len(seen) == 1 + 8 + 1 + 8


async def test_where_nobody_can_say_it_is_trouble_and_not_the_credential() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return refusal() if request.url.path.endswith("/website") else httpx.Response(503)

    async with client_for(answer) as client:
        with pytest.raises(ServerTrouble):
            await client.get(REPOSITORY, None, **WHERE)
        assert client.refusals == []


async def test_a_download_is_doubted_alike() -> None:
    log = {**WHERE, "pipeline": "{p}", "step": "{s}"}
    replies = [
        lambda: httpx.Response(200, json={}),
        refusal,
        lambda: httpx.Response(200, json={}),
        lambda: httpx.Response(200, content=b"log"),
    ]
    async with client_for(Server(replies)) as client:
        await client.get(WORKSPACE, None, workspace="acme")
        async with client.download(STEP_LOG, **log) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"log"


async def test_what_one_endpoint_refuses_to_one_is_asked_with_another() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        is_one = request.headers["authorization"].endswith("one")
        refuses = is_one and request.url.path.endswith("/pullrequests")
        return refusal() if refuses else httpx.Response(200, json={})

    async with client_for(answer, token("one"), token("two")) as client:
        for _ in range(6):
            await client.get(REPOSITORY, None, **WHERE)
            await client.get(PULL_REQUESTS, None, **WHERE)
        assert client.refusals == []


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.test/2.0/repositories/acme/website/pipelines_config?x=1", "https://a.test/2.0/repositories/acme/website"),
        ("https://a.test/2.0/repositories/acme/website", None),
        ("https://a.test/2.0/repositories/acme", None),
        ("https://a.test/2.0/workspaces/acme/projects/WEB/deploy-keys", "https://a.test/2.0/workspaces/acme/projects/WEB"),
        ("https://a.test/2.0/workspaces/acme/projects/WEB", "https://a.test/2.0/workspaces/acme"),
        ("https://a.test/2.0/workspaces/acme", None),
        ("https://a.test/2.0/user", None),
    ],
)  # fmt: skip
def test_the_place_of_an_address_is_what_it_is_below(url: str, place: str | None) -> None:
    assert place_of(url) == place
