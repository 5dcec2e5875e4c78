"""Which folders may belong to a uuid, without listing every folder for each question."""

from __future__ import annotations

import os
from pathlib import Path

from mirror.store.format import layout
from mirror.store.format.failures import Unreadable

# What changes when an entry is made in or removed from a folder.
_Signature = tuple[int, int, int, int]


class FolderLookup:
    """The repositories' folders of the store at `root`, by the digits of the uuid in their names.

    A workspace's folder is listed again when it has changed, by whichever process. One that this user may
    not list is passed over, unless what is looked for may be in it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._signatures: dict[str, _Signature] = {}
        self._unreadable: dict[str, str] = {}  # workspace folder, why
        self._by_digits: dict[str, dict[str, list[str]]] = {}  # workspace folder, digits, names

    def repositories(self, uuid: str) -> list[tuple[str, str]]:
        """The folders that may belong to `uuid`, each with its workspace's folder, in the order of names."""
        self._refresh()
        digits = layout.uuid_digits(uuid)
        found = [
            (workspace, name)
            for workspace, by_digits in self._by_digits.items()
            for length in range(8, len(digits) + 1)
            for name in by_digits.get(digits[:length], ())
        ]
        if not found and self._unreadable:
            # One of them may be the repository's: making another would give it two.
            workspace, reason = min(self._unreadable.items())
            raise Unreadable(f"{layout.WORKSPACES}/{workspace}/{layout.REPOSITORIES}", reason)
        return sorted(found)

    def add(self, workspace: str, name: str) -> None:
        """Note a folder that this process has made. The caller holds the lock of the store's structure,
        and has asked for `repositories` since it took it."""
        signature = _signature(self._base(workspace))
        if signature is not None:
            self._add(workspace, name)
            self._signatures[workspace] = signature

    def _refresh(self) -> None:
        workspaces = owned_folders(self._root / layout.WORKSPACES)
        for gone in self._by_digits.keys() - set(workspaces):
            del self._by_digits[gone]
            self._signatures.pop(gone, None)
        self._unreadable = {}
        for workspace in workspaces:
            try:
                self._list(workspace)
            except OSError as error:
                self._unreadable[workspace] = error.strerror or str(error)

    def _list(self, workspace: str) -> None:
        signature = _signature(self._base(workspace))
        if signature is None:
            self._by_digits.pop(workspace, None)
            self._signatures.pop(workspace, None)
        elif self._signatures.get(workspace) != signature:
            self._by_digits[workspace] = {}
            for name in owned_folders(self._base(workspace)):
                self._add(workspace, name)
            self._signatures[workspace] = signature

    def _base(self, workspace: str) -> Path:
        return self._root / layout.WORKSPACES / workspace / layout.REPOSITORIES

    def _add(self, workspace: str, name: str) -> None:
        digits = layout.digits_of(name)
        if digits is not None:
            names = self._by_digits.setdefault(workspace, {}).setdefault(digits, [])
            if name not in names:
                names.append(name)


def folder_names(folder: Path) -> list[str]:
    """The folders in `folder` that may be the store's own, sorted; none where it is not there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if layout.is_name(entry.name) and entry.is_dir())
    except FileNotFoundError:
        return []


def owned_folders(folder: Path) -> list[str]:
    """The workspaces' or repositories' folders in `folder`, sorted. What others left there (a NAS, a sync
    tool, a person) is called otherwise."""
    return [name for name in folder_names(folder) if layout.is_folder_name(name)]


def foreign_names(folder: Path) -> list[str]:
    """What stands in `folder` and is no workspace's or repository's folder by its name, sorted."""
    try:
        with os.scandir(folder) as entries:
            return sorted(one.name for one in entries if not layout.is_folder_name(one.name))
    except FileNotFoundError:
        return []


def _signature(folder: Path) -> _Signature | None:
    """A mark that changes when a folder's entries do; None where it is not there."""
    try:
        state = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_mtime_ns, state.st_ino, state.st_nlink, state.st_size
