"""Serial execution of the jobs of one kind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Lane:
    """Runs `work` each time it is due. If it becomes due while it runs or waits for its turn, it runs once
    more right afterwards, however often it was due. Lanes that share a `turn` run one after the other."""

    def __init__(self, work: Callable[[], Awaitable[None]], turn: asyncio.Lock) -> None:
        self._work = work
        self._turn = turn
        self._is_due = False
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def due(self) -> None:
        """Run the work now, or as soon as possible."""
        if self._stopped:
            return
        self._is_due = True
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        while self._is_due:
            async with self._turn:
                self._is_due = False
                await self._work()

    async def stop(self) -> None:
        """Cancel the running work, wait for its end, and start no more."""
        self._stopped = True
        self._is_due = False
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
