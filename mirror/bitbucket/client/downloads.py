"""Downloads of files. An interrupted download is resumed where it stopped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx

from mirror.bitbucket.client.decoding import STEP, chunks
from mirror.bitbucket.client.responses import NETWORK_ERRORS
from mirror.bitbucket.failures import BadAnswer, ServerTrouble
from mirror.http.failures import failure_reason
from mirror.http.headers import content_length, content_range
from mirror.http.rates import MinimumRate
from mirror.http.retries import backoff
from mirror.model import Clock, Progress

FILE_BYTES_MAX = 20 * 1024**3
# An attempt that receives less than this makes no progress; after RESUMES_MAX of these the file is given up.
PROGRESS_BYTES = 1024 * 1024
RESUMES_MAX = 5
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Opened:
    """A response whose body is not read yet, and the resources to close afterwards."""

    response: httpx.Response
    resources: AsyncExitStack


Begin = Callable[[Mapping[str, str]], Awaitable[Opened]]


class Download:
    """One download of at most `most` bytes. `begin` requests the file with the given headers, and `progress`
    is told of the bytes.

    Call `begin`, iterate over `chunks`, and call `close` in any case.
    """

    def __init__(
        self,
        begin: Begin,
        clock: Clock,
        what: str,
        *,
        most: int,
        minimum_rate: MinimumRate,
        progress: Progress,
    ) -> None:
        self._progress = progress
        self._begin = begin
        self._clock = clock
        self._what = what
        self._most = most
        self._minimum_rate = minimum_rate
        self._opened: Opened | None = None
        self._validator: str | None = None
        self._got = 0

    async def begin(self) -> None:
        """Request the file. Raises the errors of the request, and BadAnswer where it is too large."""
        self._opened = await self._begin({})
        response = self._opened.response
        length = content_length(response.headers)
        if response.status_code != 200 or (length is not None and length > self._most):
            await self.close()
            if response.status_code != 200:
                raise BadAnswer(
                    f"{self._what}: answered with a part that was not requested", endpoint=self._what
                )
            raise self._too_large()
        self._validator = _validator(response)

    async def close(self) -> None:
        """Release the connection."""
        if self._opened is not None:
            await self._opened.resources.aclose()
            self._opened = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes. Raises BadAnswer where there are too many, and ServerTrouble where the rest cannot
        be downloaded."""
        tries = 0
        while self._opened is not None:
            before = self._got
            try:
                async for chunk in self._body(self._opened.response):
                    self._got += len(chunk)
                    self._progress.received(0, len(chunk))
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
            await self._resume(backoff(tries, first=PAUSE_SECONDS, chance=lambda: 1.0))

    def _body(self, response: httpx.Response) -> AsyncIterator[bytes]:
        # One step past the limit, so that an oversized file gets its own message.
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
            raise ServerTrouble(f"{self._what}: the connection failed, and the download cannot be resumed")

    def _too_large(self) -> BadAnswer:
        return BadAnswer(
            f"{self._what}: larger than {int(self._most)} bytes, the most that limits.file_max allows",
            endpoint=self._what,
            hint="raise limits.file_max to keep it",
        )


def _validator(response: httpx.Response) -> str | None:
    """The strong ETag, which proves that a later response has the same bytes; None where there is none."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return None
    tag: str = response.headers.get("etag", "")
    return tag if tag.startswith('"') else None


def _begins_at(response: httpx.Response) -> int | None:
    """The first byte of the file that a response has; None where it does not say."""
    if response.status_code == 200:
        return 0
    part = content_range(response.headers)
    return part.start if part is not None else None
