"""What can be wrong with a store."""

from __future__ import annotations

import shlex
from pathlib import Path

from mirror.errors import DamageFound, MirrorError, NoStore
from mirror.store.format import layout


class StoreDamaged(DamageFound):
    """A file of the store cannot be read for what it should be.

    `file` is its path relative to the store; `problem` says what is wrong, without the path.
    """

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(
            f"{file} is damaged: {problem}",
            hint="run mirror verify to see how far it goes; bring the file back from a copy of the store",
        )
        self.file = file
        self.problem = problem

    def __reduce__(self) -> tuple[type[StoreDamaged], tuple[str, str]]:
        return StoreDamaged, (self.file, self.problem)


class TwoFolders(StoreDamaged):
    """Two folders of the store belong to one uuid: nothing is written to either of them."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(
            first,
            f"{second} is another folder of the same uuid; nothing is written to either: keep the one that"
            " has all snapshots (mirror snapshots WORKSPACE/FOLDER lists them), and move the other out of"
            " the store",
        )
        self.second = second

    def __reduce__(self) -> tuple[type[TwoFolders], tuple[str, str]]:
        return TwoFolders, (self.file, self.second)


class Unreadable(StoreDamaged):
    """The system does not let this user read a file or folder of the store, or cannot read it itself.

    `reason` is the system's own word for it.
    """

    def __init__(self, file: str, reason: str) -> None:
        DamageFound.__init__(
            self,
            f"{file} cannot be read: {reason}",
            hint="run as the user who owns the store; mirror doctor names the files in it that are another's",
        )
        self.file = file
        self.problem = f"it cannot be read: {reason}"
        self.reason = reason

    def __reduce__(self) -> tuple[type[StoreDamaged], tuple[str, str]]:
        return Unreadable, (self.file, self.reason)


class Malformed(ValueError):
    """A JSON value is not of the form that the store writes."""


class StoreTooNew(MirrorError):
    """The store was written by a newer program and needs things that this one does not know."""


def missing_store(path: Path) -> NoStore | StoreDamaged:
    """What is raised where a store is expected at `path` and its own file is not there.

    NoStore where the folder holds nothing of a store (a disk that is not mounted, or a first use);
    StoreDamaged where it holds runs or workspaces.
    """
    for name in (layout.WORKSPACES, layout.RUNS):
        if (path / name).is_dir() and any((path / name).iterdir()):
            return StoreDamaged(layout.STORE_FILE, "it is missing, but the store is not empty")
    return NoStore(
        f"there is no store at {path}",
        hint="if its disk is not mounted, mount it, or name the store with --store; "
        f"for a new store, run: mirror init --store {shlex.quote(str(path))}",
    )
