"""The page over a real socket, in a thread of its own, for a real browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.config import address
from mirror.web import make_app, serving
from tests.clock import FakeClock
from tests.web.helpers import access
from tests.web.large_world import NOW

ANY = address("127.0.0.1:0")


@dataclass(frozen=True)
class Served:
    """Where the page is."""

    url: str


@contextmanager
def serve(store: Path, *, token: str | None = None, **more: Any) -> Iterator[Served]:
    """Serve the page over `store` inside this block."""
    ready, stop = threading.Event(), threading.Event()
    found: list[str] = []
    clock = FakeClock(NOW)
    app = make_app(store, clock=clock, access=access(clock, token=token), **more)

    async def run() -> None:
        async with serving(app, ANY, key="web.listen") as there:
            found.append(f"http://{there.text}")
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield Served(found[0])
    finally:
        stop.set()
        thread.join(30)
