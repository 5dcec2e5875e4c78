"""Clients of the API and logins for git, with their secrets read now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx

from mirror.auth.credentials import Credential
from mirror.auth.flows import RenewingAuth
from mirror.auth.signin import SignIn, sign_in
from mirror.bitbucket.client.budget import Budget
from mirror.bitbucket.client.client import Client
from mirror.config.settings import Config, WorkspaceConfig
from mirror.connect.network import network_of
from mirror.git.wire.client import GitLogin
from mirror.http.network import Network
from mirror.model import Clock


async def sign_ins_of(
    config: Config,
    credentials: Sequence[Credential],
    *,
    environment: Mapping[str, str],
    clock: Clock,
    network: Network | None = None,
) -> list[SignIn]:
    """`credentials` with their secrets read. Raises UsageError where one cannot be read."""
    urls = config.bitbucket
    found = []
    for one in credentials:
        ready = await sign_in(
            one, environment=environment, oauth_url=urls.oauth_url, api_url=urls.api_url, clock=clock
        )
        if network is not None and isinstance(ready.auth, RenewingAuth):
            ready.auth.user_agent = network.api_agent
        found.append(ready)
    return found


@asynccontextmanager
async def client_of(
    config: Config,
    workspace: WorkspaceConfig,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    until: float | None = None,
) -> AsyncIterator[Client]:
    """A client for one entry of the configuration. Raises UsageError where a secret cannot be read."""
    network = await network_of(config, environment)
    signed = await sign_ins_of(
        config, workspace.credentials, environment=environment, clock=clock, network=network
    )
    async with Client(
        signed,
        api_url=config.bitbucket.api_url,
        clock=clock,
        concurrency=config.limits.api_concurrency,
        budget=budget,
        transport=transport,
        until=until,
        file_max=config.limits.file_max,
        network=network,
    ) as client:
        yield client


async def git_login(
    config: Config, workspace: WorkspaceConfig, *, clock: Clock, environment: Mapping[str, str]
) -> GitLogin | None:
    """User name and password for git by the first credential that gives some. Raises UsageError,
    CredentialRefused, and TryLater where the sign-in server cannot say."""
    async with client_of(config, workspace, clock=clock, environment=environment) as client:
        found = await client.git_login()
    return GitLogin(*found) if found is not None else None
