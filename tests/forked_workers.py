"""Worker processes that start at once: they are forked from a process that has imported the program.

Only the start of an interpreter and its imports are saved. A worker runs `mirror.git.workers.main` in a
process of its own, with the descriptor, the environment and the folder that it would have, and dies with its
parent.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
_MESSAGE_MAX = 1 << 16


def import_git() -> None:
    """Import everything that a worker may need."""
    import mirror.git

    for module in pkgutil.walk_packages(mirror.git.__path__, "mirror.git."):
        importlib.import_module(module.name)


def become_worker(descriptor: int, environment: Mapping[str, str], memory: int) -> NoReturn:
    """In a forked process: be the worker that a start with these arguments would have given."""
    from mirror.git.workers.main import main

    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[1:] = [str(descriptor), str(os.getppid()), str(memory)]
        main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Worker:
    """A worker as its user sees it: what `asyncio.subprocess.Process` offers, as far as it is used."""

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle
        self._has_ended = False

    def kill(self) -> None:
        """Send SIGKILL. Raises ProcessLookupError where the worker has ended."""
        signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait until the worker has ended."""
        if self._has_ended:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._handle)
        self._has_ended = True
        os.close(self._handle)


class WorkerServer:
    """Context manager: the process that workers are forked from.

    It is started when the first worker is asked for, and ends with this process. It is no child of this one:
    tests look for children that were left behind.
    """

    def __init__(self) -> None:
        self._connection: socket.socket | None = None

    def __enter__(self) -> WorkerServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> socket.socket:
        if self._connection is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                subprocess.run(
                    [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    check=True,
                )
            self._connection = ours
        return self._connection

    async def start(self, descriptor: int, environment: Mapping[str, str], memory: int) -> Worker:
        """Start a worker: the same as `mirror.git.workers.pool.start_process`."""
        connection = self._connected()
        order = {"environment": dict(environment), "memory": memory, "folder": str(Path.cwd())}
        socket.send_fds(connection, [json.dumps(order).encode()], [descriptor, 2])
        answer, [handle], _, _ = socket.recv_fds(connection, _MESSAGE_MAX, 1)
        return Worker(int(answer), handle)


def serve(connection: socket.socket) -> None:
    """Fork a worker for each order until the other end is closed."""
    import_git()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for them
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE_MAX, 2)
        if not message:
            return
        order = json.loads(message)
        socket_of_worker, errors = descriptors
        # The child waits until its handle is open, so that the handle means it.
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)
            os.dup2(errors, 2)
            os.chdir(order["folder"])
            become_worker(socket_of_worker, order["environment"], order["memory"])
        handle = os.pidfd_open(child)
        for one in (ready, go, *descriptors):
            os.close(one)
        socket.send_fds(connection, [str(child).encode()], [handle])
        os.close(handle)


if __name__ == "__main__" and os.fork() == 0:
    serve(socket.socket(fileno=int(sys.argv[1])))
