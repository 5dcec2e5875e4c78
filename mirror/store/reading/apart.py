"""The folders of a store without those of some workspaces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from mirror.errors import UsageError
from mirror.model import Selector
from mirror.store.format.failures import StoreDamaged
from mirror.store.reading.folders import RepositoryFolder, WorkspaceFolder, current_workspace
from mirror.store.reading.reader import Store

F = TypeVar("F", RepositoryFolder, WorkspaceFolder)


def apart(store: Store, folders: Sequence[F], workspaces: Iterable[str]) -> list[F]:
    """Those of `folders` that do not belong to `workspaces`, which are named as in a selector. A name that
    means nothing in this store leaves all."""
    left_out: set[str] = set()
    for name in workspaces:
        with contextlib.suppress(UsageError):
            left_out |= {one.folder for one in store.workspaces([Selector(name)], _ignore)}
    every = store.workspaces(on_damage=_ignore)

    def home(folder: F) -> str:
        if isinstance(folder, WorkspaceFolder):
            return folder.folder
        found = current_workspace(folder, every)
        return folder.workspace_folder if found is None else found.folder

    return [one for one in folders if home(one) not in left_out]


def _ignore(damage: StoreDamaged) -> None:
    """A damaged folder is reported by who reads it."""
