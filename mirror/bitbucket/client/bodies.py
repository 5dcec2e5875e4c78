"""The bytes of an answer, undone as they come and never more of them than was agreed.

A few kilobytes of gzip can become gigabytes, in one step and before anybody has counted. So they
are undone here, with an end to it, and not by the HTTP library.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx

from mirror.bitbucket.failures import BadAnswer
from mirror.http.rates import MinimumRate, at_least_rate

# What is asked for; nothing else can be undone within bounds here.
ACCEPT_ENCODING = "gzip"
STEP = 1 << 20


async def chunks(
    response: httpx.Response,
    *,
    most: int,
    what: str,
    minimum_rate: MinimumRate,
    seconds: float | None = None,
) -> AsyncIterator[bytes]:
    """The body of `response`, at most `most` bytes of it, at the least rate of every transfer, and within
    `seconds` in all where that is given.

    Raises BadAnswer where it is longer or comes in an encoding that was not asked for, TooSlow, and
    httpx.DecodingError where it is broken.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("gzip", "x-gzip", "identity", ""):
        raise BadAnswer(f"{what}: answered in an encoding that was not asked for", endpoint=what)
    size = 0
    async for chunk in _plain(response, minimum_rate, seconds, gzipped=encoding.endswith("gzip")):
        size += len(chunk)
        if size > most:
            raise BadAnswer(f"{what}: larger than {most} bytes", endpoint=what)
        yield chunk


def _plain(
    response: httpx.Response, minimum_rate: MinimumRate, seconds: float | None, *, gzipped: bool
) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:
        return _whole(response)
    raw = at_least_rate(response.aiter_raw(), minimum_rate, seconds=seconds)
    return _gunzipped(raw) if gzipped else raw


async def _whole(response: httpx.Response) -> AsyncIterator[bytes]:
    """An answer that came without a wire, and is undone already."""
    yield response.content


async def _gunzipped(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    wbits = 16 + zlib.MAX_WBITS
    inflater = zlib.decompressobj(wbits)
    is_open = False
    try:
        async for data in source:
            while data or is_open:
                is_open = True
                out = inflater.decompress(data, STEP)
                if out:
                    yield out
                data = inflater.unconsumed_tail
                if inflater.eof:  # one member may follow another
                    data = inflater.unused_data
                    inflater = zlib.decompressobj(wbits)
                    is_open = False
                elif not data and len(out) < STEP:
                    break
    except zlib.error:
        raise httpx.DecodingError("broken gzip") from None
    if is_open:
        raise httpx.DecodingError("gzip that was cut short")
