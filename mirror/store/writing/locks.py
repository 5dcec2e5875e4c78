"""Locks: one writer for each folder at a time. Readers take none.

A lock is the kernel's (flock): it goes when the last process that holds its descriptor ends, so
nothing stale can ever stand in the way. What the lock file says is only for people.
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
    """Who holds (or last held) a lock: for people to read, never to decide by."""

    pid: int
    command: str
    since: datetime
    host: str

    def to_json(self) -> JsonObject:
        """As the lock file holds it."""
        return {"pid": self.pid, "command": self.command, "since": time_text(self.since), "host": self.host}

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid} on {self.host}, since {time_text(self.since)})"


def read_holder(path: Path) -> Holder | None:
    """What a lock file says of its holder, or None where it says nothing sensible."""
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
    """A lock that is held. `fileno` is its descriptor, for handing to a worker: the lock lasts
    until the last of its holders has closed it."""

    fileno: int


@asynccontextmanager
async def hold(
    path: Path, *, what: str, command: str, wait: float, clock: Clock
) -> AsyncIterator[FolderLock]:
    """Hold the lock at `path`, waiting up to `wait` seconds for it.

    `what` is the thing it guards, for people. Raises Locked naming the holder.
    """
    until = clock.monotonic() + wait
    while (descriptor := _try(path)) is None:
        left = until - clock.monotonic()
        if left <= 0:
            holder = read_holder(path)
            raise Locked(
                f"{what} is locked by {holder if holder is not None else 'another process'}",
                hint="wait for it to end, or give --lock-wait 10m",
            )
        await clock.sleep(min(_POLL_SECONDS, left))
    try:
        _sign(descriptor, Holder(os.getpid(), command, clock.now(), os.uname().nodename))
        yield FolderLock(descriptor)
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        # Closed, never unlocked: a worker that still writes shares the lock and keeps it.
        os.close(descriptor)


@contextmanager
def hold_briefly(path: Path) -> Iterator[None]:
    """Hold the lock at `path` for a moment's work on small files, waiting as long as it takes."""
    while (descriptor := _try(path, block=True)) is None:
        continue
    try:
        yield
    finally:
        os.close(descriptor)


def _try(path: Path, *, block: bool = False) -> int | None:
    """The descriptor of the lock file with the lock on it, or None where it was not to be had."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
        ours, there = os.fstat(descriptor), path.stat(follow_symlinks=False)
        if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
            os.fchmod(descriptor, 0o600)
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # held by another, or the file was removed and made again meanwhile
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _sign(descriptor: int, holder: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, dumps(holder.to_json()), 0)
