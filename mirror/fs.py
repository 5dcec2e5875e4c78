"""Facts about folders that several rooms judge alike, and making their entries durable."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

# What the tools that format a disk put into its root. It is root's alone and belongs to no program.
LOST_AND_FOUND = "lost+found"
# What a file system answers that knows no fsync of a folder (CIFS, some of FUSE).
_UNKNOWN_TO_IT = frozenset({errno.EINVAL, errno.ENOTSUP})


def occupant(folder: Path, *, passes: Callable[[str], bool] = lambda _: False) -> str | None:
    """The name of something that stands in `folder`; None where the folder is empty or not there.

    A fresh disk's `lost+found` counts as nothing, and so does each name for which `passes` is true.
    Raises OSError where the folder cannot be read, NotADirectoryError where it is a file.
    """
    try:
        names = sorted(one.name for one in folder.iterdir())
    except FileNotFoundError:
        return None
    return next((name for name in names if name != LOST_AND_FOUND and not passes(name)), None)


def is_empty(folder: Path) -> bool:
    """Whether nothing stands in the way of filling `folder`: it is not there, or `occupant` finds nothing.

    Raises as `occupant` does.
    """
    return occupant(folder) is None


def sync_folder(folder: Path) -> bool:
    """Make the entries of `folder` survive a power failure.

    Returns False where its file system knows no such thing: then it alone decides when they are safe, and
    nothing more can be done here. Raises OSError for any other failure.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNKNOWN_TO_IT:
            raise
        return False
    finally:
        os.close(descriptor)
    return True
