"""The temporary folder of a drill: room for it, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import MirrorError
from mirror.fs import temporary

_PREFIX = "mirror-drill-"
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
    base = temporary.temporary_base(environment)
    temporary.sweep(base, _PREFIX)
    needed, free = _TIMES * size + _MORE, shutil.disk_usage(base).free
    if free < needed:
        raise NoRoom(
            f"{base} has {free >> 20} MiB free, and this drill needs about {needed >> 20} MiB",
            hint="set TMPDIR to a folder with more room, or drill fewer repositories at a time",
        )
    with temporary.temporary_folder(base, _PREFIX) as folder:
        yield folder


def size_of(folders: Iterable[Path]) -> int:
    """The bytes of all files below some folders."""
    total = 0
    for folder in folders:
        for base, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):  # a writer may remove it
                    total += Path(base, name).lstat().st_size
    return total
