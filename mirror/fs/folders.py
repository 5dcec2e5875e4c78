"""Which folders count as empty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

# mkfs makes this folder in the root of a file system. It belongs to root and to no program.
LOST_AND_FOUND = "lost+found"


def occupant(folder: Path, *, passes: Callable[[str], bool] = lambda _: False) -> str | None:
    """The first name in `folder`; None where the folder is empty or does not exist.

    `lost+found` does not count, nor does any name for which `passes` is true.
    Raises OSError where the folder cannot be read, NotADirectoryError where it is a file.
    """
    try:
        names = sorted(one.name for one in folder.iterdir())
    except FileNotFoundError:
        return None
    return next((name for name in names if name != LOST_AND_FOUND and not passes(name)), None)


def is_empty(folder: Path) -> bool:
    """Whether `folder` is empty or does not exist, as `occupant` judges it; raises as `occupant` does."""
    return occupant(folder) is None
