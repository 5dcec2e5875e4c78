"""A worker process: takes jobs from its parent over a socket, one at a time, and answers.

Started as `python -m mirror.git.workers.main <socket descriptor> <parent's process id> <bytes of memory>`.
Jobs, logins among them, come over the socket alone. It dies with its parent: by the kernel's signal,
and because the socket ends.
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
import time
from typing import Any

from mirror.errors import MirrorError
from mirror.git.failures import GitFailed
from mirror.git.processes.parent_death import die_with_parent
from mirror.git.workers.job import Job
from mirror.git.workers.limits import bound

LENGTH = struct.Struct(">Q")


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def _receive(connection: socket.socket) -> tuple[Any, int | None]:
    """The next job, and the descriptor of the lock it is done under, if one came with it."""
    data, ancillary, _flags, _address = connection.recvmsg(1, socket.CMSG_SPACE(4))
    if not data:
        raise EOFError
    lock: int | None = None
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            lock = array.array("i", content[:4])[0]
            os.set_inheritable(lock, True)  # a git that the job starts holds it, too
    (size,) = LENGTH.unpack(data + _read_exactly(connection, LENGTH.size - 1))
    return pickle.loads(_read_exactly(connection, size)), lock  # noqa: S301 - only our parent is there


def send(connection: socket.socket, message: Any) -> None:
    """Send one message, its length first."""
    data = pickle.dumps(message)
    connection.sendall(LENGTH.pack(len(data)) + data)


def _answer(connection: socket.socket, job: Job[Any]) -> tuple[str, Any]:
    def progress(text: str) -> None:
        send(connection, ("progress", text))

    try:
        return "result", job.do(progress, time.monotonic)
    except MirrorError as error:
        return "error", error
    except OSError as error:
        return "error", GitFailed(f"{error.strerror or error} ({error.filename or 'no file'})")
    except MemoryError:
        return "error", GitFailed("the worker ran out of memory")
    except Exception as error:  # noqa: BLE001 - a worker reports whatever happens and lives on
        return "error", GitFailed(f"unexpected {type(error).__name__} in the git worker: {error}")


def main() -> None:
    """Serve jobs until the parent goes."""
    die_with_parent(int(sys.argv[2]))
    # The parent decides when to stop; what a terminal or a service manager sends reaches the whole group.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    bound(int(sys.argv[3]))
    # dulwich closes files in destructors; what goes wrong there has been told as the job's own error.
    sys.unraisablehook = lambda _: None
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            job, lock = _receive(connection)
            try:
                send(connection, _answer(connection, job))
            finally:
                # Held to the end of the job, so that the lock outlives a parent that is killed.
                if lock is not None:
                    os.close(lock)


if __name__ == "__main__":
    main()
    # Not through the interpreter's shutdown: dulwich complains there about files left to close.
    os._exit(0)
