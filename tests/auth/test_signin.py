"""Each kind of credential signs as Bitbucket requires, for the API and for git."""

from __future__ import annotations

import base64
from datetime import date

import httpx
import pytest

from mirror.auth.credentials import (
    ApiToken,
    AppPassword,
    ConnectJwt,
    Credential,
    OAuthConsumer,
    ProjectAccessToken,
    RepositoryAccessToken,
    WorkspaceAccessToken,
)
from mirror.auth.signin import APP_PASSWORDS_ARE_OFF, ForeignOrigin, when_refused
from mirror.errors import UsageError
from tests.auth.helpers import API, OAUTH, client_of, signed, variable

SECRET = variable("SECRET")
TOKEN = "tok-0123456789abcdef"
ISSUED = "issued-0123456789abcdef"

ACCESS_TOKENS: list[Credential] = [
    WorkspaceAccessToken(SECRET),
    ProjectAccessToken(SECRET),
    RepositoryAccessToken(SECRET),
]
OTHERS: list[Credential] = [
    ApiToken("ann@example.test", SECRET),
    AppPassword("ann", SECRET),
    OAuthConsumer("consumer", SECRET),
    ConnectJwt("app", "client", SECRET),
]


class Server:
    """Issues tokens, and records how each request was signed."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if str(request.url) == OAUTH:
            return httpx.Response(200, json={"access_token": ISSUED, "expires_in": 3600})
        return httpx.Response(200, json={})

    @property
    def schemes(self) -> list[str]:
        """Scheme and value of each request's signature."""
        return [one.headers["authorization"] for one in self.asked]


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


@pytest.mark.parametrize("credential", ACCESS_TOKENS, ids=lambda one: one.kind)
async def test_access_tokens_are_bearer_and_x_token_auth(credential: Credential) -> None:
    server = Server()
    ready = signed(credential, TOKEN)
    async with client_of(server) as client:
        await client.get(f"{API}/user", auth=ready.auth)
        assert await ready.git_login(client) == ("x-token-auth", TOKEN)
    assert server.schemes == [f"Bearer {TOKEN}"]


async def test_an_api_token_is_basic_with_the_address_and_has_its_own_git_user() -> None:
    server = Server()
    ready = signed(ApiToken("ann@example.test", SECRET, date(2027, 1, 1)), TOKEN)
    async with client_of(server) as client:
        await client.get(f"{API}/user", auth=ready.auth)
        assert await ready.git_login(client) == ("x-bitbucket-api-token-auth", TOKEN)
    assert server.schemes == [basic("ann@example.test", TOKEN)]
    assert ready.expires == date(2027, 1, 1)


async def test_an_app_password_is_basic_with_the_user_name() -> None:
    server = Server()
    ready = signed(AppPassword("ann", SECRET), TOKEN)
    async with client_of(server) as client:
        await client.get(f"{API}/user", auth=ready.auth)
        assert await ready.git_login(client) == ("ann", TOKEN)
    assert server.schemes == [basic("ann", TOKEN)]
    assert when_refused("app_password") == APP_PASSWORDS_ARE_OFF


async def test_an_oauth_consumer_asks_for_a_token_and_uses_it_for_api_and_git() -> None:
    server = Server()
    ready = signed(OAuthConsumer("consumer", SECRET), TOKEN)
    async with client_of(server) as client:
        await client.get(f"{API}/user", auth=ready.auth)
        await client.get(f"{API}/user", auth=ready.auth)
        assert await ready.git_login(client) == ("x-token-auth", ISSUED)
    assert server.schemes == [basic("consumer", TOKEN), f"Bearer {ISSUED}", f"Bearer {ISSUED}"]
    assert server.asked[0].content == b"grant_type=client_credentials"


async def test_a_connect_app_exchanges_its_token_but_not_for_its_own_endpoints() -> None:
    server = Server()
    ready = signed(ConnectJwt("app", "client", SECRET), TOKEN)
    async with client_of(server) as client:
        await client.get(f"{API}/addon", auth=ready.auth)
        await client.get(f"{API}/addon/linkers", auth=ready.auth)
        await client.get(f"{API}/addons-of-mine", auth=ready.auth)
        assert await ready.git_login(client) == ("x-token-auth", ISSUED)
    assert [one.partition(" ")[0] for one in server.schemes] == ["JWT", "JWT", "JWT", "Bearer"]
    assert str(server.asked[2].url) == OAUTH
    assert server.asked[2].content == b"grant_type=urn%3Abitbucket%3Aoauth2%3Ajwt"
    assert len(set(server.schemes[:3])) == 3  # each is for one request


@pytest.mark.parametrize("credential", ACCESS_TOKENS + OTHERS, ids=lambda one: one.kind)
@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example.test/2.0/user",
        "http://api.example.test/2.0/user",
        "https://api.example.test:8443/2.0/user",
        "https://api.example.test.evil.example.test/2.0/user",
        "https://api.example.test@evil.example.test/2.0/user",
    ],
)
async def test_no_credential_signs_a_request_to_another_origin(credential: Credential, url: str) -> None:
    server = Server()
    ready = signed(credential, TOKEN)
    async with client_of(server) as client:
        with pytest.raises(ForeignOrigin):
            await client.get(url, auth=ready.auth)
    assert server.asked == []


@pytest.mark.parametrize(
    ("credential", "secret", "hint"),
    [
        (WorkspaceAccessToken(SECRET), "ATATT3xFfGF0abcdefgh", "use kind api_token"),
        (ProjectAccessToken(SECRET), "ATBBabcdefghij0123", "switched app passwords off"),
        (ApiToken("ann@example.test", SECRET), "ATCTT3xFfGN0abcdefgh", "use kind workspace_access_token"),
        (AppPassword("ann", SECRET), "ATATT3xFfGF0abcdefgh", "use kind api_token"),
        (AppPassword("ann", SECRET), "ATCTT3xFfGN0abcdefgh", "use kind workspace_access_token"),
        (ApiToken("ann", SECRET), TOKEN, "not a user name"),
        (ApiToken("ann@example.test", SECRET), "Bearer abc", "leave only the token"),
        (RepositoryAccessToken(SECRET), "tökenwithumlaut", "leave only the token"),
        (OAuthConsumer("id:secret", SECRET), TOKEN, "alone"),
    ],
)
def test_a_secret_of_another_kind_is_told_apart(credential: Credential, secret: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        signed(credential, secret)
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    assert secret not in str(caught.value) + caught.value.hint


def test_identities_tell_budgets_apart() -> None:
    """The identity is the user for API tokens, the token for access tokens, the consumer for OAuth."""
    first = signed(ApiToken("ann@example.test", SECRET), TOKEN).identity
    second = signed(ApiToken("Ann@Example.test", SECRET), "another-token").identity
    assert first == second
    one = signed(WorkspaceAccessToken(SECRET), TOKEN).identity
    other = signed(WorkspaceAccessToken(SECRET), "another-token").identity
    assert one != other
    assert TOKEN not in one
    consumers = {signed(OAuthConsumer(name, SECRET), TOKEN).identity for name in ("a", "b")}
    installations = {signed(ConnectJwt("app", name, SECRET), TOKEN).identity for name in ("a", "b")}
    assert len(consumers | installations) == 4


@pytest.mark.parametrize("credential", ACCESS_TOKENS + OTHERS, ids=lambda one: one.kind)
def test_nothing_shows_the_secret(credential: Credential) -> None:
    ready = signed(credential, TOKEN)
    encoded = base64.b64encode(f"ann:{TOKEN}".encode()).decode()
    shown = f"{ready!r} {ready} {ready.auth!r} {credential!r} {ready.label} {ready.identity}"
    assert TOKEN not in shown
    assert encoded not in shown


def test_people_are_told_which_of_several_tokens_it_is() -> None:
    assert "SECRET" in signed(WorkspaceAccessToken(SECRET), TOKEN).label
