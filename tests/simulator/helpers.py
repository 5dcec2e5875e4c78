"""Requests to the simulator without a socket, for tests that are not about the socket."""

from __future__ import annotations

import atexit
import base64
import functools
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from mirror.simulator import EVERY_SCOPE, Switches, World
from mirror.simulator.app import App
from mirror.simulator.world.sample import SCOPES, populate

# Every scope of an API token that any route asks for.
EVERYTHING = EVERY_SCOPE
API = "http://api.example/2.0"
START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


@functools.cache
def _template() -> Path:
    """A sample world on disk, created once and copied for each test: ten times faster."""
    folder = Path(tempfile.mkdtemp(prefix="mirror-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    world = World(folder)
    populate(world)
    world.save()
    return folder


def sample_world(root: Path) -> World:
    """The sample, in a folder of its own."""
    shutil.copytree(_template(), root, dirs_exist_ok=True)
    world = World.load(root)
    assert world is not None
    return world


class Asking:
    """An application over a world, and a client of it."""

    def writing_user(self, email: str = "ann@acme.example") -> str:
        """The sign-in of a user's API token that may read and write everything."""
        user = self.world.users[email]
        return basic(email, self.world.add_api_token(user, EVERYTHING))

    def __init__(self, root: Path, *, switches: Switches | None = None, limit: int = 100_000) -> None:
        self.time = [START]
        self.world = sample_world(root)
        self.world.clock, self.world.limit = lambda: self.time[0], limit
        self.world.switches = switches or Switches()
        self.app = App(self.world, self.world.switches)
        self.app.api, self.app.git = API, "http://api.example"
        self.app.storage = "http://storage.example"
        self.token = self.world.add_workspace_access_token("acme", SCOPES | {"issue", "snippet"})

    async def __call__(
        self, path: str, authorization: str | None = "", *, method: str = "GET", **headers: str
    ) -> httpx.Response:
        """Request a path below the API's root, or a full URL."""
        if authorization == "":
            authorization = f"Bearer {self.token}"
        if authorization is not None:
            headers["Authorization"] = authorization
        url = path if "://" in path else API + path
        app = self.app.on_storage if "storage." in url else self.app
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
            return await client.request(method, url, headers=headers)

    async def write(
        self, method: str, path: str, body: Any = None, authorization: str = "", **more: Any
    ) -> httpx.Response:
        """Send JSON, or what else httpx is told to send, to a path below the API's root."""
        headers = {"Authorization": authorization or f"Bearer {self.token}", **more.pop("headers", {})}
        if body is not None:
            more["json"] = body
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app)) as client:
            return await client.request(method, API + path, headers=headers, **more)

    async def entries(self, path: str, authorization: str = "") -> list[Any]:
        """Every entry of a list, page by page."""
        found: list[Any] = []
        url: str | None = path
        while url is not None:
            answer = await self(url, authorization)
            assert answer.status_code == 200, answer.text
            found += answer.json()["values"]
            url = answer.json().get("next")
        return found


def basic(name: str, secret: str) -> str:
    """The header of HTTP Basic authentication."""
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item)
