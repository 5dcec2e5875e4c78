"""What the daemon makes sure of before it says that it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from mirror.auth.signin import SignIn, sign_in
from mirror.bitbucket import endpoints
from mirror.bitbucket.budget import Budget
from mirror.bitbucket.client import Client
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import BadAnswer
from mirror.config import Config
from mirror.daemon.schedule import triggers
from mirror.errors import CredentialRefused, MirrorError, TryLater, UsageError
from mirror.model import Clock
from mirror.store.writer import open_store

# How long Bitbucket has to answer; the service does not wait for it any longer.
ANSWER_SECONDS = 5.0


async def prove(config: Config, *, clock: Clock, environment: Mapping[str, str], budget: Budget) -> list[str]:
    """Raise where the configuration cannot work: no schedule, no store, no secret, a refused credential.

    Returns why credentials could not be tried, where Bitbucket cannot be reached.
    """
    if not any(trigger for _, trigger in triggers(config)):
        raise UsageError(
            "the configuration has no schedule, so there is nothing for a daemon to do",
            hint='add for example: schedule: {backup: "0 */4 * * *"}',
        )
    with open_store(config.store, command="mirror daemon"):
        pass
    urls = config.bitbucket
    signed: dict[tuple[str, str | None], SignIn] = {}
    for workspace in config.workspaces:
        for credential in workspace.credentials:
            one = await sign_in(
                credential,
                environment=environment,
                oauth_url=urls.oauth_url,
                api_url=urls.api_url,
                clock=clock,
            )
            signed.setdefault((one.identity, workspace.workspace), one)
    trouble = await asyncio.gather(
        *(_try(one, workspace, config, clock, budget) for (_, workspace), one in signed.items())
    )
    return sorted({one for one in trouble if one is not None})


async def _try(
    signed: SignIn, workspace: str | None, config: Config, clock: Clock, budget: Budget
) -> str | None:
    """Ask Bitbucket whether it lets this credential in; returns why that cannot be told. Raises
    CredentialRefused."""
    asked: Sequence[Endpoint] = (endpoints.WORKSPACE, endpoints.REPOSITORIES)
    if workspace is None:
        asked = (endpoints.USER_WORKSPACES, endpoints.USER)
    refusal: CredentialRefused | None = None
    # One endpoint may answer 401 for itself alone. A client does not ask again by what it saw refused.
    for endpoint in asked:
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                Client([signed], api_url=config.bitbucket.api_url, clock=clock, budget=budget) as client,
            ):
                await client.get(endpoint, workspace=workspace or "")
        except CredentialRefused as error:
            refusal = error
        except TimeoutError:
            return f"no answer within {ANSWER_SECONDS:g} s"
        except (TryLater, BadAnswer) as error:
            return error.message
        except MirrorError:
            return None  # it was let in, and may not see this
        else:
            return None
    assert refusal is not None
    raise CredentialRefused(f"{signed.label}: {refusal.message}", hint=refusal.hint)
