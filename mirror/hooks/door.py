"""Whether the door for webhooks answers at its public address: to us, and to nobody else."""

from __future__ import annotations

import asyncio

import httpx

from mirror.auth.hook_keys import signature_of
from mirror.doctor.checks import Check
from mirror.errors import UsageError
from mirror.hooks.address import HookAddress
from mirror.http.failures import failure_reason
from mirror.http.network import Network
from mirror.http.transports import NetworkTransport

NAME = "door"
# Bitbucket waits so many seconds for an answer.
PATIENCE = 10.0
# It announces no repository, so that it costs no request.
PING = b'{"mirror": "ping"}'


async def door_check(address: HookAddress, network: Network) -> Check:
    """Send a signed ping and an unsigned one through the public address. The first must be taken and the
    second refused; other servers take or refuse both."""
    signed = await _post(address.url, signature_of(address.keys.secret, PING), network)
    if isinstance(signed, str):
        text = f"no answer from {address.host}: {signed}"
        remedy = (
            "start mirror daemon, and let Bitbucket reach hooks.listen at hooks.url; where this machine "
            "cannot reach its own public address, run this elsewhere"
        )
        return Check(NAME, "fail", text, remedy)
    if not 200 <= signed < 300:
        text = f"{address.host} answered {signed} to a ping that we signed"
        remedy = "the daemon must have read the same hooks.secret: reload it; look at the proxy before it"
        return Check(NAME, "fail", text, remedy)
    unsigned = await _post(address.url, None, network)
    if isinstance(unsigned, str) or not 400 <= unsigned < 500:
        text = f"{address.host} does not refuse a ping that nobody signed ({unsigned}): it is not our door"
        return Check(NAME, "fail", text, "let hooks.url lead to hooks.listen")
    return Check(NAME, "ok", f"{address.host} takes what we sign, and refuses the rest")


async def _post(url: str, signature: str | None, network: Network) -> int | str:
    """The status of the answer to a ping, or why there was none."""
    headers = {
        "User-Agent": network.api_agent,
        "Content-Type": "application/json",
        "X-Event-Key": "mirror:ping",
    }
    if signature is not None:
        headers["X-Hub-Signature"] = signature
    try:
        async with (
            asyncio.timeout(PATIENCE),
            httpx.AsyncClient(
                transport=NetworkTransport(network, httpx.Limits()), timeout=PATIENCE
            ) as client,
            client.stream("POST", url, headers=headers, content=PING) as response,
        ):
            return response.status_code
    except TimeoutError:
        return f"nothing within {PATIENCE:g} s"
    except (httpx.HTTPError, OSError, UsageError) as error:
        return failure_reason(error)[0]
