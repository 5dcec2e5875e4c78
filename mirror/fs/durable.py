"""Durable writing: a file appears whole or not at all, and survives a power failure.

A file is written under a temporary name in the same file system, fsynced and renamed; then its folder is
fsynced. The writer holds a lock (flock) on the temporary file, so `sweep` removes only the files of
writers that are dead.
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
from typing import BinaryIO

from mirror.logs import get_logger

_log = get_logger("fs")
# NAME.0123abcd.tmp; up to version 0.5, in git repositories, NAME.tmp-0123abcd.
_LEFTOVER = re.compile(r"[A-Za-z0-9._~-]+\.(?:[0-9a-f]{8}\.tmp|tmp-[0-9a-f]{8})")
# The errors of file systems that cannot fsync a folder (CIFS, some FUSE ones).
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP})


def sync_folder(folder: Path) -> bool:
    """Fsync the entries of `folder`.

    Returns False where the file system does not support that: it alone decides then when they are on the
    disk. Raises OSError for any other failure.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def sync_file(path: Path) -> None:
    """Fsync the file at `path`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_stream(stream: BinaryIO) -> None:
    """Flush `stream` and fsync its file."""
    stream.flush()
    os.fsync(stream.fileno())


def make_folder(path: Path) -> None:
    """Make the folder `path`, mode 0700, and fsync its parent. A folder that exists stays as it is."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    path.chmod(0o700)  # the umask may have removed bits of the mode
    sync_folder(path.parent)


def make_folders(path: Path, top: Path) -> None:
    """Make `path` and its parents below `top`, as `make_folder` does. `top` must exist."""
    if path != top and not path.is_dir():
        make_folders(path.parent, top)
        make_folder(path)


def make_parents(path: Path) -> None:
    """Make the parents of `path`, with the mode that the umask gives, and fsync each one's parent."""
    parent = path.parent
    if not parent.is_dir():
        make_parents(parent)
        parent.mkdir(exist_ok=True)
        sync_folder(parent.parent)


def create_file(path: Path) -> BinaryIO:
    """Create the file `path`, mode 0600, for reading and writing. Raises FileExistsError."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w+b")


def move(source: Path, target: Path) -> None:
    """Rename `source`, whose content is on the disk already, to `target`, and fsync the target's folder."""
    source.rename(target)
    sync_folder(target.parent)


class AtomicFile:
    """A new file, written under a temporary name in `folder`, that `publish` moves to its place.

    A context manager: leaving it without `publish` discards the file.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.path, descriptor = _create_locked(folder, stem)
        self._stream: BinaryIO = os.fdopen(descriptor, "wb")

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def stream(self) -> BinaryIO:
        """The stream to write to."""
        return self._stream

    def publish(self, target: Path) -> None:
        """Fsync the file and move it to `target`, replacing what is there."""
        sync_stream(self._stream)
        self.path.rename(target)
        self._stream.close()
        sync_folder(target.parent)

    def discard(self) -> None:
        """Remove the file unless it was published."""
        if not self._stream.closed:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a full disk: the buffered rest is not needed
                self._stream.close()


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`, mode 0600, atomically and durably."""
    with AtomicFile(path.parent, path.name) as new:
        new.stream.write(data)
        new.publish(path)


def _create_locked(folder: Path, stem: str) -> tuple[Path, int]:
    """Create a temporary file and lock it; returns its path and descriptor."""
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
        # A sweep removed the file before it was locked: try again.
        os.close(descriptor)


def sweep(folder: Path) -> int:
    """Remove the temporary files of dead writers in `folder`; returns how many.

    Safe at any time: a file whose writer is alive is locked, and stays.
    """
    try:
        paths = [path for path in folder.iterdir() if _LEFTOVER.fullmatch(path.name)]
    except FileNotFoundError:
        return 0
    removed = [path for path in paths if _remove_unlocked(path)]
    for path in removed:
        _log_removed(path)
    return len(removed)


def _remove_unlocked(path: Path) -> bool:
    """Remove the file `path` unless somebody holds its lock; returns whether it was removed."""
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
    """Remove unfinished folders (`*.new`) in `folder`. The caller holds the lock that they are made under."""
    for path in folder.iterdir():
        if path.name.endswith(".new") and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            _log_removed(path)


def _log_removed(path: Path) -> None:
    _log.info("fs.leftover_removed", file=path.name, folder=path.parent.name)
