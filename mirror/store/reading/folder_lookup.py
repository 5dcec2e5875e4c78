"""Finding the folders that may belong to a uuid, without listing every folder each time."""

from __future__ import annotations

import os
from pathlib import Path

from mirror.store.format import layout
from mirror.store.format.failures import Unreadable

# Changes when an entry is added to a folder or removed.
_Signature = tuple[int, int, int, int]


class FolderLookup:
    """The folders of repositories in the store at `root`, by the digits of the uuid in their names.

    The folder of a workspace is listed again when any process has changed it. A folder that cannot be listed
    is skipped, unless the repository in question may be in it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._signatures: dict[str, _Signature] = {}
        self._unreadable: dict[str, str] = {}  # workspace folder, why
        self._by_digits: dict[str, dict[str, list[str]]] = {}  # workspace folder, digits, names

    def repositories(self, uuid: str) -> list[tuple[str, str]]:
        """The folders (workspace, repository) that may belong to `uuid`, sorted. Raises Unreadable."""
        self._refresh()
        digits = layout.uuid_digits(uuid)
        found = [
            (workspace, name)
            for workspace, by_digits in self._by_digits.items()
            for length in range(8, len(digits) + 1)
            for name in by_digits.get(digits[:length], ())
        ]
        if not found and self._unreadable:
            # The repository may be in one of these: a new folder would be its second one.
            workspace, reason = min(self._unreadable.items())
            raise Unreadable(f"{layout.WORKSPACES}/{workspace}/{layout.REPOSITORIES}", reason)
        return sorted(found)

    def add(self, workspace: str, name: str) -> None:
        """Add a folder that this process made. The caller holds the store's structure lock, and has called
        `repositories` since it took it."""
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
    """The folders in `folder` with a name that the store allows, sorted; none where it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if layout.is_name(entry.name) and entry.is_dir())
    except FileNotFoundError:
        return []


def owned_folders(folder: Path) -> list[str]:
    """The folders of workspaces or repositories in `folder`, sorted. Folders of others (a NAS, a sync tool, a
    person) have other names."""
    return [name for name in folder_names(folder) if layout.is_folder_name(name)]


def foreign_names(folder: Path) -> list[str]:
    """The names in `folder` that are not those of a workspace's or repository's folder, sorted."""
    try:
        with os.scandir(folder) as entries:
            return sorted(one.name for one in entries if not layout.is_folder_name(one.name))
    except FileNotFoundError:
        return []


def _signature(folder: Path) -> _Signature | None:
    """A value that changes with the entries of a folder; None where it does not exist."""
    try:
        state = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_mtime_ns, state.st_ino, state.st_nlink, state.st_size
