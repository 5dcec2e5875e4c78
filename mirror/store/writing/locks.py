"""Locks: one writer for each folder at a time. Readers take none.

The kernel (flock) releases a lock when the last process with its descriptor ends, so no lock is ever stale.
The content of a lock file is only for people.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mirror.errors import Locked
from mirror.model import Clock, JsonObject, NotCanonical, dumps, loads, time_from_text, time_text

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock, for people only."""

    pid: int
    command: str
    since: datetime
    host: str

    def to_json(self) -> JsonObject:
        """The JSON in the lock file."""
        return {"pid": self.pid, "command": self.command, "since": time_text(self.since), "host": self.host}

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid} on {self.host}, since {time_text(self.since)})"


def read_holder(path: Path) -> Holder | None:
    """The holder that a lock file names, or None."""
    try:
        data = loads(path.read_bytes())
        pid, command, host = data["pid"], data["command"], data["host"]
        if not (isinstance(pid, int) and isinstance(command, str) and isinstance(host, str)):
            return None
        return Holder(pid, command, time_from_text(data["since"]), host)
    except (OSError, NotCanonical, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class FolderLock:
    """A lock that is held. `fileno` may be passed to a worker: the lock lasts until every holder has closed
    it."""

    fileno: int


@asynccontextmanager
async def hold(
    path: Path, *, what: str, command: str, wait: float, clock: Clock
) -> AsyncIterator[FolderLock]:
    """Hold the lock at `path`, waiting up to `wait` seconds for it.

    `what` names the locked thing for people. Raises Locked naming the holder.
    """
    until = clock.monotonic() + wait
    while (descriptor := _try(path)) is None:
        left = until - clock.monotonic()
        if left <= 0:
            holder = read_holder(path)
            raise Locked(
                f"{what} is locked by {holder if holder is not None else 'another process'}",
                hint="wait until it ends, or use --lock-wait 10m",
            )
        await clock.sleep(min(_POLL_SECONDS, left))
    try:
        _sign(descriptor, Holder(os.getpid(), command, clock.now(), os.uname().nodename))
        yield FolderLock(descriptor)
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        # Close it without unlocking: a worker that still writes keeps the lock.
        os.close(descriptor)


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock at `path`, and say whether that is possible; another process may hold it."""
    descriptor = _try(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def hold_briefly(path: Path) -> Iterator[None]:
    """Hold the lock at `path` for a short time, waiting for it without limit."""
    while (descriptor := _try(path, block=True)) is None:
        continue
    try:
        yield
    finally:
        os.close(descriptor)


def _try(path: Path, *, block: bool = False) -> int | None:
    """The descriptor of the locked lock file, or None where another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
        ours, there = os.fstat(descriptor), path.stat(follow_symlinks=False)
        if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
            os.fchmod(descriptor, 0o600)
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # another process holds it, or replaced the file meanwhile
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _sign(descriptor: int, holder: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, dumps(holder.to_json()), 0)
