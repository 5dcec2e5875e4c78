"""A sign-in whose every request to the API is one that the budget lent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import httpx

from mirror.http.scope import Scope


class Spending(httpx.Auth):
    """Signs as `auth` does. Before each request below the API's root, the one repeated with a renewed token
    included, it waits for `spend`."""

    def __init__(self, auth: httpx.Auth, scope: Scope, spend: Callable[[], Awaitable[None]]) -> None:
        self._auth, self._scope, self._spend = auth, scope, spend

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign `request`."""
        # Closed at once, so that a cancelled request never keeps the lock of a renewal.
        async with aclosing(self._auth.async_auth_flow(request)) as flow:
            wanted = await anext(flow)
            while True:
                if self._scope.contains(str(wanted.url)):
                    await self._spend()
                received = yield wanted
                try:
                    wanted = await flow.asend(received)
                except StopAsyncIteration:
                    return
