"""Keeps the service's listeners open: the page, metrics, hooks. What they are is the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from mirror.config import Config
from mirror.daemon.state import State
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import Clock
from mirror.model.live import HookEvents, Live

# Makes the listeners that a configuration asks for. Entering it opens them: where one cannot be opened it
# raises a MirrorError that names address and key. They serve until it is left. Where a listener fails
# meanwhile, the body must end with that error, as the body of an `asyncio.TaskGroup` does.
# The third argument takes what the hooks' door receives.
Listeners = Callable[[Config, Live, HookEvents], AbstractAsyncContextManager[None]]

# How long, in seconds, a failed listener stays closed: doubled each time, up to the last.
RETRY_FIRST, RETRY_LAST = 1.0, 60.0
# How long listeners may take to close, in seconds.
CLOSE_SECONDS = 5.0

_log = get_logger("daemon")


def no_listeners(*_: object) -> AbstractAsyncContextManager[None]:
    """No listeners at all."""
    return nullcontext()


class Listening:
    """The listeners of a configuration. One that fails while it runs is logged and is the trouble of `state`
    until all are opened again; `on_change` is called when that changes."""

    def __init__(
        self,
        listeners: Listeners,
        live: Live,
        hooks: HookEvents,
        state: State,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self._listeners, self._live, self._hooks = listeners, live, hooks
        self._state, self._clock, self._on_change = state, clock, on_change
        self._config: Config | None = None
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, config: Config) -> None:
        """Open the listeners of this configuration. Raises what a listener raises that cannot be opened."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._task = asyncio.ensure_future(self._keep_open(config, opened, self._leave))
        await opened
        self._config = config

    async def reopen(self, config: Config) -> None:
        """Close what is open, and open the listeners of this configuration. Where that fails, those of the
        last one are opened again, and the error is raised."""
        before = self._config
        await self.close()
        try:
            await self.open(config)
        except Exception:
            if before is not None:
                await self.open(before)
            raise

    async def close(self) -> None:
        """Close the listeners."""
        task, self._task, self._state.trouble = self._task, None, None
        if task is None:
            return
        self._leave.set()
        _, late = await asyncio.wait({task}, timeout=CLOSE_SECONDS)
        for one in late:
            one.cancel()
            await asyncio.wait({one})

    async def _keep_open(self, config: Config, opened: asyncio.Future[None], leave: asyncio.Event) -> None:
        retry = RETRY_FIRST
        while not leave.is_set():
            try:
                await self._serve(config, opened, leave)
                continue
            except Exception as error:  # noqa: BLE001 - whatever a listener raises, it is opened again
                if not opened.done():
                    opened.set_exception(error)
                    return
                self._state.trouble = _reason(error)
            self._on_change()
            _log.error("daemon.listeners_failed", reason=self._state.trouble, again_in_seconds=retry)
            sleeping = asyncio.ensure_future(self._clock.sleep(retry))
            leaving = asyncio.ensure_future(leave.wait())
            await asyncio.wait({sleeping, leaving}, return_when=asyncio.FIRST_COMPLETED)
            sleeping.cancel()
            leaving.cancel()
            retry = min(2 * retry, RETRY_LAST)

    async def _serve(self, config: Config, opened: asyncio.Future[None], leave: asyncio.Event) -> None:
        async with self._listeners(config, self._live, self._hooks):
            if not opened.done():
                opened.set_result(None)
            if self._state.trouble is not None:
                self._state.trouble = None
                self._on_change()
            await leave.wait()
        if not leave.is_set():
            raise RuntimeError("a listener ended by itself")


def _reason(error: BaseException) -> str:
    """What went wrong, of the first error in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.message if isinstance(error, MirrorError) else f"{type(error).__name__}: {error}"
