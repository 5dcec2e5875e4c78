"""API clients and git logins, with secrets read now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

import httpx

from mirror.auth.credentials import Credential
from mirror.auth.signin import SignIn, sign_in
from mirror.bitbucket.client.budget import PATIENCE, Budget
from mirror.bitbucket.client.client import Client
from mirror.config.settings import Config, WorkspaceConfig
from mirror.connect.network import network_of
from mirror.errors import MirrorError
from mirror.git.failures import GitForbidden, GitNotFound, GitUnauthorized
from mirror.git.wire.client import GitLogin
from mirror.http.network import Network
from mirror.model import Clock, Progress
from mirror.model.leases import Leases

T = TypeVar("T")


def budget_of(
    config: Config,
    clock: Clock,
    *,
    leases: Leases | None = None,
    reserve: int | None = None,
    patience: float = PATIENCE,
) -> Budget:
    """The requests of the hour, as the configuration limits them; the one place that makes a budget.

    `leases` lends them; None: this process counts for itself. `reserve` requests of each hour are left (None:
    those that the configuration reserves for a restore). `patience` as for `Budget`.
    """
    limits = config.limits
    reserve = limits.api_reserve if reserve is None else reserve
    return Budget(clock, reserve=reserve, limit=limits.api_limit, patience=patience, leases=leases)


async def sign_ins_of(
    config: Config,
    credentials: Sequence[Credential],
    *,
    environment: Mapping[str, str],
    clock: Clock,
    network: Network | None = None,
) -> list[SignIn]:
    """Sign-ins for `credentials`, their secrets read now. Raises UsageError where one cannot be read."""
    urls = config.bitbucket
    found = []
    for one in credentials:
        signed = await sign_in(
            one,
            environment=environment,
            oauth_url=urls.oauth_url,
            api_url=urls.api_url,
            clock=clock,
            network=network,
        )
        found.append(replace(signed, place=place_of(config, one)))
    return found


def place_of(config: Config, credential: Credential) -> str:
    """Where a credential first stands in the configuration: `workspaces[0].credential`. Empty: nowhere."""
    several = [("", config.credentials)]
    several += [(f"workspaces[{number}].", one.credentials) for number, one in enumerate(config.workspaces)]
    for where, credentials in several:
        if credential in credentials:
            number = credentials.index(credential)
            return f"{where}credential" if len(credentials) == 1 else f"{where}credentials[{number}]"
    return ""


async def places_of(
    config: Config, *, environment: Mapping[str, str], clock: Clock
) -> tuple[dict[str, str], list[str]]:
    """By identity, as the rate limit counts, where its first credential stands in the configuration; and of
    which credentials that is not known, with the reason: their secrets cannot be read."""
    found: dict[str, str] = {}
    unread: list[str] = []
    for one in (*config.credentials, *(each for entry in config.workspaces for each in entry.credentials)):
        try:
            [signed] = await sign_ins_of(config, [one], environment=environment, clock=clock)
        except MirrorError as error:
            unread.append(f"{place_of(config, one)}: {error.message}")
        else:
            found.setdefault(signed.identity, signed.place)
    return found, list(dict.fromkeys(unread))


def client_with(
    config: Config,
    sign_ins: Sequence[SignIn],
    *,
    clock: Clock,
    network: Network,
    budget: Budget,
    transport: httpx.AsyncBaseTransport | None = None,
    until: float | None = None,
    progress: Progress | None = None,
) -> Client:
    """A client of the configured API with these sign-ins; `until` and `progress` as for `Client`."""
    return Client(
        sign_ins,
        api_url=config.bitbucket.api_url,
        clock=clock,
        concurrency=config.limits.api_concurrency,
        budget=budget,
        transport=transport,
        until=until,
        file_max=config.limits.file_max,
        network=network,
        progress=progress,
    )


@asynccontextmanager
async def client_of(
    config: Config,
    workspace: WorkspaceConfig,
    *,
    clock: Clock,
    environment: Mapping[str, str],
    budget: Budget,
    transport: httpx.AsyncBaseTransport | None = None,
    until: float | None = None,
    progress: Progress | None = None,
) -> AsyncIterator[Client]:
    """A client for one workspace entry of the configuration; `until` and `progress` as for `Client`. Raises
    UsageError where a secret cannot be read."""
    network = await network_of(config, environment)
    signed = await sign_ins_of(
        config, workspace.credentials, environment=environment, clock=clock, network=network
    )
    async with client_with(
        config, signed, clock=clock, network=network, budget=budget, transport=transport, until=until,
        progress=progress,
    ) as client:  # fmt: skip
        yield client


async def git_login(
    config: Config, workspace: WorkspaceConfig, *, clock: Clock, environment: Mapping[str, str]
) -> GitLogin | None:
    """User name and password for git from the first credential that has them; None without credentials.
    Raises UsageError, CredentialRefused, and TryLater where the sign-in server fails."""
    budget = budget_of(config, clock)  # nothing is requested of the API
    async with client_of(config, workspace, clock=clock, environment=environment, budget=budget) as client:
        found = await client.git_login()
    return GitLogin(*found) if found is not None else None


async def ask_git(client: Client, question: Callable[[GitLogin | None], T]) -> T:
    """The answer of git to the first credential of `client` that it accepts. `question` blocks, and raises
    the errors of `mirror.git.failures`. Raises the first refusal where git accepts none."""
    refusal: MirrorError | None = None
    logins: list[GitLogin | None] = [GitLogin(*one) for one in await client.git_logins()]
    for login in logins or [None]:
        try:
            return await asyncio.to_thread(question, login)
        except (GitUnauthorized, GitForbidden, GitNotFound) as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal
