"""What the daemon checks before it reports that it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mirror.auth.signin import SignIn
from mirror.bitbucket import endpoints
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.failures import BadAnswer
from mirror.config import Config
from mirror.connect import client_with, network_of, sign_ins_of
from mirror.connect.notices import check_notices
from mirror.daemon.schedule import jobs_of
from mirror.errors import CredentialRefused, MirrorError, TryLater, UsageError
from mirror.http.network import Network
from mirror.model import Clock
from mirror.store.writing.writer import open_store

# How long the start-up waits for a response of Bitbucket, in seconds.
RESPONSE_SECONDS = 5.0


async def check(config: Config, *, clock: Clock, environment: Mapping[str, str], budget: Budget) -> list[str]:
    """Raise a MirrorError where the configuration cannot work: no schedule, no store, no secret, no way to
    send notices, a refused credential.

    Returns why credentials could not be checked, where Bitbucket cannot be reached.
    """
    if not jobs_of(config):
        raise UsageError(
            "the configuration has no schedule, so the daemon has nothing to do",
            hint='add for example: schedule: {backup: "0 */4 * * *"}',
        )
    with open_store(config.store, command="mirror daemon"):
        pass
    await check_notices(config, environment)
    network = await network_of(config, environment)
    signed: dict[tuple[str, str | None], SignIn] = {}
    for workspace in config.workspaces:
        for one in await sign_ins_of(
            config, workspace.credentials, environment=environment, clock=clock, network=network
        ):
            signed.setdefault((one.identity, workspace.workspace), one)
    trouble = await asyncio.gather(
        *(_check(one, workspace, config, clock, budget, network) for (_, workspace), one in signed.items())
    )
    return sorted({one for one in trouble if one is not None})


async def _check(
    signed: SignIn, workspace: str | None, config: Config, clock: Clock, budget: Budget, network: Network
) -> str | None:
    """Check that Bitbucket accepts this credential; returns why that could not be checked, or None. Raises
    CredentialRefused."""
    endpoint = endpoints.WORKSPACE if workspace is not None else endpoints.USER_WORKSPACES
    try:
        async with (
            asyncio.timeout(RESPONSE_SECONDS),
            client_with(config, [signed], clock=clock, network=network, budget=budget) as client,
        ):
            await client.get(endpoint, workspace=workspace or "")
    except CredentialRefused as error:
        raise CredentialRefused(f"{signed.label}: {error.message}", hint=error.hint) from error
    except TimeoutError:
        return f"no response within {RESPONSE_SECONDS:g} s"
    except (TryLater, BadAnswer) as error:
        return error.message
    except MirrorError:
        return None  # accepted, but without access to this
    return None
