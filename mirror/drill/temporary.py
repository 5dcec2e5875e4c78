"""The temporary folder of a drill: room for it, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from mirror.errors import MirrorError

_PREFIX = "mirror-drill-"
_LOCK = "lock"
# The simulated Bitbucket has everything once, and the backup of it once more.
_TIMES = 2
# Beside the copies: indexes, journals, and what else uses the disk meanwhile.
_MORE = 64 << 20


class NoRoom(MirrorError):
    """The temporary folder has too little room for a drill. Nothing was restored."""


@contextmanager
def temporary_folder(environment: Mapping[str, str], size: int) -> Iterator[Path]:
    """A folder below `$TMPDIR` for a drill over `size` bytes of a store; removed when the block ends.

    What a killed drill left there is removed first. Raises NoRoom, and OSError where there is no such folder.
    """
    base = Path(environment.get("TMPDIR") or tempfile.gettempdir())
    _sweep(base)
    needed, free = _TIMES * size + _MORE, shutil.disk_usage(base).free
    if free < needed:
        raise NoRoom(
            f"{base} has {free >> 20} MiB free, and this drill needs about {needed >> 20} MiB",
            hint="set TMPDIR to a folder with more room, or drill fewer repositories at a time",
        )
    folder, lock = _locked_folder(base)
    try:
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(base: Path) -> tuple[Path, BinaryIO]:
    """A new folder below `base`, with its lock held. Another drill that begins now may take one whose lock is
    not held yet for that of a killed drill, and remove it: then there is another one."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        with contextlib.suppress(FileNotFoundError), ExitStack() as held:
            lock = held.enter_context((folder / _LOCK).open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat()):
                held.pop_all()
                return folder, lock


def _sweep(base: Path) -> None:
    """Remove the folders of drills that were killed: nobody holds their locks."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("ab") as lock:  # one that was killed at once has no lock yet
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def size_of(folders: Iterable[Path]) -> int:
    """The bytes of all files below some folders."""
    total = 0
    for folder in folders:
        for base, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):  # a writer may remove it
                    total += Path(base, name).lstat().st_size
    return total
