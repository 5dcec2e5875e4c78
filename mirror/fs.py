"""Facts about folders that several rooms judge alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

# What the tools that format a disk put into its root. It is root's alone and belongs to no program.
LOST_AND_FOUND = "lost+found"


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
