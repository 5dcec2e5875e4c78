"""Errors of a store."""

from __future__ import annotations

import shlex
from pathlib import Path

from mirror.errors import DamageFound, MirrorError, NoStore
from mirror.store.format import layout


class StoreDamaged(DamageFound):
    """A file of the store is damaged.

    `file` is its path relative to the store; `problem` says what is wrong, without the path.
    """

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(
            f"{file} is damaged: {problem}",
            hint="run mirror verify to find all damage; restore the file from a copy of the store",
        )
        self.file = file
        self.problem = problem

    def __reduce__(self) -> tuple[type[StoreDamaged], tuple[str, str]]:
        return StoreDamaged, (self.file, self.problem)


class TwoFolders(StoreDamaged):
    """Two folders of the store have the same uuid; nothing is written to either."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(
            first,
            f"{second} has the same uuid; nothing is written to either: keep the one that has all snapshots"
            " (mirror snapshots WORKSPACE/FOLDER lists them), and move the other out of the store",
        )
        self.second = second

    def __reduce__(self) -> tuple[type[TwoFolders], tuple[str, str]]:
        return TwoFolders, (self.file, self.second)


class Unreadable(StoreDamaged):
    """A file or folder of the store cannot be read. `reason` is the operating system's error text."""

    def __init__(self, file: str, reason: str) -> None:
        DamageFound.__init__(
            self,
            f"{file} cannot be read: {reason}",
            hint="run as the user who owns the store; mirror doctor lists files of other users",
        )
        self.file = file
        self.problem = f"it cannot be read: {reason}"
        self.reason = reason

    def __reduce__(self) -> tuple[type[StoreDamaged], tuple[str, str]]:
        return Unreadable, (self.file, self.reason)


class Malformed(ValueError):
    """A JSON value does not have the form that the store writes."""


class StoreTooNew(MirrorError):
    """A newer version wrote the store and uses features that this version does not know."""


def missing_store(path: Path) -> NoStore | StoreDamaged:
    """The error for a missing `store.json` at `path`.

    StoreDamaged where the folder holds runs or workspaces; else NoStore: a disk is not mounted, or there is
    no store yet.
    """
    for name in (layout.WORKSPACES, layout.RUNS):
        if (path / name).is_dir() and any((path / name).iterdir()):
            return StoreDamaged(layout.STORE_FILE, "it is missing, but the store is not empty")
    return NoStore(
        f"there is no store at {path}",
        hint="mount the disk of the store, or name the store with --store; "
        f"for a new store, run: mirror init --store {shlex.quote(str(path))}",
    )
