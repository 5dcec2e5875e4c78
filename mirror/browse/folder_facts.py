"""What a status needs to know of each folder, read now or remembered until the folder changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mirror.browse.usage import Usage, usage_of
from mirror.store.reading.change_marks import Mark, contents_mark, folder_mark
from mirror.store.reading.folders import AnyFolder, OnDamage
from mirror.store.reading.reader import StoreDamaged
from mirror.store.reading.snapshots import Overview

T = TypeVar("T")
_Marks = tuple[Mark, ...]


class FolderFacts:
    """Reads each folder whenever it is asked."""

    def overview(self, folder: AnyFolder, on_damage: OnDamage) -> Overview:
        """A summary of its snapshots; their damage goes to `on_damage`."""
        return folder.metadata.overview(on_damage)

    def usage(self, folder: AnyFolder) -> Usage:
        """Its bytes."""
        return usage_of(folder.root / folder.place)


class KeptFacts(FolderFacts):
    """Reads each folder again only where its marks changed. What is damaged is read every time."""

    def __init__(self) -> None:
        self._overviews: dict[str, tuple[_Marks, Overview]] = {}
        self._usages: dict[str, tuple[_Marks, Usage]] = {}
        self._asked: set[str] = set()

    def overview(self, folder: AnyFolder, on_damage: OnDamage) -> Overview:
        """As above."""
        damage: list[StoreDamaged] = []
        self._asked.add(folder.place)
        found = _kept(self._overviews, folder, folder_mark, lambda: folder.metadata.overview(damage.append))
        for one in damage:
            self._overviews.pop(folder.place, None)
            on_damage(one)
        return found

    def usage(self, folder: AnyFolder) -> Usage:
        """As above."""
        self._asked.add(folder.place)
        return _kept(self._usages, folder, contents_mark, lambda: usage_of(folder.root / folder.place))

    def usages(self) -> list[Usage]:
        """The usage of every folder that was asked for last."""
        return [usage for _, usage in self._usages.values()]

    def forget_others(self) -> None:
        """Forget the folders that nobody asked for since this was called last."""
        for several in (self._overviews, self._usages):
            for place in several.keys() - self._asked:
                del several[place]
        self._asked.clear()


def _kept(
    known: dict[str, tuple[_Marks, T]],
    folder: AnyFolder,
    marks_of: Callable[[str], _Marks],
    read: Callable[[], T],
) -> T:
    # The marks are taken first: what is written while it is read is read again next time.
    marks = marks_of(str(Path(folder.root, folder.place)))
    before = known.get(folder.place)
    if before is not None and before[0] == marks:
        return before[1]
    found = read()
    known[folder.place] = (marks, found)
    return found
