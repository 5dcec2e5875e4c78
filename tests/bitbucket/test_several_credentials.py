"""Several credentials share the load and fill each other's gaps; the client discovers a gap only once."""

from __future__ import annotations

import httpx
import pytest

from mirror.bitbucket.endpoints import (
    PIPELINES_CONFIG,
    PULL_REQUESTS,
    REPOSITORIES,
    REPOSITORY,
    STEP_LOG,
)
from mirror.bitbucket.failures import Denied, NotFound, Refused
from mirror.bitbucket.lists import all_of
from mirror.errors import CredentialRefused, UsageError
from tests.bitbucket.helpers import Server, client_for, listed, token

WHERE = {"workspace": "acme", "repository": "website"}
SCOPE = {"error": {"message": "no", "detail": {"required": ["pullrequest"], "granted": ["repository"]}}}


def holder(request: httpx.Request) -> str:
    return request.headers["authorization"].rpartition("-")[2]


async def test_a_missing_scope_is_filled_by_another_and_not_looked_for_again() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json=SCOPE) if holder(request) == "one" else listed([])

    server = Server(answer)
    async with client_for(server, token("one"), token("two")) as client:
        for _ in range(10):
            await client.get(PULL_REQUESTS, None, **WHERE)
    assert [holder(one) for one in server.asked].count("one") == 1


async def test_repository_tokens_are_each_tried_once_for_each_repository() -> None:
    """They get a 404 for repositories of other tokens."""

    def answer(request: httpx.Request) -> httpx.Response:
        mine = request.url.path.split("/")[4] == holder(request)
        return httpx.Response(200 if mine else 404, json={})

    server = Server(answer)
    async with client_for(server, token("one"), token("two")) as client:
        for _ in range(5):
            for repository in ("one", "two"):
                await client.get(REPOSITORY, None, workspace="acme", repository=repository)
    assert len(server.asked) <= 12


async def test_what_nobody_may_read_is_denied_rather_than_missing() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json=SCOPE) if holder(request) == "two" else httpx.Response(404, json={})

    async with client_for(answer, token("one"), token("two")) as client:
        with pytest.raises(Denied) as caught:
            await client.get(REPOSITORY, None, **WHERE)
    assert caught.value.required == ("pullrequest",)


async def test_what_nobody_can_see_is_not_found() -> None:
    server = Server([lambda: httpx.Response(404, json={})])
    async with client_for(server, token("one"), token("two")) as client:
        with pytest.raises(NotFound):
            await client.get(REPOSITORY, None, **WHERE)
    assert len(server.asked) == 2


async def test_a_refused_credential_is_left_out_and_the_others_go_on() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401 if holder(request) == "one" else 200, json={})

    server = Server(answer)
    async with client_for(server, token("one"), token("two")) as client:
        for _ in range(4):
            await client.get(REPOSITORY, None, **WHERE)
        assert await client.git_login() == ("x-token-auth", "secret-of-two")
    assert [holder(one) for one in server.asked].count("one") <= 4


async def test_where_all_are_refused_the_credential_is_the_failure() -> None:
    server = Server([lambda: httpx.Response(401, json={})])
    async with client_for(server, token("one"), token("two")) as client:
        with pytest.raises(Refused):
            await client.get(REPOSITORY, None, **WHERE)
        # git decides for itself about the same secrets.
        assert await client.git_logins() == [
            ("x-token-auth", "secret-of-one"),
            ("x-token-auth", "secret-of-two"),
        ]
    assert len(server.asked) <= 8


async def test_the_load_is_shared() -> None:
    server = Server([lambda: httpx.Response(200, json={})])
    async with client_for(server, token("one"), token("two")) as client:
        for _ in range(20):
            await client.get(REPOSITORY, None, **WHERE)
    assert [holder(one) for one in server.asked].count("one") == 10


async def test_a_download_goes_to_who_may_read_it() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if holder(request) == "one":
            return httpx.Response(403, json=SCOPE)
        return httpx.Response(200, content=b"log")

    several = client_for(answer, token("one"), token("two"))
    async with several as client, client.download(STEP_LOG, **WHERE, pipeline="{p}", step="{s}") as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"log"


async def test_a_view_of_one_credential_asks_with_that_one_only() -> None:
    server = Server(lambda request: httpx.Response(404 if holder(request) == "two" else 200, json={}))
    async with client_for(server, token("one"), token("two")) as client:
        view = client.only(client.sign_ins[1])
        assert view.sign_ins == (client.sign_ins[1],)
        with pytest.raises(NotFound):
            await view.get(REPOSITORY, None, **WHERE)
        assert await view.git_login() == ("x-token-auth", "secret-of-two")
        await client.get(REPOSITORY, None, **WHERE)
        assert client.requests == view.requests == 2 + (len(server.asked) - 2)
    assert holder(server.asked[0]) == "two"


async def test_without_a_credential_nothing_is_asked() -> None:
    server = Server([lambda: httpx.Response(200, json={})])
    async with client_for(server) as client:
        empty = type(client)([], api_url=client.api_url, clock=client.clock)
        async with empty:
            with pytest.raises(UsageError):
                await empty.get(REPOSITORY, None, **WHERE)
            assert await empty.git_login() is None
    assert server.asked == []


async def test_a_list_that_one_may_read_no_more_in_its_middle_is_read_whole_by_another() -> None:
    given: set[str] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        page = request.url.params.get("page", "1")
        if holder(request) == "one" and holder(request) in given:
            return httpx.Response(401, json={})
        given.add(holder(request))
        if page == "1":
            following = str(request.url.copy_set_param("page", "2"))
            return httpx.Response(200, json={"values": [{"uuid": "{1}"}], "next": following})
        return listed([{"uuid": "{2}"}])

    server = Server(answer)
    async with client_for(server, token("one"), token("two")) as client:
        found = await all_of(client, REPOSITORIES, None, workspace="acme")
    assert [one["uuid"] for one in found] == ["{1}", "{2}"]
    assert [holder(one) for one in server.asked][-2:] == ["two", "two"]
    given.clear()
    async with client_for(answer, token("one")) as client:
        with pytest.raises(CredentialRefused):
            await all_of(client, REPOSITORIES, None, workspace="acme")


async def test_the_honest_404_of_one_outweighs_the_403_of_another() -> None:
    """One sees the repository, which has nothing of this kind; the other lacks the scope."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/pipelines_config"):
            return (
                httpx.Response(403, json=SCOPE) if holder(request) == "two" else httpx.Response(404, json={})
            )
        return httpx.Response(200, json={})

    server = Server(answer)
    async with client_for(server, token("one"), token("two")) as client:
        for _ in range(4):
            with pytest.raises(NotFound):
                await client.get(PIPELINES_CONFIG, None, **WHERE)
    assert sum(not one.url.path.endswith("/pipelines_config") for one in server.asked) == 1


async def test_a_404_of_one_that_does_not_see_the_place_does_not_outweigh_a_403() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if holder(request) == "two" and request.url.path.endswith("/pipelines_config"):
            return httpx.Response(403, json=SCOPE)
        return httpx.Response(404 if holder(request) == "one" else 200, json={})

    async with client_for(answer, token("one"), token("two")) as client:
        with pytest.raises(Denied):
            await client.get(PIPELINES_CONFIG, None, **WHERE)


async def test_a_404_of_one_that_does_not_see_the_place_is_not_believed_where_another_was_refused() -> None:
    server = Server(lambda request: httpx.Response(401 if holder(request) == "one" else 404, json={}))
    async with client_for(server, token("one"), token("two")) as client:
        with pytest.raises(Refused):
            await client.get(PIPELINES_CONFIG, None, **WHERE)


async def test_the_one_that_was_refused_is_told() -> None:
    server = Server(lambda request: httpx.Response(401 if holder(request) == "one" else 200, json={}))
    async with client_for(server, token("one"), token("two")) as client:
        await client.get(REPOSITORY, None, **WHERE)
        [(sign_in, refusal)] = client.refusals
    assert sign_in is client.sign_ins[0] and isinstance(refusal, Refused)
