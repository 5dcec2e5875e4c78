"""Tiny servers: a function that answers, a client in front of it, and a clock that only sleeps move."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import httpx

from mirror.auth.credentials import WorkspaceAccessToken
from mirror.auth.signin import SignIn
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.client import Client
from tests.auth.helpers import API, OAUTH, FakeClock, signed, variable

__all__ = ["API", "OAUTH", "FakeClock", "Server", "client_for", "listed", "token"]

Reply = httpx.Response | Exception


def token(name: str = "token", *, api_url: str = API, clock: FakeClock | None = None) -> SignIn:
    """A workspace access token whose secret is `secret-of-<name>`."""
    return signed(WorkspaceAccessToken(variable("SECRET")), f"secret-of-{name}", api_url=api_url, clock=clock)


class Server:
    """Answers with `reply`, and records the requests. If `reply` is a list, each request gets the next one,
    and all later requests the last one."""

    def __init__(self, reply: Callable[[httpx.Request], Reply] | Iterable[Callable[[], Reply]]) -> None:
        self.asked: list[httpx.Request] = []
        if callable(reply):
            self._reply: Callable[[httpx.Request], Reply] = reply
        else:
            replies = list(reply)
            self._reply = lambda _: replies[min(len(self.asked), len(replies)) - 1]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._reply(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def paths(self) -> list[str]:
        """Path and query of every request."""
        return [one.url.raw_path.decode() for one in self.asked]


def client_for(
    server: Callable[[httpx.Request], httpx.Response]
    | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]],
    *sign_ins: SignIn,
    clock: FakeClock | None = None,
    budget: Budget | None = None,
    api_url: str = API,
    **more: Any,
) -> Client:
    """A client of `server`, by default with one access token."""
    return Client(
        sign_ins or [token(api_url=api_url)],
        api_url=api_url,
        clock=clock or FakeClock(),
        budget=budget,
        transport=httpx.MockTransport(server),
        jitter=random.Random(7),
        **more,
    )


def listed(values: list[Any], **more: Any) -> httpx.Response:
    """One page of a list."""
    return httpx.Response(200, json={"values": values, **more})
