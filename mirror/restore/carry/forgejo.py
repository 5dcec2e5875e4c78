"""How the client of a Forgejo gives what carrying out a plan needs."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.forgejo import endpoints, fields
from mirror.forgejo.client import Client
from mirror.forgejo.endpoints import Endpoint as ForgejoEndpoint
from mirror.git.wire.client import GitLogin
from mirror.http.requests import Endpoint, RequestFailed
from mirror.model import Json, JsonObject
from mirror.restore.carry.api import Request
from mirror.restore.plan.source import Target

# A branch of the wiki for the page that makes its git repository. The wiki itself has other branches.
_FIRST_BRANCH = "bitbucket-restore"
_FIRST_PAGE = "Restoring"
_FIRST_TEXT = "This page made the git repository of the wiki. The wiki itself is on another branch.\n"


class ForgejoApi:
    """A Forgejo, by `client`; `login` is the user whose token it has."""

    def __init__(self, client: Client, login: GitLogin) -> None:
        self._client = client
        self._login = login

    @property
    def requests(self) -> int:
        """As `Api`."""
        return self._client.requests

    async def entries(self, endpoint: Endpoint, parts: Mapping[str, str | int]) -> list[JsonObject]:
        """As `Api`."""
        assert isinstance(endpoint, ForgejoEndpoint)
        try:
            return await self._client.entries(endpoint, **parts)
        except RequestFailed as error:
            if error.status == 404:
                return []
            raise

    async def send(self, request: Request) -> Json:
        """As `Api`."""
        endpoint = request.endpoint
        assert isinstance(endpoint, ForgejoEndpoint)
        file = request.files[0] if request.files else None
        return await self._client.send(request.method, endpoint, request.parts, request.body, file)

    async def git_login(self) -> GitLogin | None:
        """As `Api`."""
        return self._login

    async def git_url(self, target: Target, mirror: str) -> str:
        """As `Api`. A wiki has no git repository before its first page, so that page is made, on a branch of
        its own: nothing that is pushed can meet it."""
        if mirror == "wiki":
            await self._begin_wiki({"owner": target.workspace, "repository": str(target.repository)})
        suffix = ".wiki" if mirror == "wiki" else ""
        return f"{self._client.url}/{target.workspace}/{target.repository}{suffix}.git"

    async def _begin_wiki(self, parts: Mapping[str, str]) -> None:
        try:
            await self._client.get(endpoints.WIKI_PAGES, **parts)
        except RequestFailed as error:
            if error.status != 404:
                raise
        else:
            return
        await self._client.send("PATCH", endpoints.REPOSITORY, parts, fields.wiki_branch(_FIRST_BRANCH))
        page = fields.wiki_page(_FIRST_PAGE, _FIRST_TEXT, "Make the git repository of the wiki")
        await self._client.send("POST", endpoints.NEW_WIKI_PAGE, parts, page)
