"""No secret reaches a log, an exception or a text form, even with every logger at its most verbose level."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator

import httpx
import pytest
import structlog

from mirror import logs
from mirror.auth.credentials import ApiToken, ConnectJwt, Credential, OAuthConsumer, WorkspaceAccessToken
from mirror.bitbucket.endpoints import REPOSITORY, STEP_LOG
from mirror.errors import MirrorError
from tests.auth.helpers import OAUTH, signed, variable
from tests.bitbucket.helpers import Server, client_for

SECRET = "a-very-secret-value-0123"
ISSUED = "an-issued-token-4567"
SIGNATURE = "X-Signature=good-for-whoever-has-it"
WHERE = {"workspace": "acme", "repository": "website"}
KINDS: list[Credential] = [
    WorkspaceAccessToken(variable("SECRET")),
    ApiToken("ann@example.test", variable("SECRET")),
    OAuthConsumer("consumer", variable("SECRET")),
    ConnectJwt("app", "client", variable("SECRET")),
]


@pytest.fixture
def loud() -> Iterator[io.StringIO]:
    out = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    logs.configure(log_format="json", verbosity=1, stream=out)
    logging.getLogger().setLevel(logging.DEBUG)
    yield out
    structlog.reset_defaults()
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)


def answer(request: httpx.Request) -> httpx.Response:
    if str(request.url) == OAUTH:
        return httpx.Response(200, json={"access_token": ISSUED})
    if request.url.host != "api.example.test":
        return httpx.Response(500, text=f"{request.headers}")
    if request.url.path.endswith("/log"):
        return httpx.Response(302, headers={"location": f"https://storage.example.test/x?{SIGNATURE}"})
    repeated = {"error": {"message": f"your header was {request.headers['authorization']}"}}
    return httpx.Response(401, json=repeated)


@pytest.mark.parametrize("credential", KINDS, ids=lambda one: one.kind)
async def test_nothing_secret_is_shown(credential: Credential, loud: io.StringIO) -> None:
    ready = signed(credential, SECRET)
    server = Server(answer)
    shown = ""
    async with client_for(server, ready) as client:
        for _ in range(2):
            try:
                async with client.download(STEP_LOG, **WHERE, pipeline="{p}", step="{s}"):
                    pass
            except MirrorError as error:
                shown += "".join(traceback.format_exception(error)) + repr(error) + str(error.hint)
            try:
                await client.get(REPOSITORY, None, **WHERE)
            except MirrorError as error:
                shown += "".join(traceback.format_exception(error)) + repr(error) + str(error.hint)
        shown += f"{client!r} {client.sign_ins!r}"
    shown += loud.getvalue()
    assert "401" in shown or "refused" in shown
    sent = {
        one.headers["authorization"].partition(" ")[2]
        for one in server.asked
        if one.url.host != "storage.example.test"
    }
    for secret in {SECRET, ISSUED, SIGNATURE, *sent}:
        assert secret not in shown
