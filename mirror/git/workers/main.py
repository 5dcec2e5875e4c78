"""A worker process: receives jobs from its parent over a socket, one at a time, and sends the results.

Started as `python -m mirror.git.workers.main <socket descriptor> <parent's process id> <bytes of memory>`.
Jobs and the logins in them come over the socket only. The worker dies with its parent: by the kernel's
signal, and because the socket is closed.
"""

from __future__ import annotations

import array
import contextlib
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

from mirror.errors import MirrorError
from mirror.git.failures import GitFailed
from mirror.git.pack.limits import PackLimits
from mirror.git.processes.parent_death import die_with_parent
from mirror.git.workers.job import Job, OnProgress

LENGTH = struct.Struct(">Q")
# The least time, in seconds, between two messages about amounts, or about counts at the same stage.
PAUSE = 0.2


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def _receive(connection: socket.socket) -> tuple[Any, int | None]:
    """The next job, and the descriptor of the folder's lock, where one came with it."""
    data, ancillary, _flags, _address = connection.recvmsg(1, socket.CMSG_SPACE(4))
    if not data:
        raise EOFError
    lock: int | None = None
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            lock = array.array("i", content[:4])[0]
            os.set_inheritable(lock, True)  # a git that the job starts holds the lock, too
    (size,) = LENGTH.unpack(data + _read_exactly(connection, LENGTH.size - 1))
    return pickle.loads(_read_exactly(connection, size)), lock  # noqa: S301 - only the parent writes to it


def send(connection: socket.socket, message: Any) -> None:
    """Send one message, prefixed with its length."""
    data = pickle.dumps(message)
    connection.sendall(LENGTH.pack(len(data)) + data)


class _Parent:
    """Tells the parent how far the job is, from any thread. What would come too fast is put together: amounts
    are summed, and of the counts at one stage only some are sent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._text = ""
        self._told = self._summed = 0.0
        self._objects = self._bytes = 0

    def tell(self, text: str, done: int | None, total: int | None) -> None:
        """See OnProgress."""
        now = time.monotonic()
        with self._lock:
            if text != self._text or now - self._told >= PAUSE:
                self._text, self._told = text, now
                send(self._connection, ("progress", (text, done, total)))

    def received(self, objects: int, size: int) -> None:
        """See OnProgress."""
        now = time.monotonic()
        with self._lock:
            self._objects, self._bytes = self._objects + objects, self._bytes + size
            if now - self._summed >= PAUSE:
                self._summed = now
                self._send_amounts()

    def _send_amounts(self) -> None:
        if self._objects or self._bytes:
            send(self._connection, ("received", (self._objects, self._bytes)))
            self._objects = self._bytes = 0

    def end(self) -> None:
        """Send what is not sent yet. The result comes next."""
        with self._lock:
            self._send_amounts()


def _answer(parent: _Parent, job: Job[Any], limits: PackLimits) -> tuple[str, Any]:
    try:
        return "result", job.do(OnProgress(parent.tell, parent.received), time.monotonic, limits)
    except MirrorError as error:
        return "error", error
    except OSError as error:
        return "error", GitFailed(f"{error.strerror or error} ({error.filename or 'no file'})")
    except MemoryError:
        return "error", GitFailed("the worker ran out of memory")
    except Exception as error:  # noqa: BLE001 - a worker reports whatever happens and lives on
        return "error", GitFailed(f"unexpected {type(error).__name__} in the git worker: {error}")


def main() -> None:
    """Serve jobs until the parent ends."""
    die_with_parent(int(sys.argv[2]))
    # Signals of a terminal or a service manager reach the whole process group; only the parent acts on them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    limits = PackLimits.for_memory(int(sys.argv[3]))
    # dulwich closes files in destructors. Errors there were already reported as the job's own.
    sys.unraisablehook = lambda _: None
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            job, lock = _receive(connection)
            try:
                parent = _Parent(connection)
                answer = _answer(parent, job, limits)
                parent.end()
                send(connection, answer)
            finally:
                # Kept until the job ends, so that the lock outlives a parent that is killed.
                if lock is not None:
                    os.close(lock)


if __name__ == "__main__":
    main()
    # Skip the interpreter's shutdown, where dulwich warns about files that are still open.
    os._exit(0)
