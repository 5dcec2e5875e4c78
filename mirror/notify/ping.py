"""Pings of a monitoring service in the style of healthchecks: it raises the alarm when they stop.

`URL/start` says that a run began, `URL` that it ended well, `URL/fail` that it did not.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import httpx

from mirror.errors import UsageError
from mirror.http.failures import failure_reason
from mirror.http.network import Network
from mirror.http.origins import is_loopback, origin
from mirror.http.transports import NetworkTransport
from mirror.logs import get_logger
from mirror.model import Clock

Signal = Literal["start", "success", "fail"]
# How long one attempt may take, and the pauses before the next ones, in seconds.
ATTEMPT = 10.0
PAUSES = (1.0, 5.0)
# What healthchecks keeps of a message, in bytes.
TEXT_MAX = 10_000

_log = get_logger("notify")


def check_url(url: str) -> None:
    """Raise UsageError, which never repeats `url`, where it cannot be pinged."""
    try:
        httpx.URL(url)
        where = origin(url)
    except (httpx.InvalidURL, ValueError):
        where = ("", "", None)
    scheme, host, _ = where
    if not host or not (scheme == "https" or (scheme == "http" and is_loopback(where))):
        raise UsageError(
            "ping.url is not a URL that begins with https:// (plain http is accepted for loopback only)",
            hint="put the ping URL of your check there, such as https://hc-ping.com/UUID",
        )


async def ping(
    url: str, signal: Signal, text: str, *, network: Network, clock: Clock, attempt: float = ATTEMPT
) -> bool:
    """Send one signal, with `text` as its message; returns whether the server took it.

    Tries three times, each at most `attempt` seconds. Never raises; the log does not contain the URL.
    """
    reason = ""
    for pause in (0.0, *PAUSES):
        if pause:
            await clock.sleep(pause)
        reason = await _send(_with(url, signal), text, network, attempt)
        if not reason:
            return True
    _log.warning("notify.ping_failed", signal=signal, reason=reason)
    return False


def _with(url: str, signal: Signal) -> httpx.URL:
    """The URL of a signal; a query stays at the end."""
    parsed = httpx.URL(url)
    if signal == "success":
        return parsed
    path, mark, query = parsed.raw_path.partition(b"?")
    return parsed.copy_with(raw_path=path.rstrip(b"/") + b"/" + signal.encode() + mark + query)


async def _send(url: httpx.URL, text: str, network: Network, attempt: float) -> str:
    """One attempt; returns why it failed, or an empty text."""
    try:
        async with (
            asyncio.timeout(attempt),
            httpx.AsyncClient(
                transport=NetworkTransport(network, httpx.Limits()),
                headers={"User-Agent": network.api_agent},
                timeout=attempt,
            ) as client,
            # The answer is its status; a body, however long, is not read.
            client.stream("POST", url, content=text.encode("utf-8", "replace")[:TEXT_MAX]) as response,
        ):
            return "" if response.is_success else f"the server answered {response.status_code}"
    except TimeoutError:
        return f"no answer within {attempt:g} s"
    except (httpx.HTTPError, OSError, UsageError) as error:
        return failure_reason(error)[0]
