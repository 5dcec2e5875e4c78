"""Decodes the bodies of responses in bounded steps.

A few kilobytes of gzip can expand to gigabytes in one step, before anything could count them. So the body is
decompressed here, up to a limit, and not by the HTTP library.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx

from mirror.bitbucket.failures import BadAnswer
from mirror.http.rates import MinimumRate, at_least_rate

# The only encoding that is requested: no other can be decoded here within limits.
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
    """Yield the body of `response`: at most `most` bytes, at `minimum_rate`, and within `seconds` in all
    where that is given. `what` names it in errors.

    Raises BadAnswer where it is longer or has an encoding that was not requested, TooSlow, and
    httpx.DecodingError where it is corrupt.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("gzip", "x-gzip", "identity", ""):
        raise BadAnswer(f"{what}: answered in an encoding that was not requested", endpoint=what)
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
    """The body of a response from a mock transport, decoded already."""
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
        raise httpx.DecodingError("corrupt gzip") from None
    if is_open:
        raise httpx.DecodingError("truncated gzip")
