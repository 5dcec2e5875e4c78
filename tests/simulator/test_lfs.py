"""The simulated LFS server is as strict as the real one is said to be, for every client."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirror.simulator import Switches
from mirror.simulator.git.lfs import MEDIA_TYPE, add_object, object_file
from mirror.simulator.world.sample import SCOPES
from tests.simulator.helpers import Asking, basic

DATA = b"an object\n" * 100
OID = hashlib.sha256(DATA).hexdigest()
HEADERS = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}


class Server(Asking):
    """Calls the batch API of the sample's website."""

    def __init__(self, root: Path, **switches: bool) -> None:
        super().__init__(root, switches=replace(Switches(), **switches))
        self.repository = self.world.workspaces["acme"].repositories["website"]
        add_object(self.repository, DATA)
        self.login: str | None = basic("x-token-auth", self.token)

    def writer(self) -> None:
        token = self.world.add_workspace_access_token("acme", SCOPES | {"repository:write"})
        self.login = basic("x-token-auth", token)

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        app = self.app.on_storage if "storage." in url else self.app
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
            return await client.request(method, url, headers=headers, content=body)

    async def batch(
        self, body: Any = None, *, path: str = "website.git/info/lfs/objects/batch", **headers: str
    ) -> httpx.Response:
        body = (
            {"operation": "download", "objects": [{"oid": OID, "size": len(DATA)}]} if body is None else body
        )
        signed = {"Authorization": self.login} if self.login else {}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"http://api.example/acme/{path}"
        return await self.send("POST", url, {**HEADERS, **signed, **headers}, content)


async def test_an_object_is_given_on_another_origin_with_its_own_header(tmp_path: Path) -> None:
    server = Server(tmp_path)
    answer = await server.batch()
    assert answer.status_code == 200 and answer.headers["content-type"].startswith(MEDIA_TYPE)
    [one] = answer.json()["objects"]
    action = one["actions"]["download"]
    assert action["href"].startswith("http://storage.example/") and action["expires_in"] == 900
    got = await server.send("GET", action["href"], action["header"], b"")
    assert got.content == DATA
    part = await server.send("GET", action["href"], {**action["header"], "Range": "bytes=990-"}, b"")
    assert (part.status_code, part.content) == (206, DATA[990:])
    assert part.headers["content-range"] == "bytes 990-999/1000"
    for headers in ({}, {"Authorization": server.login or ""}, {"Authorization": "Bearer x"}):
        assert (await server.send("GET", action["href"], headers, b"")).status_code == 403
    server.time[0] = server.time[0].replace(hour=23)
    assert (await server.send("GET", action["href"], action["header"], b"")).status_code == 403


async def test_who_may(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.login = None
    assert (await server.batch()).status_code == 403
    assert (
        await Server(tmp_path / "b", lfs_anonymous_is_403=False).batch(Authorization="")
    ).status_code == 401
    server.login = basic("x-token-auth", "wrong")
    assert (await server.batch()).status_code == 401
    server.login = basic("x-token-auth", server.world.add_workspace_access_token("acme", {"pipeline"}))
    assert (await server.batch()).status_code == 403
    server.login = basic("x-token-auth", server.token)
    assert (await server.batch(path="nothing.git/info/lfs/objects/batch")).status_code == 404
    assert (await server.batch(path="website.git/info/lfs/locks/verify")).status_code == 404
    assert (await Server(tmp_path / "c", lfs_takes_access_tokens=False).batch()).status_code == 403


@pytest.mark.parametrize(("body", "headers", "status"), [
    (None, {"Accept": "*/*"}, 415), (None, {"Content-Type": "application/json"}, 415), (b"{", {}, 400),
    ({"operation": "look", "objects": [{"oid": OID, "size": 1}]}, {}, 422),
    ({"operation": "download", "objects": []}, {}, 422),
    ({"operation": "download", "objects": [{"oid": "x", "size": 1}]}, {}, 422),
    ({"operation": "download", "objects": [{"oid": OID, "size": -1}]}, {}, 422),
    ({"operation": "download", "objects": [{"oid": OID, "size": 1}] * 2}, {}, 422),
    ({"operation": "download", "transfers": ["tus"], "objects": [{"oid": OID, "size": 1}]}, {}, 422),
    ({"operation": "download", "objects": [{"oid": f"{n:064x}", "size": 1} for n in range(101)]}, {}, 413),
])  # fmt: skip
async def test_what_is_refused(tmp_path: Path, body: Any, headers: dict[str, str], status: int) -> None:
    assert (await Server(tmp_path).batch(body, **headers)).status_code == status


async def test_what_is_not_there_is_said_of_each(tmp_path: Path) -> None:
    asked = [{"oid": OID, "size": 7}, {"oid": "0" * 64, "size": 7}, {"oid": OID[::-1], "size": 1}]
    answer = await Server(tmp_path).batch({"operation": "download", "objects": asked})
    assert [one["error"]["code"] for one in answer.json()["objects"]] == [422, 404, 404]


@pytest.mark.parametrize("wants_verify", [True, False])
async def test_uploads(tmp_path: Path, wants_verify: bool) -> None:
    server = Server(tmp_path, lfs_wants_verify=wants_verify, lfs_expiry_is_a_time=True)
    data = b"something new"
    oid = hashlib.sha256(data).hexdigest()
    asked = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}, {"oid": OID, "size": 1000}]}
    assert (await server.batch(asked)).status_code == 403
    server.writer()
    new, old = (await server.batch(asked)).json()["objects"]
    assert "actions" not in old
    action = new["actions"]["upload"]
    assert action["expires_at"].endswith("Z")
    assert ("verify" in new["actions"]) is wants_verify
    assert (await server.send("PUT", action["href"], action["header"], b"other bytes")).status_code == 400
    if wants_verify:
        verify = new["actions"]["verify"]
        body = json.dumps({"oid": oid, "size": len(data)}).encode()
        headers = {**HEADERS, **verify["header"]}
        assert (await server.send("POST", verify["href"], headers, body)).status_code == 404
        assert (await server.send("PUT", action["href"], action["header"], data)).status_code == 200
        assert (await server.send("POST", verify["href"], headers, body)).status_code == 200
    else:
        assert (await server.send("PUT", action["href"], action["header"], data)).status_code == 200
    assert object_file(server.repository, oid).read_bytes() == data
