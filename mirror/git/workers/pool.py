"""Worker processes for git work, which is heavy Python and must be killable.

Each worker serves one job at a time. A worker that dies fails its job and is replaced; cancelling
a job kills its worker, and the mirror it worked on stays valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import mirror
from mirror.git import cgit
from mirror.git.failures import GitFailed
from mirror.git.workers.job import Job, NetworkJob
from mirror.git.workers.limits import MEMORY
from mirror.git.workers.main import LENGTH
from mirror.http.network import Network

_T = TypeVar("_T")
# What a worker may need of the environment: where programs are. Nothing secret; how servers are reached
# comes over its socket.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR")
# A git that a worker starts reads no configuration but the repository's own.
_FOR_GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_NO_REPLACE_OBJECTS": "1"}


# Jobs that take longer, in seconds, give their place to others.
LONG_AFTER = 60.0


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self.process = process
        self.connection = connection

    @classmethod
    async def start(cls, environment: Mapping[str, str], memory: int) -> _Worker:
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "mirror.git.workers.main",
                str(theirs.fileno()),
                str(os.getpid()),
                str(memory),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env={
                    **{name: environment[name] for name in _PASSED_ON if name in environment},
                    **_FOR_GIT,
                    "PYTHONPATH": str(Path(mirror.__file__).parents[1]),
                },
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return cls(process, ours)

    async def do(self, job: Job[Any], lock: int | None, progress: Callable[[str], None] | None) -> Any:
        loop = asyncio.get_running_loop()
        data = pickle.dumps(job)
        message = LENGTH.pack(len(data)) + data
        # The first byte carries the descriptor; an empty socket always has room for it.
        socket.send_fds(self.connection, [message[:1]], [] if lock is None else [lock])
        await loop.sock_sendall(self.connection, message[1:])
        while True:
            kind, value = await self._receive(loop)
            if kind == "progress":
                if progress is not None:
                    progress(value)
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
        """Kill it and wait for its end."""
        # In this order: one that ends by itself meanwhile would be reaped behind asyncio's back.
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.connection.close()
        await self.process.wait()


class WorkerPool:
    """`size` workers, started when first needed and kept. An async context manager.

    A job that takes longer than `long_after` seconds gives its place to the next, and goes on: a few
    giants do not hold up a thousand dwarfs. So there may be twice as many workers, never more.
    `environment` is the process's own; only what names programs is passed on. `memory` (bytes) is what
    they may use together to take packs in. `network` is how servers are reached, for jobs that reach any.
    """

    def __init__(
        self,
        size: int,
        *,
        environment: Mapping[str, str] | None = None,
        long_after: float = LONG_AFTER,
        memory: int = MEMORY,
        network: Network | None = None,
    ) -> None:
        self._network = network
        self._slots = asyncio.Semaphore(max(1, size))
        self._more = max(1, size)  # how many jobs may yet give their place away
        self._long_after = long_after
        self._memory = memory // max(1, size)
        self._environment = environment or {}
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()

    @property
    def has_git(self) -> bool:
        """Whether workers find C git."""
        return cgit.find(self._environment.get("PATH", "")) is not None

    async def __aenter__(self) -> WorkerPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        workers, self._all, self._idle = list(self._all), set(), []
        for worker in workers:
            await worker.stop()

    async def run(
        self, job: Job[_T], *, lock_fd: int | None = None, progress: Callable[[str], None] | None = None
    ) -> _T:
        """Do `job` in a worker. `lock_fd` is held by the worker, too, for as long as the job runs.

        Raises what the job raises, and GitFailed where the worker itself died.
        """
        async with self._place():
            worker = self._idle.pop() if self._idle else await self._start()
            try:
                result: _T = await worker.do(job, lock_fd, progress)
            except (EOFError, ConnectionError, BrokenPipeError):
                await self._drop(worker)
                raise GitFailed("a git worker died; the mirror it worked on is as it was") from None
            except asyncio.CancelledError:
                await asyncio.shield(self._drop(worker))
                raise
            except Exception:
                self._idle.append(worker)
                raise
            self._idle.append(worker)
            return result

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """A place among those that work; given away by who takes long."""
        await self._slots.acquire()
        is_held = True

        def give_away() -> None:
            nonlocal is_held
            if self._more > 0:
                self._more -= 1
                is_held = False
                self._slots.release()

        timer = asyncio.get_running_loop().call_later(self._long_after, give_away)
        try:
            yield
        finally:
            timer.cancel()
            if is_held:
                self._slots.release()
            else:
                self._more += 1

    async def _start(self) -> _Worker:
        worker = await _Worker.start(self._environment, self._memory)
        self._all.add(worker)
        if self._network is not None:
            await worker.do(NetworkJob(self._network), None, None)
        return worker

    async def _drop(self, worker: _Worker) -> None:
        self._all.discard(worker)
        await worker.stop()
