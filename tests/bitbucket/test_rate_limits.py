"""The client waits after a refusal as the server asks; the budget prevents most refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.local_leases import HOUR
from mirror.bitbucket.endpoints import REPOSITORY
from mirror.bitbucket.failures import RateLimited
from mirror.http.headers import rate_limit_from_headers, wait_from_headers
from mirror.model import NoProgress, Use, UseJournal
from tests.auth.helpers import BEGAN
from tests.bitbucket.helpers import API, FakeClock, Server, client_for, token

WHERE = {"workspace": "acme", "repository": "website"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17),
        ({"retry-after": " 17 "}, 17),
        ({"retry-after": "17, 17"}, 17),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "Mon, 23 Nov 2026 02:01:00 GMT"}, 60),
        ({"retry-after": "Mon, 23 Nov 2026 01:00:00 GMT"}, 0),
        ({"retry-after": "Mon, 23 Nov 2026 03:01:00 +0100"}, 60),
        ({"retry-after": "soon", "x-ratelimit-reset": "9"}, 9),
        ({"retry-after": "-5", "x-ratelimit-reset": "9"}, 9),
        ({"x-ratelimit-reset": "880"}, 880),
        ({"x-ratelimit-reset": "880, 880;w=3600"}, 880),
        ({"x-ratelimit-reset": "880;w=3600"}, 880),
        ({"x-ratelimit-reset": "880.25"}, 880.25),
        ({"x-ratelimit-reset": str(int(BEGAN.timestamp()) + 90)}, 90),
        ({"x-ratelimit-reset": str(int(BEGAN.timestamp()) - 90)}, 0),
        ({"x-ratelimit-reset": "never"}, None),
        ({"retry-after": "\u0661\u0662"}, None),
        ({"retry-after": "Mon, 99 Nov 99999 99:99:99 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_what_the_headers_say(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_from_headers(headers, BEGAN) == seconds


@given(st.text(max_size=40), st.text(max_size=40))
@settings(derandomize=True, max_examples=200)
def test_no_header_breaks_the_reading(one: str, other: str) -> None:
    wait = wait_from_headers({"retry-after": one, "x-ratelimit-reset": other}, BEGAN)
    assert wait is None or wait >= 0
    rate_limit_from_headers({"x-ratelimit-limit": one, "x-ratelimit-remaining": other})


def test_limits_of_another_window_are_not_taken_for_an_hours() -> None:
    assert rate_limit_from_headers({"x-ratelimit-limit": "60, 60;w=3600", "x-ratelimit-remaining": "59"}) == (
        60,
        59,
    )
    assert rate_limit_from_headers({"x-ratelimit-limit": "10, 10;w=60", "x-ratelimit-remaining": "9"}) == (
        None,
        None,
    )
    assert rate_limit_from_headers({}) == (None, None)


class Limited:
    """A server that counts over a rolling hour, and refuses as Bitbucket does."""

    def __init__(self, clock: FakeClock, limit: int, *, tells: str = "") -> None:
        self.clock, self.limit, self.tells = clock, limit, tells
        self.made: list[float] = []
        self.refused = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        now = self.clock.monotonic()
        self.made = [one for one in self.made if one > now - HOUR]
        if len(self.made) >= self.limit:
            self.refused += 1
            left = str(int(self.made[0] + HOUR - now) + 1)
            headers = {self.tells: left} if self.tells else {}
            body = {"error": {"message": "Rate limit for this resource has been exceeded"}}
            return httpx.Response(429, headers=headers, json=body)
        self.made.append(now)
        return httpx.Response(200, json={})


@pytest.mark.parametrize("tells", ["retry-after", "x-ratelimit-reset", ""])
async def test_refusals_are_waited_out_whatever_they_tell(tells: str) -> None:
    """Without a given time, the waits grow up to an hour; no request is lost."""
    clock = FakeClock()
    server = Limited(clock, 5, tells=tells)
    async with client_for(server, clock=clock) as client:
        for _ in range(12):
            await client.get(REPOSITORY, None, **WHERE)
    assert clock.elapsed >= 2 * HOUR - 60
    assert server.refused <= (4 if tells else 40)


async def test_many_requests_at_once_are_all_answered_in_the_end() -> None:
    clock = FakeClock()
    server = Limited(clock, 10, tells="retry-after")
    async with client_for(server, clock=clock, budget=Budget(clock, patience=8 * HOUR)) as client:
        await asyncio.gather(*(client.get(REPOSITORY, None, **WHERE) for _ in range(30)))


async def test_a_limit_told_in_the_headers_is_kept_without_a_refusal() -> None:
    clock = FakeClock()
    inner = Limited(clock, 20)

    def server(request: httpx.Request) -> httpx.Response:
        response = inner(request)
        response.headers["X-RateLimit-Limit"] = "20"
        return response

    async with client_for(server, clock=clock, budget=Budget(clock, reserve=5)) as client:
        for _ in range(40):
            await client.get(REPOSITORY, None, **WHERE)
    assert inner.refused == 0
    assert clock.elapsed >= 2 * HOUR


async def test_a_server_that_never_stops_refusing_is_left_with_the_time_to_come_back() -> None:
    clock = FakeClock()
    server = Server([lambda: httpx.Response(429, headers={"retry-after": "3600"})])
    async with client_for(server, clock=clock) as client:
        with pytest.raises(RateLimited) as caught:
            await client.get(REPOSITORY, None, **WHERE)
    assert caught.value.resume_at is not None
    assert caught.value.resume_at > clock.now()
    assert clock.elapsed <= 2 * HOUR
    assert all(one <= HOUR for one in clock.slept)


@pytest.mark.parametrize("wait", ["0", "0.0", "Mon, 23 Nov 2026 01:00:00 GMT"])
async def test_a_wait_of_nothing_is_not_a_leave_to_hammer(wait: str) -> None:
    clock = FakeClock()
    server = Server([lambda: httpx.Response(429, headers={"retry-after": wait})])
    async with client_for(server, clock=clock) as client:
        with pytest.raises(RateLimited):
            await client.get(REPOSITORY, None, **WHERE)
    assert len(server.asked) < 20
    assert clock.elapsed > 600


async def test_another_credential_goes_on_while_one_waits() -> None:
    def server(request: httpx.Request) -> httpx.Response:
        if request.headers["authorization"].endswith("one"):
            return httpx.Response(429, headers={"retry-after": "1800"})
        return httpx.Response(200, json={})

    clock = FakeClock()
    async with client_for(server, token("one"), token("two"), clock=clock) as client:
        for _ in range(5):
            await client.get(REPOSITORY, None, **WHERE)
    assert clock.slept == []


async def test_waiting_is_logged_once_with_the_time_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    budget = Budget(clock)
    budget.learn("me", "api", limit=1, remaining=0)
    await asyncio.gather(*(budget.acquire("me", "other") for _ in range(3)))
    assert "budget.waiting" not in capsys.readouterr().out
    await asyncio.gather(*(budget.acquire("me", "api") for _ in range(2)))
    out = capsys.readouterr().out
    assert "2026-11-23T03:00:00Z" in out
    assert out.count("budget.waiting") <= 2


def test_identities_and_groups_have_their_own_hours() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    budget.block("me", "api", 60)
    assert budget.left("me", "api") == 0
    assert budget.left("me", "raw") == budget.left("you", "api") == 1000
    clock.elapsed += 61
    assert budget.left("me", "api") == 1000


@given(
    gaps=st.lists(st.floats(0, 700), min_size=1, max_size=80),
    limit=st.integers(1, 15),
    reserve=st.integers(0, 6),
    news=st.dictionaries(st.integers(0, 79), st.integers(1, 15), max_size=3),
)
@settings(derandomize=True, max_examples=80, deadline=None)
def test_no_rolling_hour_holds_more_than_the_limit_less_the_reserve(
    gaps: list[float], limit: int, reserve: int, news: dict[int, int]
) -> None:
    """For any sequence of requests, and any changes of the limit."""
    clock = FakeClock()
    budget = Budget(clock, reserve=reserve, patience=1e12)
    made: list[tuple[float, int]] = []

    async def spend() -> None:
        current = limit
        budget.learn("me", "api", limit=current, remaining=None)
        for number, gap in enumerate(gaps):
            clock.elapsed += gap
            if (told := news.get(number)) is not None:
                current = told
                budget.learn("me", "api", limit=current, remaining=None)
            await budget.acquire("me", "api")
            made.append((clock.monotonic(), max(1, current - reserve)))

    asyncio.run(spend())
    for number, (moment, allowed) in enumerate(made):
        hour = [one for one, _ in made[: number + 1] if one > moment - HOUR]
        assert len(hour) <= allowed


def test_what_others_use_of_the_same_identity_counts() -> None:
    clock = FakeClock()
    budget = Budget(clock, reserve=10)
    budget.learn("me", "api", limit=100, remaining=30)
    assert budget.left("me", "api") == 20
    assert budget.used("me", "api") == (70, 100)


@pytest.mark.parametrize(("limit", "remaining"), [(0, 0), (-1, None), (None, 3), (10, 99)])
def test_limits_that_cannot_be_are_not_believed(limit: Any, remaining: Any) -> None:
    budget = Budget(FakeClock())
    budget.learn("me", "api", limit=limit, remaining=remaining)
    assert budget.left("me", "api") in (10, 1000)


@pytest.mark.parametrize(("limit", "remaining", "left"), [(60_000, 59_000, 59_000), (10**9, 5, 5), (7, 7, 7)])
def test_a_limit_that_is_told_is_believed_whatever_its_size(limit: int, remaining: int, left: int) -> None:
    clock = FakeClock()
    budget = Budget(clock)
    for _ in range(3):
        budget.learn("me", "api", limit=limit, remaining=remaining)
    assert budget.left("me", "api") == left
    clock.elapsed += HOUR + 1
    assert budget.left("me", "api") == limit


def test_near_the_limit_no_more_than_a_fifth_is_left() -> None:
    budget = Budget(FakeClock())
    near = {"x-ratelimit-limit": "5000", "x-ratelimit-nearlimit": "true"}
    limit, remaining = rate_limit_from_headers(near)
    budget.learn("me", "api", limit=limit, remaining=remaining)
    assert budget.left("me", "api") == 1000
    assert rate_limit_from_headers({**near, "x-ratelimit-nearlimit": "false"}) == (5000, None)
    assert rate_limit_from_headers({**near, "x-ratelimit-remaining": "12"}) == (5000, 12)


def test_files_have_a_limit_of_their_own() -> None:
    budget = Budget(FakeClock())
    assert (budget.left("me", "files"), budget.left("me", "api")) == (5000, 1000)
    budget.allow(reserve=0, limit=300)
    assert (budget.left("me", "files"), budget.left("me", "api")) == (300, 300)


async def spend(budget: Budget, requests: int, *, identity: str = "me") -> None:
    for _ in range(requests):
        await budget.acquire(identity, "api")


async def test_where_no_header_tells_it_a_refusal_teaches_the_limit_for_an_hour() -> None:
    clock = FakeClock()
    budget = Budget(clock, limit=5000)
    assert budget.left("one", "api") == 5000
    await spend(budget, 700, identity="one")
    budget.block("one", "api", 60)
    assert budget.used("one", "api") == (700, 700)
    clock.elapsed += HOUR + 1
    assert budget.left("one", "api") == 5000
    # The client waits after a burst that is refused at the beginning of the hour, and learns no limit from
    # it;
    await spend(budget, 8, identity="one")
    budget.block("one", "api", 60)
    assert budget.used("one", "api") == (8, 5000)
    # and the limit from the headers stays.
    budget.learn("one", "api", limit=2000, remaining=1000)
    budget.block("one", "api", 60)
    assert budget.used("one", "api") == (1000, 2000)


class Board:
    """A journal in memory, through which budgets exchange their use."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.told: dict[str, list[tuple[float, Use]]] = {}

    def of(self, name: str) -> UseJournal:
        board = self

        class Journal:
            def exchange(self, own: Sequence[Use]) -> Sequence[Use]:
                board.told[name] = [(board.clock.monotonic(), one) for one in own]
                return [board.others(name, one) for one in own]

        return Journal()

    def others(self, name: str, own: Use) -> Use:
        now, found, blocked = self.clock.monotonic(), [], 0.0
        for other, told in self.told.items():
            for when, one in told:
                if other != name and (one.identity, one.group) == (own.identity, own.group):
                    found += [age + now - when for age in one.made]
                    blocked = max(blocked, one.blocked - (now - when))
        return Use(own.identity, own.group, tuple(found), blocked)


async def test_a_budget_begun_anew_goes_on_where_the_killed_one_was() -> None:
    clock = FakeClock()
    board = Board(clock)
    killed = Budget(clock, reserve=100)
    killed.share(board.of("killed"))
    for _ in range(880):
        await killed.acquire("me", "api")
    # The last few requests are not in the journal; the reserve is larger.
    anew = Budget(clock, reserve=100)
    anew.share(board.of("anew"))
    assert anew.left("me", "api") <= 900 - 860
    assert anew.left("somebody else", "api") == 900
    clock.elapsed += HOUR
    await anew.settle()
    assert anew.left("me", "api") == 900


async def test_two_at_once_stay_together_within_the_limit() -> None:
    clock = FakeClock()
    board = Board(clock)
    server = Limited(clock, 1000)
    budgets = [Budget(clock, reserve=100, patience=9 * HOUR) for _ in range(2)]
    for name, budget in enumerate(budgets):
        budget.share(board.of(str(name)))
    for turn in range(3000):
        await budgets[turn % 2].acquire("me", "api")
        assert server(httpx.Request("GET", API)).status_code == 200, turn
    assert server.refused == 0
    assert clock.elapsed >= 2 * HOUR


def test_a_refusal_is_told_to_others_at_once() -> None:
    clock = FakeClock()
    board = Board(clock)
    one, other = Budget(clock), Budget(clock)
    one.share(board.of("one"))
    one.block("me", "api", 600)
    other.share(board.of("other"))
    assert other.left("me", "api") == 0
    clock.elapsed += 601
    assert other.left("me", "api") == 1000


async def test_what_headers_tell_of_others_is_not_counted_twice() -> None:
    clock = FakeClock()
    board = Board(clock)
    one, other = Budget(clock), Budget(clock)
    await spend(one, 300)
    one.share(board.of("one"))
    other.learn("me", "api", limit=1000, remaining=700)
    other.share(board.of("other"))
    assert other.used("me", "api") == (300, 1000)


async def test_waiting_is_seen() -> None:
    """The log says until when the client waits and how many requests it used; each run shows its own wait,
    until the last of its callers goes on."""
    clock = FakeClock()

    class Watcher(NoProgress):
        def __init__(self) -> None:
            self.seen: list[tuple[str, object]] = []

        def report(self, subject: str, stage: str, done: int | None = None, total: int | None = None) -> None:
            self.seen.append((subject, stage))

        def wait(self, subject: str, seconds: float) -> None:
            self.seen.append((subject, round(seconds)))

    watcher, other = Watcher(), Watcher()
    budget = Budget(clock, reserve=188)
    with capture_logs() as logs:
        for _ in range(812):
            await budget.acquire("me", "api", progress=watcher)
        assert not watcher.seen
        clock.elapsed += 60
        await asyncio.gather(*(budget.acquire("me", "api", progress=watcher) for _ in range(2)))
    assert watcher.seen[0] == ("rate limit", 3540)
    assert [one for one in watcher.seen if one[1] == "done"] == watcher.seen[-1:]
    assert not other.seen
    [told] = [one for one in logs if one["event"] == "budget.waiting"]
    assert (told["used"], told["limit"], told["resumes"]) == (812, 1000, "2026-11-23T03:00:00Z")


async def test_the_budget_reports_what_has_a_name_and_asks_nobody() -> None:
    clock = FakeClock()
    budget = Budget(clock, limit=1000)
    budget.name("user:a", "workspaces[0].credential")
    budget.name("user:a", "workspaces[1].credential")
    for identity in ("user:a", "user:a", "user:b"):
        await budget.acquire(identity, "api")
    await budget.acquire("user:a", "files")
    budget.learn("user:a", "api", limit=2000, remaining=1900)
    told = [(one.credential, one.group, one.used, one.limit) for one in budget.report()]
    assert told == [
        ("workspaces[0].credential", "api", 100, 2000),
        ("workspaces[0].credential", "files", 1, 5000),
    ]
    clock.elapsed += HOUR + 1
    assert [one.used for one in budget.report()] == [0, 0]
