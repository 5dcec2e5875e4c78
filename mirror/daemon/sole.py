"""One daemon for each store: two would run everything twice."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from mirror.errors import Locked
from mirror.model import Clock
from mirror.store.format.layout import CACHE
from mirror.store.writing.locks import hold

_NAME = "daemon"


class Sole:
    """Holds the lock of the one daemon that keeps the schedule of a store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._store: Path | None = None
        self._held = AsyncExitStack()

    async def take(self, store: Path) -> None:
        """Keep the schedule of this store, and no longer that of another. Raises Locked, and keeps what it
        has, where another daemon keeps it."""
        if store == self._store:
            return
        taken, what = AsyncExitStack(), f"the schedule of {store}"
        lock = hold(store / CACHE / _NAME, what=what, command="mirror daemon", wait=0, clock=self._clock)
        try:
            await taken.enter_async_context(lock)
        except Locked as error:
            hint = "stop one of them: two daemons would run everything twice"
            raise Locked(error.message, hint=hint) from None
        await self.release()
        self._store, self._held = store, taken

    async def release(self) -> None:
        """Keep no schedule any more."""
        self._store = None
        await self._held.aclose()
