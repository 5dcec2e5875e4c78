"""The client reads a list to its end or fails: it never takes the part before a failure for the whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mirror.bitbucket import endpoints
from mirror.bitbucket.endpoints import PIPELINES, PULL_REQUESTS, REPOSITORIES
from mirror.bitbucket.failures import BadAnswer, Gone, ListShort, NotFound, Refused
from mirror.bitbucket.lists import Resume, all_of, pages
from mirror.errors import MirrorError
from tests.bitbucket.helpers import API, Server, client_for, listed, token

REPO = {"workspace": "acme", "repository": "website"}


def entries(first: int, last: int) -> list[dict[str, Any]]:
    return [{"id": number} for number in range(first, last + 1)]


class ListServer:
    """A list that changes on order: `before[n]` runs before the response to page n."""

    def __init__(self, values: list[dict[str, Any]], *, length: int, tells_size: bool = True) -> None:
        self.values = list(values)
        self.length = length
        self.tells_size = tells_size
        self.before: dict[int, Any] = {}
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if (change := self.before.pop(len(self.asked), None)) is not None:
            change(self.values)
        number = int(request.url.params.get("page", "1"))
        start = (number - 1) * self.length
        body: dict[str, Any] = {"values": self.values[start : start + self.length], "pagelen": self.length}
        if self.tells_size:
            body["size"] = len(self.values)
        if start + self.length < len(self.values):
            body["next"] = str(request.url.copy_set_param("page", str(number + 1)))
        return httpx.Response(200, json=body)


async def read(server: Any, endpoint: endpoints.Endpoint = REPOSITORIES, **parts: str) -> list[int]:
    async with client_for(server) as client:
        values = await all_of(client, endpoint, None, **(parts or {"workspace": "acme"}))
    return [value["id"] for value in values]


async def test_an_opaque_next_is_followed_letter_for_letter() -> None:
    odd = f"{API}/repositories/acme?page=8xhd&q=a%2Bb%20c&pagelen=100&ctx=a%2Fb"
    server = Server([lambda: listed(entries(1, 2), next=odd), lambda: listed(entries(3, 3))])
    assert await read(server) == [1, 2, 3]
    assert server.paths[1] == "/2.0/repositories/acme?page=8xhd&q=a%2Bb%20c&pagelen=100&ctx=a%2Fb"


async def test_an_entry_that_goes_while_the_list_is_read_hides_no_other() -> None:
    """It moves the others up: one of them from an unread page to a page that the client has already read."""
    server = ListServer(entries(1, 6), length=2)
    server.before[2] = lambda values: values.pop(0)
    assert sorted(await read(server)) == [1, 2, 3, 4, 5, 6]


async def test_entries_that_are_added_at_the_front_come_once_and_need_no_second_reading() -> None:
    server = ListServer(entries(1, 6), length=2)
    server.before[2] = lambda values: values.insert(0, {"id": 99})
    assert sorted(await read(server)) == [1, 2, 3, 4, 5, 6]
    assert len(server.asked) == 4


async def test_a_list_that_never_keeps_still_is_reported_with_what_came() -> None:
    server = ListServer(entries(1, 9), length=2)
    for number in range(2, 30):
        server.before[number] = lambda values: values.pop(0) if len(values) > 4 else values.append({"id": 0})
    async with client_for(server) as client:
        with pytest.raises(ListShort) as caught:
            await all_of(client, REPOSITORIES, workspace="acme")
    assert {value["id"] for value in caught.value.values} >= {1, 2}


async def test_a_list_that_claims_more_than_it_gives_is_read_twice_and_reported() -> None:
    server = Server([lambda: listed(entries(1, 3), size=4)])
    async with client_for(server) as client:
        with pytest.raises(ListShort, match="4 entries, and 3 came") as caught:
            await all_of(client, REPOSITORIES, workspace="acme")
    assert caught.value.values == tuple(entries(1, 3))
    assert len(server.asked) == 2


async def test_entries_without_an_id_are_told_apart_by_all_they_say() -> None:
    first, second = {"approval": {"date": "1"}}, {"approval": {"date": "2"}}
    server = Server(
        [lambda: listed([first, second], next=f"{API}/repositories/acme?page=2"), lambda: listed([second])]
    )
    async with client_for(server) as client:
        assert await all_of(client, REPOSITORIES, workspace="acme") == [first, second]


@pytest.mark.parametrize("status", [400, 402, 403, 404, 410, 418])
async def test_a_later_page_that_is_refused_says_nothing_of_the_list_itself(status: int) -> None:
    """In particular the list is not "gone" or "not found": its first page was there."""
    following = f"{API}/repositories/acme?page=2"
    server = Server([lambda: listed(entries(1, 2), next=following), lambda: httpx.Response(status, json={})])
    with pytest.raises(BadAnswer, match="page 2") as caught:
        await read(server)
    assert not isinstance(caught.value, NotFound | Gone)
    assert caught.value.status == status


async def test_a_credential_refused_on_a_later_page_is_still_that() -> None:
    following = f"{API}/repositories/acme?page=2"
    server = Server([lambda: listed(entries(1, 2), next=following), lambda: httpx.Response(401, json={})])
    with pytest.raises(Refused):
        await read(server)


async def test_a_long_circle_is_noticed_by_its_address_and_by_its_content() -> None:
    def round_and_round(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("page", "1"))
        return listed(entries(number, number), next=f"{API}/repositories/acme?page={number % 3 + 1}")

    def new_addresses(request: httpx.Request) -> httpx.Response:
        count = int(request.url.params.get("n", "0"))
        number = count % 3
        return listed(entries(number, number), next=f"{API}/repositories/acme?n={count + 1}")

    for handler in (round_and_round, new_addresses):
        server = Server(handler)
        with pytest.raises(BadAnswer, match=r"circle|twice"):
            await read(server)
        assert len(server.asked) <= 5


@pytest.mark.parametrize(
    "following",
    [
        "https://api.example.test/2.0/%2e%2e/admin",
        "https://api.example.test/2.0/x%2F..%2F..%2Fadmin",
        "https://api.example.test/2.0evil/x",
        "https://api.example.test:444/2.0/x",
        "https://api.example.test%2eevil.example.test/2.0/x",
        "https://api.example.test\\@evil.example.test/2.0/x",
        "https://api.example.test:@evil.example.test/2.0/x",
        "/2.0/repositories/acme?page=2",
        "?page=2",
        "https://",
        "https://[::1",
        "\x00",
        ["https://api.example.test/2.0/x"],
        {"href": "https://api.example.test/2.0/x"},
        True,
    ],
)
async def test_next_never_leads_away_from_the_api(following: object) -> None:
    server = Server([lambda: listed(entries(1, 1), next=following)])
    with pytest.raises(BadAnswer):
        await read(server)
    assert len(server.asked) == 1


async def test_the_same_host_in_other_letters_is_the_same_host() -> None:
    following = "HTTPS://API.Example.Test:443/2.0/repositories/acme?page=2"
    server = Server([lambda: listed(entries(1, 1), next=following), lambda: listed(entries(2, 2))])
    assert await read(server) == [1, 2]


async def test_a_page_size_that_was_refused_is_not_asked_for_again() -> None:
    def capped(request: httpx.Request) -> httpx.Response:
        if int(request.url.params.get("pagelen", "10")) > 50:
            return httpx.Response(400, json={"type": "error", "error": {"message": "Invalid pagelen"}})
        return listed(entries(1, 1))

    server = Server(capped)
    async with client_for(server) as client:
        for _ in range(3):
            await all_of(client, REPOSITORIES, workspace="acme")
    sizes = [parse_qs(urlsplit(path).query)["pagelen"][0] for path in server.paths]
    assert sizes == ["100", "50", "50", "50"]


async def test_lists_that_are_refused_at_once_shrink_only_once() -> None:
    async def capped(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.001)
        if int(request.url.params.get("pagelen", "10")) > 50:
            return httpx.Response(400, json={"type": "error", "error": {"message": "Invalid pagelen"}})
        return listed(entries(1, 1))

    async with client_for(capped) as client:
        await asyncio.gather(*(all_of(client, REPOSITORIES, workspace="acme") for _ in range(4)))
        assert client.page_size(REPOSITORIES) == 50


async def test_another_refusal_is_not_taken_for_one_of_the_page_size() -> None:
    server = Server([lambda: httpx.Response(400, json={"error": {"message": "Invalid query"}})])
    with pytest.raises(MirrorError, match="Invalid query"):
        await read(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("tells_size", [True, False])
@pytest.mark.parametrize("told_length", [30, None])
async def test_pipelines_are_counted_to_their_end_though_pages_are_smaller_than_asked(
    tells_size: bool, told_length: int | None
) -> None:
    """The client asks for 100, the server gives 30: a page of 30 is not the last one."""

    def small(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("page", "1"))
        more = {"size": 70} if tells_size else {}
        if told_length is not None:
            more["pagelen"] = told_length
        return listed(entries(1, 70)[(number - 1) * 30 : number * 30], **more)

    server = Server(small)
    assert await read(server, PIPELINES, **REPO) == list(range(1, 71))
    assert len(server.asked) == (3 if tells_size or told_length else 4)


async def test_pipelines_with_next_are_followed_by_it() -> None:
    following = f"{API}/repositories/acme/website/pipelines/?page=zz"
    server = Server([lambda: listed(entries(1, 2), next=following), lambda: listed([])])
    assert await read(server, PIPELINES, **REPO) == [1, 2]
    assert server.paths[1].endswith("?page=zz")


async def test_a_guessed_page_that_is_not_there_is_the_end_but_a_promised_one_is_a_failure() -> None:
    def opaque(request: httpx.Request) -> httpx.Response:
        if "page" in request.url.params:
            return httpx.Response(400, json={"error": {"message": "Invalid page"}})
        return listed(entries(1, 3))

    assert await read(Server(opaque), PIPELINES, **REPO) == [1, 2, 3]

    def promised(request: httpx.Request) -> httpx.Response:
        if "page" in request.url.params:
            return opaque(request)
        return listed(entries(1, 3), next=f"{API}/repositories/acme/website/pipelines/?page=2")

    with pytest.raises(BadAnswer):
        await read(Server(promised), PIPELINES, **REPO)


async def test_other_lists_without_next_end_there() -> None:
    server = Server([lambda: listed(entries(1, 50), pagelen=50)])
    assert len(await read(server, PULL_REQUESTS, **REPO)) == 50
    assert len(server.asked) == 1


async def test_a_list_is_read_by_one_credential_from_first_page_to_last() -> None:
    """Another credential may see another list, and pages of two lists do not make one list."""

    def by_holder(request: httpx.Request) -> httpx.Response:
        who = request.headers["authorization"]
        number = int(request.url.params.get("page", "1"))
        base = 100 if who.endswith("one") else 200
        following = {"next": f"{API}/repositories/acme?page={number + 1}"} if number < 6 else {}
        return listed(entries(base + number, base + number), **following)

    async with client_for(by_holder, token("one"), token("two")) as client:
        values = await all_of(client, REPOSITORIES, workspace="acme")
    assert len({value["id"] // 100 for value in values}) == 1
    assert len(values) == 6


async def test_a_reader_may_stop_early() -> None:
    server = ListServer(entries(1, 50), length=5)
    async with client_for(server) as client:
        async for page in pages(client, REPOSITORIES, workspace="acme"):
            if page.number == 2:
                break
    assert len(server.asked) == 2


@given(
    count=st.integers(0, 40),
    length=st.integers(1, 9),
    removals=st.dictionaries(st.integers(2, 6), st.integers(0, 39), max_size=3),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_whatever_goes_while_it_is_read_what_stays_is_had_or_the_list_fails(
    count: int, length: int, removals: dict[int, int]
) -> None:
    server = ListServer(entries(1, count), length=length)
    for number, place in removals.items():
        server.before[number] = lambda values, place=place: (
            values.pop(place % len(values)) if values else None
        )
    try:
        got = asyncio.run(read(server))
    except ListShort:
        return
    assert {value["id"] for value in server.values} <= set(got)
    assert len(got) == len(set(got))


class LyingServer(ListServer):
    """A list whose reported size is always too large, by `more(n)` in the n-th response."""

    def __init__(self, values: list[dict[str, Any]], *, length: int, more: Callable[[int], int]) -> None:
        super().__init__(values, length=length)
        self.more = more
        self.has_next = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(super().__call__(request).content)
        body["size"] += self.more(len(self.asked))
        if not self.has_next:
            body.pop("next", None)
        return httpx.Response(200, json=body)


async def test_a_size_that_is_always_too_large_is_not_believed_where_the_same_comes_twice() -> None:
    server = LyingServer(entries(1, 5), length=2, more=lambda _: 1)
    with capture_logs() as logs:
        assert await read(server) == [1, 2, 3, 4, 5]
    assert len(server.asked) == 6
    [told] = [one for one in logs if one["event"] == "bitbucket.list_size_wrong"]
    assert (told["log_level"], told["reported"], told["received"]) == ("warning", 6, 5)


async def test_a_size_that_is_always_too_large_is_not_believed_by_one_who_goes_on_either() -> None:
    server = LyingServer(entries(1, 5), length=2, more=lambda _: 1)
    place = Resume(f"{API}/repositories/acme?page=3", 3, 4)
    async with client_for(server) as client:
        got = [one["id"] async for page in pages(client, REPOSITORIES, None, place, workspace="acme")
               for one in page.values]  # fmt: skip
    assert sorted(got) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("more", [2, 50])
async def test_a_list_that_lacks_many_is_short_however_often_it_says_the_same(more: int) -> None:
    with pytest.raises(ListShort):
        await read(LyingServer(entries(1, 5), length=2, more=lambda _: more))
    with pytest.raises(ListShort):
        await read(LyingServer([], length=2, more=lambda _: 1))


@pytest.mark.parametrize("why", ["the size varies", "others came", "a full page is the last"])
async def test_a_size_that_is_too_large_is_believed_where_anything_may_have_been_missed(why: str) -> None:
    count = 4 if why == "a full page is the last" else 5
    server = LyingServer(entries(1, count), length=2, more=lambda n: n if why == "the size varies" else 1)
    if why == "others came":
        server.before[4] = lambda values: values.__setitem__(0, {"id": 9})
    server.has_next = why != "a full page is the last"
    with pytest.raises(ListShort):
        await read(server)
