"""What carrying out a plan needs of the target's API, and how Bitbucket's client gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from mirror.bitbucket import failures
from mirror.bitbucket.client.change import Change
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint as BitbucketEndpoint
from mirror.bitbucket.lists import all_of
from mirror.git.wire.client import GitLogin
from mirror.http.origins import REDIRECTS
from mirror.http.requests import Endpoint, FilePart, MaybeMade, RequestFailed
from mirror.model import Json, JsonObject
from mirror.restore.plan.source import Target


@dataclass(frozen=True)
class Request:
    """One request that makes or changes something, with nothing left to resolve. `needs_user`: it is for the
    credential of a user."""

    method: Literal["POST", "PUT", "PATCH"]
    endpoint: Endpoint
    parts: Mapping[str, str | int]
    body: Json
    files: tuple[FilePart, ...] = ()
    needs_user: bool = False


class Api(Protocol):
    """The API of a target.

    Its methods raise RequestFailed for what was refused, MaybeMade where nobody knows whether something was
    made, and what ends a restore: CredentialRefused, and TryLater for the network and the rate limit.
    """

    @property
    def requests(self) -> int:
        """How many requests were sent."""

    async def entries(self, endpoint: Endpoint, parts: Mapping[str, str | int]) -> list[JsonObject]:
        """What a list has, or the one thing at an endpoint; none where it is not found."""

    async def send(self, request: Request) -> Json:
        """The answer to a request, None where it has no JSON."""

    async def git_login(self) -> GitLogin | None:
        """User name and password for git."""

    async def git_url(self, target: Target, mirror: str) -> str:
        """The URL for git of a repository's `code`, `wiki` or other mirror. It can be pushed to."""


class BitbucketApi:
    """Bitbucket, by `client`, with its repositories for git below `git_url`."""

    def __init__(self, client: Client, git_url: str) -> None:
        self._client = client
        self._git_url = git_url.rstrip("/")

    @property
    def requests(self) -> int:
        """As `Api`."""
        return self._client.requests

    async def entries(self, endpoint: Endpoint, parts: Mapping[str, str | int]) -> list[JsonObject]:
        """As `Api`."""
        assert isinstance(endpoint, BitbucketEndpoint)
        try:
            if endpoint.page_size:
                return await all_of(self._client, endpoint, None, **parts)
            return [(await self._client.get(endpoint, None, **parts)).object(endpoint.name)]
        except failures.NotFound:
            return []
        except failures.ServerTrouble as error:
            _raise_where_lost(error)
            raise _refusal(error, endpoint) from error

    async def send(self, request: Request) -> Json:
        """As `Api`."""
        endpoint = request.endpoint
        assert isinstance(endpoint, BitbucketEndpoint)
        change = Change(request.method, request.body, request.files, request.needs_user)
        try:
            return (await self._client.send(change, endpoint, **request.parts)).data
        except failures.MaybeMade as error:
            raise MaybeMade(error.message, hint=error.hint) from error
        except failures.BadAnswer as error:
            if request.method != "POST" or error.status in REDIRECTS:
                raise
            raise MaybeMade(error.message, hint=error.hint) from error
        except failures.ServerTrouble as error:
            _raise_where_lost(error)
            raise _refusal(error, endpoint) from error

    async def git_login(self) -> GitLogin | None:
        """As `Api`."""
        found = await self._client.git_login()
        return None if found is None else GitLogin(*found)

    async def git_url(self, target: Target, mirror: str) -> str:
        """As `Api`. A workspace has room for the code of repositories only."""
        del mirror
        return f"{self._git_url}/{target.workspace}/{target.repository}.git"


def _raise_where_lost(error: failures.ServerTrouble) -> None:
    """A network that fails ends the restore; a server that fails for one request does not."""
    if error.__cause__ is not None:
        raise error


def _refusal(error: failures.ServerTrouble, endpoint: Endpoint) -> RequestFailed:
    return RequestFailed(error.message, status=500, endpoint=endpoint.name, hint=error.hint)
