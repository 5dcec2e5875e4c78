"""A pool of worker processes for git work, which is CPU-bound and must be killable.

Each worker serves one job at a time. Where a worker dies, its job fails and another worker replaces it.
Cancelling a job kills its worker; the mirror that it worked on stays valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import mirror
from mirror.git import cgit
from mirror.git.failures import GitFailed
from mirror.git.pack.limits import MEMORY
from mirror.git.workers.job import Job, NetworkJob, OnProgress, Received, Tell, no_progress
from mirror.git.workers.main import LENGTH
from mirror.http.network import Network

_T = TypeVar("_T")
# The environment variables that a worker inherits: where programs are, nothing secret. The network settings
# come over its socket.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR")
# A git that a worker starts reads no config but the repository's own.
_FOR_GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_NO_REPLACE_OBJECTS": "1"}


# A job that takes longer (seconds) lets the next one start.
LONG_AFTER = 60.0


async def start_process(
    descriptor: int, environment: Mapping[str, str], memory: int
) -> asyncio.subprocess.Process:
    """Start a worker process that serves the socket `descriptor` and may use `memory` bytes for packs."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "mirror.git.workers.main",
        str(descriptor),
        str(os.getpid()),
        str(memory),
        pass_fds=[descriptor],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        env=dict(environment),
    )


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self.process = process
        self.connection = connection

    @classmethod
    async def start(cls, environment: Mapping[str, str], memory: int) -> _Worker:
        passed_on = {name: environment[name] for name in _PASSED_ON if name in environment}
        own = {**passed_on, **_FOR_GIT, "PYTHONPATH": str(Path(mirror.__file__).parents[1])}
        ours, theirs = socket.socketpair()
        try:
            process = await start_process(theirs.fileno(), own, memory)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return cls(process, ours)

    async def do(self, job: Job[Any], lock: int | None, progress: OnProgress) -> Any:
        loop = asyncio.get_running_loop()
        data = pickle.dumps(job)
        message = LENGTH.pack(len(data)) + data
        # The descriptor goes with the first byte, for which an empty socket always has room.
        socket.send_fds(self.connection, [message[:1]], [] if lock is None else [lock])
        await loop.sock_sendall(self.connection, message[1:])
        while True:
            kind, value = await self._receive(loop)
            if kind == "progress":
                progress.tell(*value)
            elif kind == "received":
                progress.received(*value)
            elif kind == "error":
                raise value
            else:
                return value

    async def _receive(self, loop: asyncio.AbstractEventLoop) -> tuple[str, Any]:
        (size,) = LENGTH.unpack(await self._read_exactly(loop, LENGTH.size))
        kind, value = pickle.loads(await self._read_exactly(loop, size))  # noqa: S301 - our own worker
        return kind, value

    async def _read_exactly(self, loop: asyncio.AbstractEventLoop, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = await loop.sock_recv(self.connection, min(size - len(data), 1 << 20))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)

    async def stop(self) -> None:
        """Kill the worker and wait until it has ended."""
        # Kill before closing: a worker that ended by itself meanwhile would be reaped without asyncio.
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.connection.close()
        await self.process.wait()


class WorkerPool:
    """`size` workers, started on demand and reused. An async context manager.

    Once a job takes longer than `long_after` seconds, the next one starts beside it, so that a few giant
    repositories do not block a thousand small ones. There are never more than twice `size` workers.
    `environment` is this process's own; workers inherit `_PASSED_ON`. `memory` (bytes) is what all workers
    together may use to receive packs. `network` are the settings for jobs that connect to servers. `received`
    is called with the objects and bytes that jobs receive.
    """

    def __init__(
        self,
        size: int,
        *,
        environment: Mapping[str, str] | None = None,
        long_after: float = LONG_AFTER,
        memory: int = MEMORY,
        network: Network | None = None,
        received: Received | None = None,
    ) -> None:
        self._received = received or no_progress.received
        self._network = network
        self._slots = asyncio.Semaphore(max(1, size))
        self._early = max(1, size)  # how many jobs may still release their slot early
        self._long_after = long_after
        self._memory = memory // max(1, size)
        self._environment = environment or {}
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()

    @property
    def has_git(self) -> bool:
        """Whether C git is installed."""
        return cgit.find(self._environment.get("PATH", "")) is not None

    async def __aenter__(self) -> WorkerPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        workers, self._all, self._idle = list(self._all), set(), []
        for worker in workers:
            await worker.stop()

    async def run(self, job: Job[_T], *, lock_fd: int | None = None, progress: Tell | None = None) -> _T:
        """Do `job` in a worker, which also holds the lock `lock_fd` until the job ends.
        `progress` is told how far it is.

        Raises what the job raises, and GitFailed where the worker died.
        """
        async with self._slot():
            worker = self._idle.pop() if self._idle else await self._start()
            try:
                told = OnProgress(progress or no_progress.tell, self._received)
                result: _T = await worker.do(job, lock_fd, told)
            except (EOFError, ConnectionError, BrokenPipeError):
                await self._discard(worker)
                raise GitFailed("a git worker died; the mirror is unchanged") from None
            except asyncio.CancelledError:
                await asyncio.shield(self._discard(worker))
                raise
            except Exception:
                self._idle.append(worker)
                raise
            self._idle.append(worker)
            return result

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the slots for jobs, released early by a job that takes long."""
        await self._slots.acquire()
        has_slot = True

        def release_early() -> None:
            nonlocal has_slot
            if self._early > 0:
                self._early -= 1
                has_slot = False
                self._slots.release()

        timer = asyncio.get_running_loop().call_later(self._long_after, release_early)
        try:
            yield
        finally:
            timer.cancel()
            if has_slot:
                self._slots.release()
            else:
                self._early += 1

    async def _start(self) -> _Worker:
        worker = await _Worker.start(self._environment, self._memory)
        self._all.add(worker)
        if self._network is not None:
            await worker.do(NetworkJob(self._network), None, no_progress)
        return worker

    async def _discard(self, worker: _Worker) -> None:
        self._all.discard(worker)
        await worker.stop()
