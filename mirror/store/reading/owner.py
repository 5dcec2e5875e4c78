"""The owner of the files of a store."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirror.fs.folders import LOST_AND_FOUND
from mirror.store.format import layout


@dataclass(frozen=True)
class Owner:
    """A user and a group, by number."""

    uid: int
    gid: int

    @property
    def user(self) -> str:
        """The user's name, or the number where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def group(self) -> str:
        """The group's name, or the number where it has none."""
        try:
            return grp.getgrgid(self.gid).gr_name
        except KeyError:
            return str(self.gid)

    @property
    def groups(self) -> list[int]:
        """The groups of the user."""
        try:
            return os.getgrouplist(pwd.getpwuid(self.uid).pw_name, self.gid)
        except KeyError:
            return [self.gid]


def owner_of(path: Path) -> Owner | None:
    """The owner of `store.json`; None where there is no store at `path`."""
    try:
        state = (path / layout.STORE_FILE).stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    return Owner(state.st_uid, state.st_gid)


def foreign(path: Path, owner: Owner) -> Iterator[tuple[str, Owner | None]]:
    """The files and folders of the store at `path` that are not `owner`'s, each with its owner; None for a
    folder that cannot be listed."""
    refused: list[str] = []
    for folder, folders, files in os.walk(path, onerror=lambda error: refused.append(str(error.filename))):
        for name in (*folders, *files):
            place = os.path.join(folder, name)  # noqa: PTH118 - there may be millions
            try:
                state = os.lstat(place)
            except FileNotFoundError:  # a writer removed it
                continue
            if state.st_uid != owner.uid and name != LOST_AND_FOUND:
                yield os.path.relpath(place, path), Owner(state.st_uid, state.st_gid)
    for place in refused:
        if os.path.basename(place) != LOST_AND_FOUND:  # noqa: PTH119
            yield os.path.relpath(place, path), None
