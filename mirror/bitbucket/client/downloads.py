"""One file as its bytes come. A connection that breaks off is taken up again where it broke."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx

from mirror.bitbucket.client.answers import NETWORK_ERRORS
from mirror.bitbucket.client.bodies import STEP, chunks
from mirror.bitbucket.failures import BadAnswer, ServerTrouble
from mirror.http.failures import failure_reason
from mirror.http.headers import content_length, content_range
from mirror.http.rates import MinimumRate
from mirror.model import Clock

FILE_BYTES_MAX = 20 * 1024**3
# A try that brings less than this is no progress, and after so many of those the file is given up.
PROGRESS_BYTES = 1024 * 1024
RESUMES_MAX = 5
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Opened:
    """An answer whose body is still to be read, and what to close afterwards."""

    response: httpx.Response
    held: AsyncExitStack


Begin = Callable[[Mapping[str, str]], Awaitable[Opened]]


class Download:
    """One download. `begin` asks for the file, with the headers that it is given.

    Call `begin`, then iterate over `chunks`, then `close`, whatever happens.
    """

    def __init__(
        self, begin: Begin, clock: Clock, what: str, *, most: int, minimum_rate: MinimumRate
    ) -> None:
        self._begin = begin
        self._clock = clock
        self._what = what
        self._most = most
        self._minimum_rate = minimum_rate
        self._opened: Opened | None = None
        self._validator: str | None = None
        self._got = 0

    async def begin(self) -> None:
        """Ask for the file. Raises what that comes to, and BadAnswer where it says it is too large."""
        self._opened = await self._begin({})
        response = self._opened.response
        length = content_length(response.headers)
        if response.status_code != 200 or (length is not None and length > self._most):
            await self.close()
            if response.status_code != 200:
                raise BadAnswer(f"{self._what}: answered a part of what was asked for", endpoint=self._what)
            raise self._too_large()
        self._validator = _validator(response)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._opened is not None:
            await self._opened.held.aclose()
            self._opened = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes. Raises BadAnswer where there are too many, ServerTrouble where the rest of them
        cannot be had."""
        tries = 0
        while self._opened is not None:
            before = self._got
            try:
                async for chunk in self._body(self._opened.response):
                    self._got += len(chunk)
                    if self._got > self._most:
                        raise self._too_large()
                    yield chunk
            except NETWORK_ERRORS as error:
                tries = 1 if self._got - before >= PROGRESS_BYTES else tries + 1
                if self._validator is None or tries > RESUMES_MAX:
                    reason, hint = failure_reason(error)
                    text = f"{self._what}: the connection failed ({reason})"
                    raise ServerTrouble(text, hint=hint) from error
            else:
                return
            await self._resume(PAUSE_SECONDS * 2 ** (tries - 1))

    def _body(self, response: httpx.Response) -> AsyncIterator[bytes]:
        # Read one step past the bound, so that an oversized body gets its own message.
        most = self._most - self._got + STEP
        return chunks(response, most=most, what=self._what, minimum_rate=self._minimum_rate)

    async def _resume(self, pause: float) -> None:
        await self.close()
        await self._clock.sleep(pause)
        assert self._validator is not None
        headers = {"Range": f"bytes={self._got}-", "If-Range": self._validator} if self._got else {}
        self._opened = await self._begin(headers)
        response = self._opened.response
        if _validator(response) != self._validator or _begins_at(response) != self._got:
            raise ServerTrouble(f"{self._what}: the connection failed, and the rest of it cannot be had")

    def _too_large(self) -> BadAnswer:
        return BadAnswer(
            f"{self._what}: larger than {int(self._most)} bytes, the most that limits.file_max allows",
            endpoint=self._what,
            hint="raise limits.file_max to keep it",
        )


def _validator(response: httpx.Response) -> str | None:
    """What tells that a later answer is of the same bytes; None where nothing does."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return None
    tag: str = response.headers.get("etag", "")
    return tag if tag.startswith('"') else None


def _begins_at(response: httpx.Response) -> int | None:
    """At which byte of the file an answer begins; None where it does not say."""
    if response.status_code == 200:
        return 0
    part = content_range(response.headers)
    return part.start if part is not None else None
