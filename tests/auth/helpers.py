"""A clock that tests move, and credentials whose secrets are in an environment."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx

from mirror.auth.credentials import Credential
from mirror.auth.secrets import SecretSource
from mirror.auth.signin import SignIn, sign_in
from mirror.http.network import Network

API = "https://api.example.test/2.0"
OAUTH = "https://accounts.example.test/site/oauth2/access_token"
BEGAN = datetime(2026, 11, 23, 2, 0, 0, tzinfo=UTC)


class FakeClock:
    """Time that passes only while somebody sleeps. `slept` has the length of each sleep."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The time of day."""
        return BEGAN + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        """Seconds of a monotonic clock."""
        return 1000.0 + self.elapsed

    async def sleep(self, seconds: float) -> None:
        """Move the clock, and let other tasks run."""
        self.slept.append(seconds)
        self.elapsed += seconds
        await asyncio.sleep(0)


T = TypeVar("T")


def at_once(waiting: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        waiting.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    waiting.close()
    raise AssertionError("it waits for something")


def variable(name: str) -> SecretSource:
    """A secret source that names the environment variable."""
    return SecretSource("env", name)


def signed(
    credential: Credential,
    secret: str,
    *,
    clock: FakeClock | None = None,
    api_url: str = API,
    oauth_url: str = OAUTH,
    network: Network | None = None,
) -> SignIn:
    """`credential`, whose secret is in the variable SECRET, ready to sign."""
    return at_once(
        sign_in(
            credential,
            environment={"SECRET": secret},
            oauth_url=oauth_url,
            api_url=api_url,
            clock=clock or FakeClock(),
            network=network,
        )
    )


def client_of(handler: object) -> httpx.AsyncClient:
    """An HTTP client whose server is a function."""
    return httpx.AsyncClient(transport=httpx.MockTransport(handler))  # type: ignore[arg-type]
