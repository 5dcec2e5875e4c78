"""Every kind of credential signs as Bitbucket requires, only for its own origins, and stays hidden."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirror.auth import connect
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
from mirror.auth.secrets import Secret, SecretSource, read_secret
from mirror.auth.signin import ForeignOrigin, SignIn, sign_in
from mirror.errors import CredentialRefused, UsageError
from tests.auth.helpers import at_once
from tests.clock import FakeClock

API = "https://api.example.org/2.0"
OAUTH = "https://example.org/site/oauth2/access_token"
SOURCE = SecretSource("env", "SECRET")


def made(credential: Credential, secret: str = "s3cret-value", clock: FakeClock | None = None) -> SignIn:
    environment = {"SECRET": secret}
    return at_once(
        sign_in(credential, environment=environment, oauth_url=OAUTH, api_url=API, clock=clock or FakeClock())
    )


async def signed(
    one: SignIn, url: str = f"{API}/x", tokens: list[dict[str, Any]] | None = None
) -> list[httpx.Request]:
    """The requests that one GET causes, at a server that issues the given tokens."""
    seen: list[httpx.Request] = []
    issued = iter(tokens or [])

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if str(request.url) == OAUTH:
            return httpx.Response(200, json=next(issued))
        return httpx.Response(200, json={})

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        await client.get(url, auth=one.auth)
    return seen


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


@pytest.mark.parametrize(
    ("credential", "header", "login"),
    [
        (WorkspaceAccessToken(SOURCE), "Bearer s3cret-value", ("x-token-auth", "s3cret-value")),
        (ProjectAccessToken(SOURCE), "Bearer s3cret-value", ("x-token-auth", "s3cret-value")),
        (RepositoryAccessToken(SOURCE), "Bearer s3cret-value", ("x-token-auth", "s3cret-value")),
        (
            ApiToken("ann@x.org", SOURCE),
            basic("ann@x.org", "s3cret-value"),
            ("x-bitbucket-api-token-auth", "s3cret-value"),
        ),
        (AppPassword("ann", SOURCE), basic("ann", "s3cret-value"), ("ann", "s3cret-value")),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
async def test_fixed_secrets(credential: Credential, header: str, login: tuple[str, str]) -> None:
    one = made(credential)
    [request] = await signed(one)
    assert request.headers["Authorization"] == header
    async with httpx.AsyncClient() as client:
        assert await one.git_login(client) == login


async def test_a_consumer_asks_for_a_token_once_and_again_before_it_lapses() -> None:
    clock = FakeClock()
    one = made(OAuthConsumer("id", SOURCE), clock=clock)
    first = await signed(one, tokens=[{"access_token": "token-one", "expires_in": 3600}])
    assert first[0].headers["Authorization"] == basic("id", "s3cret-value")
    assert first[0].content == b"grant_type=client_credentials"
    assert first[1].headers["Authorization"] == "Bearer token-one"
    assert len(await signed(one)) == 1
    clock.elapsed += 3500
    later = await signed(one, tokens=[{"access_token": "token-two", "expires_in": 3600}])
    assert later[-1].headers["Authorization"] == "Bearer token-two"


async def test_a_401_renews_the_token_once() -> None:
    one = made(OAuthConsumer("id", SOURCE))
    issued = iter(["old-token", "new-token"])

    def handler(request: httpx.Request) -> httpx.Response:
        if str(request.url) == OAUTH:
            return httpx.Response(200, json={"access_token": next(issued)})
        good = request.headers["Authorization"] == "Bearer new-token"
        return httpx.Response(200 if good else 401)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        assert (await client.get(f"{API}/x", auth=one.auth)).status_code == 200


async def test_a_refused_consumer_is_the_credentials_fault() -> None:
    one = made(OAuthConsumer("id", SOURCE))
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json={"error": "invalid_client"}))
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(CredentialRefused):
            await client.get(f"{API}/x", auth=one.auth)


async def test_a_connect_app_signs_its_own_endpoints_and_swaps_for_the_rest() -> None:
    one = made(ConnectJwt("app", "client", SOURCE))
    [direct] = await signed(one, f"{API}/addon/linkers?b=2&a=1")
    head, body, mac = direct.headers["Authorization"].removeprefix("JWT ").split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert (claims["iss"], claims["sub"]) == ("app", "client")
    canonical = b"GET&/2.0/addon/linkers&a=1&b=2"
    assert claims["qsh"] == hashlib.sha256(canonical).hexdigest()
    good = hmac.new(b"s3cret-value", f"{head}.{body}".encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(mac + "=") == good
    swap, rest = await signed(one, tokens=[{"access_token": "swapped"}])
    assert swap.headers["Authorization"].startswith("JWT ")
    assert b"oauth2%3Ajwt" in swap.content
    assert rest.headers["Authorization"] == "Bearer swapped"


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://x/a/b/", "GET&/a/b&"),
        ("https://x/a?q=b+c&q=a&jwt=no", "GET&/a&q=a,b%20c"),
        ("https://x/", "GET&/&"),
    ],
)
def test_the_query_hash_is_of_the_canonical_form(url: str, canonical: str) -> None:
    assert connect.query_hash("get", url) == hashlib.sha256(canonical.encode()).hexdigest()


ALL: list[Credential] = [
    WorkspaceAccessToken(SOURCE), ApiToken("a@x.org", SOURCE), OAuthConsumer("id", SOURCE),
    AppPassword("ann", SOURCE), ConnectJwt("app", "client", SOURCE),
]  # fmt: skip


@pytest.mark.parametrize("credential", ALL, ids=lambda one: one.kind)
@pytest.mark.parametrize(
    "url", ["https://evil.example/2.0/x", "http://api.example.org/2.0/x", "https://api.example.org:8443/x"]
)
async def test_no_kind_signs_for_another_origin(credential: Credential, url: str) -> None:
    with pytest.raises(ForeignOrigin):
        await signed(made(credential), url, tokens=[{"access_token": "t0ken"}])


@pytest.mark.parametrize("credential", ALL, ids=lambda one: one.kind)
def test_nothing_shows_the_secret(credential: Credential) -> None:
    one = made(credential)
    for text in (repr(one), str(one), repr(credential), one.label, one.identity, repr(one.auth)):
        assert "s3cret-value" not in text
    with pytest.raises(TypeError):
        pickle.dumps(Secret("s3cret-value"))


@pytest.mark.parametrize(
    ("credential", "secret", "word"),
    [
        (WorkspaceAccessToken(SOURCE), "ATATT3xfoo", "api_token"),
        (ApiToken("a@x", SOURCE), "ATCTT3xfoo", "access"),
    ],
)
def test_a_secret_of_another_kind_is_told_apart(credential: Credential, secret: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(credential, secret)
    assert word in (caught.value.hint or "")
    assert secret not in caught.value.message + (caught.value.hint or "")


async def test_secrets_come_from_four_places(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from a file\n")
    file.chmod(0o600)
    (tmp_path / "cred").write_text("from systemd")
    environment = {
        "NAME": "from the environment",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    sources = {
        SecretSource("file", str(file)): "from a file",
        SecretSource("env", "NAME"): "from the environment",
        SecretSource("credential", "cred"): "from systemd",
        SecretSource("command", ("echo", "from a command")): "from a command",
    }
    for source, value in sources.items():
        assert (await read_secret(source, environment=environment)).reveal() == value


@pytest.mark.parametrize(
    "source",
    [
        SecretSource("file", "/nowhere/at/all"),
        SecretSource("env", "UNSET"),
        SecretSource("credential", "../etc/passwd"),
        SecretSource("credential", "absent"),
        SecretSource("command", ("false",)),
        SecretSource("command", ("/nowhere/program",)),
        SecretSource("command", ("echo", "")),
    ],
    ids=str,
)
async def test_a_secret_that_cannot_be_read_says_what_to_do(source: SecretSource) -> None:
    with pytest.raises(UsageError) as caught:
        await read_secret(source, environment={"PATH": "/usr/bin:/bin"})
    assert caught.value.hint


async def test_a_file_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2-hunter2")
    file.chmod(0o644)
    with pytest.raises(UsageError, match="everybody") as caught:
        await read_secret(SecretSource("file", str(file)), environment={})
    assert "hunter2" not in caught.value.message
