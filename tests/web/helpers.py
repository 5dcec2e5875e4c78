"""Asking the page: the application itself over httpx, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from mirror.auth.secrets import Secret
from mirror.config import address
from mirror.store.writing.writer import create_or_open
from mirror.web import Access, make_app
from tests.clock import FakeClock
from tests.e2e.helpers import MADE

TOKEN = "a-token-for-the-page-0123"
LOOPBACK = address("127.0.0.1:9321")


def access(clock: FakeClock, *, token: str | None = None, **more: Any) -> Access:
    """The rules of a page on loopback."""
    given: dict[str, Any] = {"listen": LOOPBACK, **more}
    return Access(clock=clock, token=Secret(token) if token is not None else None, **given)


def client(
    store: Path, clock: FakeClock, *, rules: Access | None = None, peer: str = "127.0.0.1", **more: Any
) -> httpx.AsyncClient:
    """A client of the page over `store`."""
    return client_of(make_app(store, clock=clock, access=rules or access(clock), **more), peer)


def client_of(app: Starlette, peer: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client of this application, at the address `peer`."""
    transport = httpx.ASGITransport(app, client=(peer, 50000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9321", headers=_BROWSER)


_BROWSER: Mapping[str, str] = {"Accept": "text/html"}


def make_store(path: Path) -> Path:
    """An empty store."""
    create_or_open(path, now=MADE, command="tests").close()
    return path
