"""Writing files that are whole or not there, and sweeping what a killed writer left.

Each file is written beside its place, fsynced and renamed, and its folder fsynced. While it is
being written its writer holds a lock on it, so that a sweep tells a leftover from work in progress
without asking a clock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from mirror.fs import sync_folder
from mirror.logs import get_logger

_log = get_logger("store")
_LEFTOVER = re.compile(r"[A-Za-z0-9._~-]+\.[0-9a-f]{8}\.tmp")


def make_folder(path: Path) -> None:
    """Make the folder `path` for its owner alone, durably; one that is there stays as it is."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    path.chmod(0o700)  # mkdir takes the umask's bits away, whatever they are
    sync_folder(path.parent)


def make_parents(path: Path) -> None:
    """Make the folders above `path`, durably; with the permissions that new folders have here."""
    parent = path.parent
    if not parent.is_dir():
        make_parents(parent)
        parent.mkdir(exist_ok=True)
        sync_folder(parent.parent)


class NewFile:
    """A file on its way: written in `folder` under a name of its own, then published or dropped.

    Leaving it as a context manager without `publish` drops it.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.path, descriptor = _create(folder, stem)
        self._stream: BinaryIO = os.fdopen(descriptor, "wb")

    def __enter__(self) -> NewFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    @property
    def stream(self) -> BinaryIO:
        """Where the bytes go."""
        return self._stream

    def publish(self, target: Path) -> None:
        """Make what was written durable and put it at `target`, in the place of what is there."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.path.rename(target)
        self._stream.close()
        sync_folder(target.parent)

    def drop(self) -> None:
        """Remove it, unless it was published."""
        if not self._stream.closed:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # what is still to be written has no room, and need not
                self._stream.close()


def write_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one durable step, readable by the owner alone."""
    with NewFile(path.parent, path.name) as new:
        new.stream.write(data)
        new.publish(path)


def _create(folder: Path, stem: str) -> tuple[Path, int]:
    """A new file with a lock on it; returns its path and descriptor."""
    while True:
        path = folder / f"{stem}.{secrets.token_hex(4)}.tmp"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
        except BlockingIOError:
            path.unlink(missing_ok=True)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        # A sweep was quicker than our lock: it took the file for a leftover.
        os.close(descriptor)


def sweep(folder: Path) -> int:
    """Remove the leftovers of killed writers in `folder`; returns how many.

    Files whose writer is alive are locked, and stay. Safe at any time, by anybody.
    """
    removed = 0
    try:
        names = [path for path in folder.iterdir() if _LEFTOVER.fullmatch(path.name)]
    except FileNotFoundError:
        return 0
    for path in names:
        if _is_leftover(path):
            removed += 1
            _log.info("store.leftover_removed", file=path.name, folder=folder.name)
    return removed


def _is_leftover(path: Path) -> bool:
    """Whether `path` belonged to nobody, and is now removed."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def sweep_folders(folder: Path) -> None:
    """Remove unfinished folders in `folder`; the caller holds the lock under which they are made."""
    for path in folder.iterdir():
        if path.name.endswith(".new") and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            _log.info("store.leftover_removed", file=path.name, folder=folder.name)
