"""Sends a message by Apprise, in a process of its own.

The process keeps Apprise's imports and what its services hold out of this one, and it can be killed: a server
that answers a byte a minute must not hold up anything. It gets the addresses, which are secrets, on its
standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import mirror
from mirror.errors import missing_extra
from mirror.http.network import Network
from mirror.http.proxies import Proxy
from mirror.logs import get_logger
from mirror.model import JsonObject, NotCanonical, dumps, loads
from mirror.notify.apprise_process import UNKNOWN
from mirror.notify.message import Message

# How long all addresses together may take, in seconds.
SECONDS = 30.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")

_log = get_logger("notify")


def check_installed() -> None:
    """Raise UsageError where Apprise is not installed."""
    if importlib.util.find_spec("apprise") is None:
        raise missing_extra("notify", "the configuration has `notify`: notices need Apprise")


async def unknown(urls: Sequence[str], *, environment: Mapping[str, str]) -> list[int]:
    """The positions of the addresses that Apprise does not know. Sends nothing."""
    found = await _run({"urls": list(urls), "message": None}, environment, SECONDS)
    return [index for index, problem in enumerate(found) if problem == UNKNOWN]


async def deliver(
    message: Message,
    urls: Sequence[str],
    *,
    network: Network,
    environment: Mapping[str, str],
    seconds: float = SECONDS,
) -> list[str | None]:
    """Send `message` to each of `urls`, within `seconds`; returns for each why it was not sent, or None."""
    order = {
        "urls": list(urls),
        "message": {"title": message.title, "body": message.body, "kind": message.kind},
        "environment": _proxies(network),
        "authorities": [str(path) for path in network.authority_files()],
    }
    return await _run(order, environment, seconds)


async def _run(order: JsonObject, environment: Mapping[str, str], seconds: float) -> list[str | None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "mirror.notify.apprise_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a library's message may contain an address
        env={
            **{name: environment[name] for name in _PASSED_ON if name in environment},
            "PYTHONPATH": str(Path(mirror.__file__).parents[1]),
        },
    )  # fmt: skip
    results: list[str | None] = [f"no answer within {seconds:g} s"] * len(order["urls"])
    try:
        async with asyncio.timeout(seconds):
            await _exchange(process, {**order, "seconds": math.ceil(seconds)}, results)
    except (TimeoutError, OSError, ValueError) as error:
        _log.debug("notify.process_failed", reason=type(error).__name__)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return results


async def _exchange(
    process: asyncio.subprocess.Process, order: JsonObject, results: list[str | None]
) -> None:
    """Give the process its order, and put what it says about each address into `results`, as it comes."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(dumps(order))
    await process.stdin.drain()
    process.stdin.close()
    async for line in process.stdout:
        with contextlib.suppress(NotCanonical, KeyError, TypeError, IndexError):
            said = loads(line)
            results[int(said["index"])] = said["problem"]
    await process.wait()


def _proxies(network: Network) -> dict[str, str]:
    """The proxies as the environment variables that Apprise's libraries read."""
    named = {"HTTPS_PROXY": network.https_proxy, "HTTP_PROXY": network.http_proxy}
    found = {name: _with_login(proxy) for name, proxy in named.items() if proxy is not None}
    return {**found, "NO_PROXY": ",".join(network.no_proxy)} if found else {}


def _with_login(proxy: Proxy) -> str:
    scheme, _, rest = proxy.url.partition("://")
    login = f"{quote(proxy.username, safe='')}:{quote(proxy.password, safe='')}@" if proxy.username else ""
    return f"{scheme}://{login}{rest}"
