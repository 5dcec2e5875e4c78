"""The client's readers accept all real responses in tests/recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.lists import pages
from mirror.model import dumps, loads
from tests.bitbucket.helpers import client_for

FOLDER = Path(__file__).parents[1] / "recorded"
FILES = sorted(FOLDER.glob("*.json"))
ENDPOINTS = {one.name: one for one in vars(endpoints).values() if isinstance(one, Endpoint)}


@pytest.mark.skipif(
    not FILES, reason="tests/recorded is empty: `mirror doctor --record tests/recorded` fills it"
)
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.stem if path else "none")
async def test_a_real_answer_is_understood(path: Path) -> None:
    recorded: Any = loads(path.read_bytes())
    endpoint = ENDPOINTS[recorded["endpoint"]]
    assert recorded["template"] == endpoint.template, "the address has changed since"
    body = recorded["body"]
    if isinstance(body, dict):
        body.pop("next", None)  # leads to a pseudonym
        body.pop("size", None)  # of a truncated list

    def replay(_: httpx.Request) -> httpx.Response:
        headers = {"content-type": "application/json", **recorded["headers"]}
        return httpx.Response(recorded["status"], content=dumps(body), headers=headers)

    parts = dict.fromkeys(("workspace", "repository", "id", "pipeline", "step"), "x")
    async with client_for(replay) as client:
        if not endpoint.page_size:
            _understand(endpoint, (await client.get(endpoint, None, **parts)).data)
            return
        async for page in pages(client, endpoint, None, **parts):
            for value in page.values:
                _understand(endpoint, value)
            break


def _understand(endpoint: Endpoint, value: Any) -> None:
    if endpoint in (endpoints.USER_WORKSPACES, endpoints.WORKSPACE):
        fields.workspace(value)
    elif endpoint in (endpoints.REPOSITORIES, endpoints.REPOSITORY):
        fields.repository(value, workspace="x")
    elif endpoint in (endpoints.PULL_REQUESTS, endpoints.PULL_REQUEST, endpoints.ISSUES):
        fields.number_of(value, endpoint.name)
        assert fields.updated_on(value) is not None
    elif endpoint is endpoints.PIPELINES:
        fields.pipeline_number(value)
        fields.uuid_of(value, endpoint.name)
    elif endpoint is endpoints.PIPELINE_STEPS:
        fields.uuid_of(value, endpoint.name)
    fields.merged(fields.stable(value), value)
