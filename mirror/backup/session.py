"""What visits that hooks cause work with: the store, a git worker, clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from mirror.backup.context import Request, RunContext
from mirror.backup.results import RunResults
from mirror.backup.visits import api_client
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.client.client import Client
from mirror.config.settings import WorkspaceConfig
from mirror.connect import network_of
from mirror.git.workers.pool import WorkerPool
from mirror.store.writing.writer import open_store

# No session takes visits for longer, in seconds: the next one reads the secrets anew.
SESSION_SECONDS = 60.0
# Workers beside those of the schedule, so that no visit waits behind a long run: one for so many of these.
WORKERS_SHARE = 2


class Session:
    """An open session. `run` is what visits are handed down."""

    def __init__(self, run: RunContext, stack: AsyncExitStack) -> None:
        self.run = run
        self.users = 0
        self.is_over = False
        self._stack = stack
        self._clients: dict[int, Client] = {}
        self._opening = asyncio.Lock()
        self._counted = 0

    @classmethod
    async def open(cls, request: Request) -> Session:
        """Open the store, and what else visits need. Raises NoStore, and UsageError where a secret cannot be
        read."""
        limits = request.config.limits
        async with AsyncExitStack() as stack:
            store = stack.enter_context(open_store(request.config.store, command="mirror daemon"))
            pool = WorkerPool(
                max(1, limits.git_workers // WORKERS_SHARE),
                environment=request.environment,
                memory=(limits.git_memory << 20) // WORKERS_SHARE,
                network=await network_of(request.config, request.environment),
            )
            workers = await stack.enter_async_context(pool)
            started = request.clock.now()
            results = RunResults(store.new_run_id(started), started)
            history = await asyncio.to_thread(store.reader.history)
            if request.announcements is not None:
                request.announcements.recall(history.hooks)
            request.budget.share(store.usage(request.budget.id, request.clock))
            return cls(RunContext(request, store, workers, results, history), stack.pop_all())

    async def client(self, entry: WorkspaceConfig) -> Client:
        """The client for an entry of the configuration. None of its requests waits for the rate limit, and
        all leave a share of it to the schedule."""
        async with self._opening:
            if id(entry) not in self._clients:
                client = await self._stack.enter_async_context(api_client(self.run.request, entry))
                self._clients[id(entry)] = client
        now = self.run.request.clock.monotonic()
        return self._clients[id(entry)].with_priority(Priority.FIRST, until=now).sparing()

    def take_requests(self) -> int:
        """The number of requests to the API since this was asked last."""
        total = sum(one.requests for one in self._clients.values())
        taken, self._counted = total - self._counted, total
        return taken

    async def close(self) -> None:
        """Close everything."""
        await self.run.request.budget.settle()
        await self._stack.aclose()


class Sessions:
    """Opens a session when one is wanted, and closes it when it is over and no visit uses it."""

    def __init__(self, make_request: Callable[[], Request]) -> None:
        self._make_request = make_request
        self._current: Session | None = None
        self._opening = asyncio.Lock()
        self._timers: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """The session for one visit. Raises what `Session.open` raises."""
        async with self._opening:
            if self._current is None or self._current.is_over:
                self._current = await Session.open(self._make_request())
                timer = asyncio.ensure_future(self._end_later(self._current))
                self._timers.add(timer)
                timer.add_done_callback(self._timers.discard)
            session = self._current
            session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            if session.is_over and not session.users:
                await session.close()

    async def renew(self) -> None:
        """The next visit gets a new session."""
        session, self._current = self._current, None
        if session is not None and not session.is_over:
            session.is_over = True
            if not session.users:
                await session.close()

    async def stop(self) -> None:
        """Close what is open. No visit uses it any more."""
        timers = list(self._timers)
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)
        await self.renew()

    async def _end_later(self, session: Session) -> None:
        await session.run.request.clock.sleep(SESSION_SECONDS)
        if not session.is_over:
            session.is_over = True
            if not session.users:
                await asyncio.shield(session.close())
