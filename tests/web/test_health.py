"""`/healthz` and `/readyz`, which anybody may ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clock import FakeClock
from tests.web.helpers import TOKEN, access, client
from tests.web.live import Told


@pytest.mark.parametrize("peer", ["127.0.0.1", "203.0.113.9"])
async def test_neither_needs_the_token(tmp_path: Path, peer: str) -> None:
    clock = FakeClock()
    rules = access(clock, token=TOKEN)
    async with client(tmp_path / "none", clock, rules=rules, peer=peer, live=Told()) as browser:
        for path in ("/healthz", "/readyz"):
            answer = await browser.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
            assert answer.headers["cache-control"] == "no-store"
        assert (await browser.get("/", headers={"Accept": "*/*"})).status_code == 401


async def test_not_ready_says_why(tmp_path: Path) -> None:
    live = Told(reasons=["backup is overdue: none has ended since 2026-11-20T02:00:00Z"])
    async with client(tmp_path / "none", FakeClock(), live=live) as browser:
        answer = await browser.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "reasons": live.reasons}
        assert (await browser.get("/healthz")).json() == {"lives": True}
        live.reasons = []
        answer = await browser.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"ready": True, "reasons": []})


async def test_a_page_without_a_service_is_ready(tmp_path: Path) -> None:
    async with client(tmp_path / "none", FakeClock()) as browser:
        assert (await browser.get("/readyz")).status_code == 200
