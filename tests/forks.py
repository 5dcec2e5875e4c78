"""Processes of the program that start at once: they are forked from one that has imported all of it.

Only the start of an interpreter and its imports are saved. Each is a process of its own with the arguments,
the environment, the folder and the descriptors that it would have. It may be killed, and a worker dies with
its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
_MESSAGE_MAX = 1 << 16
# What the interpreter itself reads when it starts.
_OF_INTERPRETER = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")


def import_all() -> None:
    """Import the whole program."""
    import mirror

    for module in pkgutil.walk_packages(mirror.__path__, "mirror."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def become(run: Callable[[], int], environment: Mapping[str, str], keep: Sequence[int]) -> NoReturn:
    """In a forked process: be the one that runs `run` and ends with its exit code. Of the descriptors above
    2, only `keep` stays open."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        begin = 3
        for one in sorted(keep):
            os.closerange(begin, one)
            begin = one + 1
        os.closerange(begin, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(environment)
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _become_worker(descriptor: int, environment: Mapping[str, str], memory: int) -> NoReturn:
    from mirror.git.workers.main import main

    def run() -> int:
        sys.argv[1:] = [str(descriptor), str(os.getppid()), str(memory)]
        main()
        return 0

    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    become(run, environment, [descriptor])


class Worker:
    """A worker as the pool sees it: what `asyncio.subprocess.Process` offers, as far as it is used."""

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
        with contextlib.suppress(ChildProcessError):  # of the server, not of this process
            os.waitpid(self.pid, 0)


async def fork_worker(descriptor: int, environment: Mapping[str, str], memory: int) -> Worker:
    """Fork a worker from this process. Stands for `mirror.git.workers.pool.start_process`."""
    pid = os.fork()
    if pid == 0:
        _become_worker(descriptor, environment, memory)
    return Worker(pid, os.pidfd_open(pid))


class Program:
    """A program that runs, as `subprocess.Popen` shows one. `status` gives its process id, then its code."""

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, `timeout` seconds at most; returns the exit code. Raises TimeoutExpired."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._status, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("a forked program", timeout or 0)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode


class ForkServer:
    """The process that others are forked from.

    It is started when the first one is asked for, and ends with this process. It is no child of this one:
    tests look for children that were left behind.
    """

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._turn = threading.Lock()

    def close(self) -> None:
        """End it, if it was started."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> socket.socket:
        if self._connection is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                subprocess.run(
                    [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                    check=True,
                )
            self._connection = ours
        return self._connection

    async def start_worker(self, descriptor: int, environment: Mapping[str, str], memory: int) -> Worker:
        """Start a worker. Stands for `mirror.git.workers.pool.start_process`."""
        order = {"environment": dict(environment), "memory": memory, "folder": str(Path.cwd())}
        with self._turn:
            connection = self._connected()
            socket.send_fds(connection, [json.dumps(order).encode()], [descriptor, 2])
            answer, [handle], _, _ = socket.recv_fds(connection, _MESSAGE_MAX, 1)
        return Worker(int(answer), handle)

    def start(
        self,
        program: str,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path | None = None,
        streams: Sequence[int],
    ) -> Program:
        """Start `program`, a `module:function` that gets the arguments `words` and returns an exit code, with
        `streams` as stdin, stdout and stderr. It forks its workers, too."""
        assert not any(name.startswith(_OF_INTERPRETER) for name in environment), "start a real process"
        order = {
            "program": program,
            "words": list(words),
            "environment": dict(environment),
            "folder": str(folder or Path.cwd()),
        }
        ours, theirs = os.pipe()
        try:
            with self._turn:
                socket.send_fds(self._connected(), [json.dumps(order).encode()], [*streams, theirs])
        finally:
            os.close(theirs)
        return Program(ours)


# The one of this process.
FORKS = ForkServer()


def _run_program(order: Mapping[str, Any], streams: Sequence[int], status: int) -> NoReturn:
    """In a forked process: fork the program, and tell its process id and exit code."""
    from mirror.git.workers import pool

    def run() -> int:
        module, _, function = str(order["program"]).partition(":")
        pool.start_process = fork_worker  # type: ignore[assignment]
        sys.argv[1:] = order["words"]
        code: int = getattr(importlib.import_module(module), function)()
        return code

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        for number, one in enumerate(streams):
            os.dup2(one, number)
        become(run, order["environment"], [])
    for one in streams:
        os.close(one)
    os.write(status, f"{child}\n".encode())
    _, ended = os.waitpid(child, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def serve(connection: socket.socket) -> None:
    """Fork a process for each order until the other end is closed."""
    import_all()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for them
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE_MAX, 4)
        if not message:
            return
        order = json.loads(message)
        # A child waits until its handle is open, so that the handle means it.
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            connection.close()
            os.close(go)
            os.read(ready, 1)
            os.chdir(order["folder"])
            if "program" in order:
                _run_program(order, descriptors[:3], descriptors[3])
            os.dup2(descriptors[1], 2)
            _become_worker(descriptors[0], order["environment"], order["memory"])
        handle = os.pidfd_open(child)
        for one in (ready, go, *descriptors):
            os.close(one)
        if "program" not in order:
            socket.send_fds(connection, [str(child).encode()], [handle])
        os.close(handle)


if __name__ == "__main__" and os.fork() == 0:
    serve(socket.socket(fileno=int(sys.argv[1])))
