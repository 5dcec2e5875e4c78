"""Temporary folders, of which nothing stays: not even what a killed process left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

_LOCK = "lock"


def temporary_base(environment: Mapping[str, str]) -> Path:
    """The folder for temporary files: `$TMPDIR`, else the system's. It may not exist."""
    return Path(environment.get("TMPDIR") or tempfile.gettempdir())


@contextmanager
def temporary_folder(base: Path, prefix: str) -> Iterator[Path]:
    """A new folder below `base` with a lock in it, mode 0700; removed when the block ends.

    Call `sweep` with the same prefix before. Raises OSError where `base` cannot be written.
    """
    folder, lock = _locked_folder(base, prefix)
    try:
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(base: Path, prefix: str) -> tuple[Path, BinaryIO]:
    """A new folder below `base`, with its lock held. Another process that begins now may take one whose lock
    is not held yet for that of a killed one, and remove it: then there is another one."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        with contextlib.suppress(FileNotFoundError), ExitStack() as held:
            lock = held.enter_context((folder / _LOCK).open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat()):
                held.pop_all()
                return folder, lock


def sweep(base: Path, prefix: str) -> None:
    """Remove the folders of processes that were killed: nobody holds their locks."""
    for folder in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("ab") as lock:  # one that was killed at once has no lock yet
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
