"""Which folder a name means: the current names first, then those that repositories once had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from mirror.store.format import layout
from mirror.store.reading.folder_lookup import owned_folders
from mirror.store.reading.folders import AnyFolder, RepositoryFolder
from mirror.store.reading.reader import Store, StoreDamaged

# Path, inode, modification time and size of an identity file.
_Version = tuple[int, int, int]


@dataclass(frozen=True)
class Name:
    """A folder and its names. `place` are the names of its folders: the workspace's, and the repository's.

    `words` are those by which each part of the place is known now, `former` its earlier full names. `damage`
    says why the names are not known.
    """

    place: tuple[str, ...]
    full_name: str
    words: tuple[frozenset[str], ...]
    former: frozenset[str] = frozenset()
    is_gone: bool = False
    damage: str = ""

    def is_called(self, parts: tuple[str, ...]) -> bool:
        """Whether these words, in lower case, are its current names."""
        return all(part in words for part, words in zip(parts, self.words, strict=True))


@dataclass(frozen=True)
class Found:
    """What a name means: `names` are the folders that have it. `moved`: the one of them had it earlier."""

    names: tuple[Name, ...]
    moved: bool = False


class Directory:
    """The names in the store at `path`. What did not change is read once; threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._known: dict[tuple[str, ...], tuple[_Version | None, Name]] = {}

    def repositories(self, store: Store) -> list[Name]:
        """Every repository, sorted by folder."""
        places = []
        for workspace in owned_folders(self._path / layout.WORKSPACES):
            base = self._path / layout.WORKSPACES / workspace / layout.REPOSITORIES
            places += [(workspace, name) for name in owned_folders(base)]
        return self._refreshed(places, lambda place: _name(place, lambda: store.repository_at(*place)))

    def workspaces(self, store: Store) -> list[Name]:
        """Every workspace, sorted by folder."""
        places = [(name,) for name in owned_folders(self._path / layout.WORKSPACES)]
        return self._refreshed(places, lambda place: _name(place, lambda: store.workspace_at(*place)))

    def find(self, store: Store, *parts: str) -> Found:
        """What a workspace's name, or those of a workspace and a repository, mean: slugs, folders, uuids."""
        wanted = tuple(part.lower() for part in parts)
        several = self.workspaces(store) if len(wanted) == 1 else self.repositories(store)
        current = tuple(one for one in several if one.is_called(wanted))
        if current:
            return Found(current)
        full_name = "/".join(wanted)
        return Found(tuple(one for one in several if full_name in one.former), moved=True)

    def address(self, store: Store, name: Name) -> str:
        """The shortest name that means only this folder: its full name, or its place."""
        wanted = tuple(name.full_name.lower().split("/"))
        several = self.workspaces(store) if len(name.place) == 1 else self.repositories(store)
        is_alone = len(wanted) == len(name.place) and [one for one in several if one.is_called(wanted)] == [
            name
        ]
        return name.full_name if is_alone else "/".join(name.place)

    def _refreshed(
        self, places: Iterable[tuple[str, ...]], read: Callable[[tuple[str, ...]], Name]
    ) -> list[Name]:
        found = []
        for place in places:
            version = _version(self._path, place)
            with self._lock:
                known = self._known.get(place)
            if known is None or version is None or known[0] != version:
                known = version, read(place)
                with self._lock:
                    self._known[place] = known
            found.append(known[1])
        return found


def _version(path: Path, place: tuple[str, ...]) -> _Version | None:
    """What changes with the identity of a folder; None where that cannot be read."""
    file = (
        layout.WORKSPACE_FILE
        if len(place) == 1
        else f"{layout.REPOSITORIES}/{place[-1]}/{layout.REPOSITORY_FILE}"
    )
    try:
        found = (path / layout.WORKSPACES / place[0] / file).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _name(place: tuple[str, ...], read: Callable[[], AnyFolder]) -> Name:
    try:
        folder = read()
    except StoreDamaged as damage:
        words = tuple(frozenset({one, layout.slug_of(one)}) for one in place)
        full_name = "/".join(layout.slug_of(one) for one in place)
        return Name(place, full_name, words, damage=damage.message)
    former = frozenset(one.name.lower() for one in folder.former_names)
    if isinstance(folder, RepositoryFolder):
        several: tuple[tuple[str, ...], ...] = (
            (folder.workspace_slug, place[0]),
            (folder.slug, place[1], folder.uuid),
        )
        is_gone = folder.gone_since is not None
    else:
        several, is_gone = ((folder.slug, place[0], folder.uuid),), False
    words = tuple(frozenset(one.lower() for one in some) for some in several)
    return Name(place, folder.full_name, words, former, is_gone)


def open_folder(store: Store, name: Name) -> AnyFolder:
    """The folder of a name. Raises StoreDamaged."""
    return store.workspace_at(*name.place) if len(name.place) == 1 else store.repository_at(*name.place)
