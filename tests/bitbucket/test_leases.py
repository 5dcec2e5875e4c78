"""Nothing is sent that was not lent, whoever lends it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.auth.credentials import OAuthConsumer
from mirror.bitbucket.client.budget import BORROWED, Budget, Priority
from mirror.bitbucket.client.local_leases import HOUR
from mirror.bitbucket.endpoints import REPOSITORY
from mirror.bitbucket.failures import RateLimited
from mirror.errors import TryLater
from tests.auth.helpers import signed, variable
from tests.bitbucket.helpers import client_for
from tests.bitbucket.lender import SECONDS, Borrower, FakeClock, Lender

WHERE = {"workspace": "acme", "repository": "website"}

# What happens next: so much later, one of the hosts sends so many requests at once, dies and begins anew, is
# over with a run, or loses the lender.
STEPS = st.lists(
    st.tuples(
        st.floats(0, 900),
        st.integers(0, 2),
        st.one_of(st.integers(1, 40), st.sampled_from(["dies", "settles", "is lost"])),
    ),
    min_size=1,
    max_size=30,
)


@given(steps=STEPS, limit=st.integers(1, 90), reserve=st.integers(0, 30))
@settings(derandomize=True, max_examples=80, deadline=None)
def test_hosts_together_never_send_more_than_the_limit_in_any_hour(
    steps: list[tuple[float, int, int | str]], limit: int, reserve: int
) -> None:
    """Whoever dies, and whatever is given back or lost."""
    clock = FakeClock()
    lender = Lender(clock, limit)
    sent: list[float] = []

    def host() -> Budget:
        return Budget(clock, reserve=reserve, patience=1e12, leases=Borrower(lender))

    async def live() -> None:
        hosts = [host() for _ in range(3)]
        for later, number, what in steps:
            clock.elapsed += later
            lender.is_reachable = what != "is lost"
            if what == "dies":
                hosts[number] = host()
            elif what == "settles":
                await hosts[number].settle()
            elif what == "is lost":
                # It may send on what it has; then it sends nothing.
                with pytest.raises(TryLater):
                    while True:
                        await request(hosts[number])
            else:
                await asyncio.gather(*(request(hosts[number]) for _ in range(int(what))))

    async def request(budget: Budget) -> None:
        right = await budget.acquire("me", "api")
        assert not budget.is_over(right)
        sent.append(clock.monotonic())

    asyncio.run(live())
    allowed = max(1, limit - reserve)
    for number, moment in enumerate(sent):
        assert sum(moment - HOUR < one for one in sent[: number + 1]) <= allowed


async def test_the_next_request_of_many_that_wait_is_the_most_urgent_one() -> None:
    clock = FakeClock()
    lender = Lender(clock, 1)
    budget = Budget(clock, leases=Borrower(lender), patience=1e9)
    order: list[Priority] = []

    async def request(priority: Priority) -> None:
        await budget.acquire("me", "api", priority=priority)
        order.append(priority)

    await budget.acquire("me", "api")
    await asyncio.gather(*(request(one) for one in (Priority.OLD, Priority.OPEN, Priority.FIRST)))
    assert order == [Priority.FIRST, Priority.OPEN, Priority.OLD]


async def test_one_that_spares_leaves_a_quarter_even_of_what_its_host_was_lent() -> None:
    clock = FakeClock()
    lender = Lender(clock, 20)
    budget = Budget(clock, leases=Borrower(lender))
    for _ in range(15):
        await budget.acquire("me", "api")
    with pytest.raises(RateLimited):
        await budget.acquire("me", "api", spares=True, until=clock.monotonic())
    assert budget.left("me", "api") == 5
    assert budget.left("me", "api", spares=True) == 0
    assert lender.asked == 1


async def test_what_was_not_sent_is_given_back_at_the_end_of_a_run() -> None:
    clock = FakeClock()
    lender = Lender(clock, 1000)
    budget = Budget(clock, leases=Borrower(lender))
    await budget.acquire("me", "api")
    assert (budget.used("me", "api"), budget.left("me", "api")) == ((BORROWED, 1000), 999)
    await budget.settle()
    assert (budget.used("me", "api"), budget.left("me", "api")) == ((1, 1000), 999)


async def test_a_refusal_that_another_host_met_holds_what_was_lent() -> None:
    clock = FakeClock()
    lender = Lender(clock, 1000)
    one, other = (Budget(clock, leases=Borrower(lender)) for _ in range(2))
    await one.acquire("me", "api")
    other.block("me", "api", 120)
    assert one.left("me", "api") == 0
    await one.acquire("me", "api")
    assert clock.elapsed >= 120


async def test_a_request_that_waits_for_a_connection_longer_than_its_lease_borrows_again() -> None:
    """The first two hold both connections for a minute: the third may not be sent on the lease of then."""
    clock = FakeClock()
    lender = Lender(clock, 1000)
    borrower = Borrower(lender)
    sent: list[bool] = []
    may_answer = asyncio.Event()

    async def server(request: httpx.Request) -> httpx.Response:
        sent.append(any(until > clock.monotonic() for _, until in lender.lent.values()))
        if len(sent) == 2:
            clock.elapsed += 2 * SECONDS
            may_answer.set()
        await may_answer.wait()
        return httpx.Response(200, json={})

    budget = Budget(clock, leases=borrower)
    async with client_for(server, clock=clock, budget=budget, concurrency=2) as client:
        await asyncio.gather(*(client.get(REPOSITORY, None, **WHERE) for _ in range(3)))
    assert sent == [True] * 3
    assert lender.asked == 2


async def test_nothing_is_sent_while_the_lender_cannot_be_reached() -> None:
    clock = FakeClock()
    lender = Lender(clock, 1000)
    lender.is_reachable = False
    asked: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={})

    async with client_for(server, clock=clock, budget=Budget(clock, leases=Borrower(lender))) as client:
        with pytest.raises(TryLater, match="nothing is sent"):
            await client.get(REPOSITORY, None, **WHERE)
        assert not asked
        lender.is_reachable = True
        await client.get(REPOSITORY, None, **WHERE)
    assert len(asked) == 1


@pytest.mark.parametrize("left", [1, 2])
async def test_a_request_repeated_with_a_renewed_token_is_lent_as_well(left: int) -> None:
    """Where one is left, the repetition waits for the next hour."""
    clock = FakeClock()
    lender = Lender(clock, left)
    asked: list[float] = []

    def server(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("access_token"):
            return httpx.Response(200, json={"access_token": f"token-{len(asked)}"})
        asked.append(clock.monotonic())
        return httpx.Response(200 if len(asked) > 1 else 401, json={})

    consumer = signed(OAuthConsumer("id", variable("SECRET")), "x" * 20, clock=clock)
    budget = Budget(clock, leases=Borrower(lender))
    async with client_for(server, consumer, clock=clock, budget=budget) as client:
        await client.get(REPOSITORY, None, **WHERE)
    assert len(asked) == client.requests == 2
    assert asked[1] - asked[0] >= (HOUR if left == 1 else 0)
