"""Every kind of credential, with its own scheme and its own user name; and all of them with the wrong one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from mirror.simulator import Switches
from mirror.simulator.world.sample import SCOPES
from tests.simulator.helpers import Asking, basic

REPOSITORY = "/repositories/acme/website"
LONG = ("read:repository:bitbucket", "read:pullrequest:bitbucket", "read:user:bitbucket")


@pytest.fixture
def ask(tmp_path: Path) -> Asking:
    return Asking(tmp_path)


async def git_status(ask: Asking, authorization: str | None, slug: str = "website") -> int:
    """The status of the response to git's first request."""
    url = f"{ask.app.git}/acme/{slug}.git/info/refs?service=git-upload-pack"
    return (await ask(url, authorization, **{"User-Agent": "git/2"})).status_code


def jwt(secret: str, *, issuer: str, subject: str, method: str, path: str, at: float, life: int = 180) -> str:
    """A token as Connect apps sign it."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    query = hashlib.sha256(f"{method}&{path}&".encode()).hexdigest()
    claims = {"iss": issuer, "sub": subject, "iat": int(at), "exp": int(at) + life, "qsh": query}
    text = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    mac = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


async def granted(ask: Asking, authorization: str, form: str) -> httpx.Response:
    """Request an OAuth token."""
    headers = {"Authorization": authorization, "Content-Type": "application/x-www-form-urlencoded"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=ask.app)) as client:
        return await client.post(f"{ask.app.git}/site/oauth2/access_token", content=form, headers=headers)


async def test_each_kind_has_one_scheme_for_rest_and_one_name_for_git(ask: Asking) -> None:
    ann = ask.world.users["ann@acme.example"]
    access = ask.world.add_workspace_access_token("acme", SCOPES)
    api = ask.world.add_api_token(ann, LONG)
    password = ask.world.add_app_password(ann, SCOPES)
    works = {("access", "bearer"), ("api", ann.email)}
    clones = {("access", "x-token-auth"), ("api", "x-bitbucket-api-token-auth")}
    names = ["x-token-auth", "x-bitbucket-api-token-auth", ann.email, "ann", ""]
    for kind, secret in (("access", access), ("api", api), ("password", password)):
        answer = await ask(REPOSITORY, f"Bearer {secret}")
        assert answer.status_code == (200 if (kind, "bearer") in works else 401), (kind, "bearer")
        assert await git_status(ask, f"Bearer {secret}") == 401
        for name in names:
            answer = await ask(REPOSITORY, basic(name, secret))
            assert answer.status_code == (200 if (kind, name) in works else 401), (kind, name)
            status = await git_status(ask, basic(name, secret))
            assert status == (200 if (kind, name) in clones else 401), (kind, name)


async def test_what_is_unsure_about_sign_in_is_a_switch(tmp_path: Path) -> None:
    switches = Switches(api_token_as_bearer=True, app_passwords=True, access_tokens_list_workspaces=True)
    ask = Asking(tmp_path / "a", switches=switches)
    ann = ask.world.users["ann@acme.example"]
    api, password = ask.world.add_api_token(ann, LONG), ask.world.add_app_password(ann, SCOPES)
    assert (await ask(REPOSITORY, f"Bearer {api}")).status_code == 200
    assert (await ask(REPOSITORY, basic("ann", password))).status_code == 200
    assert await git_status(ask, basic("ann", password)) == 200
    assert (await ask("/user/workspaces")).json()["values"] == []
    dead = Asking(tmp_path / "b", switches=Switches(dead_passwords_are_410=True))
    password = dead.world.add_app_password(dead.world.users["ann@acme.example"], SCOPES)
    assert await git_status(dead, basic("ann", password)) == 410
    assert (await dead("/user/workspaces")).status_code == 403


async def test_a_secret_that_has_expired_or_was_revoked_signs_in_no_more(ask: Asking) -> None:
    ann = ask.world.users["ann@acme.example"]
    api = ask.world.add_api_token(ann, LONG, expires=ask.time[0] + timedelta(days=1))
    assert (await ask(REPOSITORY, basic(ann.email, api))).status_code == 200
    ask.time[0] += timedelta(days=1)
    answer = await ask(REPOSITORY, basic(ann.email, api))
    assert answer.status_code == 401
    assert "invalid, expired" in answer.json()["error"]["message"]
    ask.world.revoke(ask.token)
    assert (await ask(REPOSITORY)).status_code == 401
    assert await git_status(ask, basic("x-token-auth", ask.token)) == 401


async def test_a_consumers_token_is_asked_for_and_lapses(ask: Asking) -> None:
    name, secret = ask.world.add_oauth_consumer("acme", SCOPES)
    wrong = await granted(ask, basic(name, "wrong"), "grant_type=client_credentials")
    assert wrong.status_code == 400
    assert (await granted(ask, basic(name, secret), "grant_type=password")).status_code == 400
    answer = (await granted(ask, basic(name, secret), "grant_type=client_credentials")).json()
    # Neither a refresh token, nor `scopes`.
    assert set(answer) == {"access_token", "token_type", "expires_in", "scope"}
    token = answer["access_token"]
    assert (await ask(REPOSITORY, f"Bearer {token}")).status_code == 200
    assert await git_status(ask, basic("x-token-auth", token)) == 200
    assert (await ask("/user", f"Bearer {token}")).json()["type"] == "app_user"
    assert (await ask(f"{REPOSITORY}?access_token={token}", None)).status_code == 404, "header only"
    ask.time[0] += timedelta(seconds=answer["expires_in"])
    assert (await ask(REPOSITORY, f"Bearer {token}")).status_code == 401
    assert await git_status(ask, basic("x-token-auth", token)) == 401


async def test_a_connect_token_is_checked_whole_and_swapped(ask: Asking) -> None:
    key, client, secret = ask.world.add_connect_installation("acme", SCOPES)
    now = ask.time[0].timestamp()

    async def linkers(**changes: object) -> int:
        values = {
            "secret": secret, "issuer": key, "subject": client, "method": "GET",
            "path": "/2.0/addon/linkers", "at": now, **changes,
        }  # fmt: skip
        token = jwt(values.pop("secret"), **values)  # type: ignore[arg-type]
        return (await ask("/addon/linkers", f"JWT {token}")).status_code

    assert await linkers() == 200
    assert await linkers(secret="another") == 401
    assert await linkers(issuer=client) == 401
    assert await linkers(subject="another") == 401
    assert await linkers(method="POST") == 401
    assert await linkers(path="/2.0/addon") == 401
    assert await linkers(at=now - 1000) == 401
    assert await linkers(at=now + 1000) == 401
    assert (await ask("/addon/linkers")).status_code == 401, "nobody else's"
    # It works only there, and for the token exchange.
    plain = jwt(secret, issuer=key, subject=client, method="GET", path=f"/2.0{REPOSITORY}", at=now)
    assert (await ask(REPOSITORY, f"JWT {plain}")).status_code == 401
    swap = jwt(secret, issuer=key, subject=client, method="POST", path="/site/oauth2/access_token", at=now)
    grant = "grant_type=" + quote("urn:bitbucket:oauth2:jwt", safe="")
    token = (await granted(ask, f"JWT {swap}", grant)).json()["access_token"]
    assert (await ask(REPOSITORY, f"Bearer {token}")).status_code == 200


async def test_a_missing_scope_is_named_as_the_credential_calls_it(ask: Asking) -> None:
    ann = ask.world.users["ann@acme.example"]
    api = ask.world.add_api_token(ann, ["read:pullrequest:bitbucket"])
    # Classic scopes imply others; those of API tokens do not.
    token = ask.world.add_workspace_access_token("acme", ["pullrequest"])
    assert (await ask(REPOSITORY, f"Bearer {token}")).status_code == 200
    answer = await ask(REPOSITORY, basic(ann.email, api))
    assert answer.status_code == 403
    assert answer.json()["error"]["detail"] == {
        "required": ["read:repository:bitbucket"], "granted": ["read:pullrequest:bitbucket"],
    }  # fmt: skip
    answer = await ask(f"{REPOSITORY}/pipelines/", f"Bearer {token}")
    assert answer.json()["error"]["detail"]["required"] == ["pipeline"]
    assert answer.headers["X-Accepted-Oauth-Scopes"] == "pipeline"


async def test_strangers_see_what_is_public_and_nothing_else(ask: Asking) -> None:
    guest = ask.world.add_user("Guest", "guest@example.org", workspaces=())
    api = ask.world.add_api_token(guest, [*LONG, "read:workspace:bitbucket"])
    ask.world.workspaces["acme"].repositories["website"].private = False
    for who in (None, basic(guest.email, api)):
        assert (await ask(REPOSITORY, who)).status_code == 200
        assert (await ask("/repositories/acme/api", who)).status_code == 404
        listed = (await ask("/repositories/acme", who)).json()["values"]
        assert [one["slug"] for one in listed] == ["website"]
        assert (await ask(f"{REPOSITORY}/pullrequests", who)).status_code == 200
    assert (await ask("/workspaces/acme", basic(guest.email, api))).status_code == 404
    assert (await ask("/user/workspaces", basic(guest.email, api))).json()["values"] == []
    assert (await ask("/user", None)).status_code == 401
    assert await git_status(ask, None) == 200
    assert await git_status(ask, None, "api") == 401


async def test_narrow_tokens_have_no_more_than_their_part(tmp_path: Path) -> None:
    ask = Asking(tmp_path / "a")
    project = ask.world.add_project_access_token("acme", "CORE", SCOPES)
    single = ask.world.add_repository_access_token("acme", "api", SCOPES)
    listed = (await ask("/repositories/acme", f"Bearer {project}")).json()["values"]
    assert {one["slug"] for one in listed} == {"api", "billing"}
    assert (await ask(REPOSITORY, f"Bearer {project}")).status_code == 404
    assert (await ask("/repositories/acme", f"Bearer {single}")).status_code == 403
    filtered = await ask('/repositories/acme?q=project.key="CORE"', f"Bearer {single}")
    assert [one["slug"] for one in filtered.json()["values"]] == ["api"]
    ask.world.workspaces["acme"].rename_repository("api", "orders")
    assert (await ask("/repositories/acme/orders", f"Bearer {single}")).status_code == 200
    other = ask.world.add_workspace("other")
    ask.world.workspaces["acme"].transfer_repository("orders", other)
    assert (await ask("/repositories/other/orders", f"Bearer {single}")).status_code == 401
    wide = Asking(tmp_path / "b", switches=Switches(lists_show_unreadable=True))
    token = wide.world.add_project_access_token("acme", "CORE", SCOPES)
    assert (await wide("/repositories/acme", f"Bearer {token}")).json()["size"] == 4
    assert (await wide(REPOSITORY, f"Bearer {token}")).status_code == 403
