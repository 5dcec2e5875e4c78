"""The names of files in the trees of many commits, each tree read once."""

from __future__ import annotations

from collections.abc import Callable

from mirror.git.mirrors.paths import AtPath, Entry, at_path, entries_of
from mirror.git.objects import TREE, RawObjects, read

# Deeper folders are left out, and so is the rest of a commit with more files and folders: a few kilobytes of
# nested trees can stand for billions.
DEPTH_MAX = 200
NAMES_MAX = 2_000_000
# So many trees, and so many commits, are remembered.
_REMEMBERED_MAX = 200_000

Matches = Callable[[bytes, int], bool]


class TooManyNames(Exception):
    """A commit has more files and folders than are looked through."""


class FileNames:
    """Finds the paths of commits for which `matches` is true. It gets a path, and how many bytes of that are
    the folder around the name. A commit with more than `most` files and folders (None: NAMES_MAX)
    is refused."""

    def __init__(self, objects: RawObjects, matches: Matches, most: int | None = None) -> None:
        self._objects = objects
        self._matches = matches
        self._most = NAMES_MAX if most is None else most
        self._trees: dict[tuple[str, bytes], tuple[bytes, ...]] = {}
        self._tips: dict[str, tuple[bytes, ...]] = {}
        self._left = 0

    def of(self, tip: str) -> tuple[bytes, ...]:
        """The matching paths of the commit or tag `tip`; those of folders end with a slash.

        Raises TooManyNames, and KeyError or ValueError where an object is missing or damaged.
        """
        known = self._tips.get(tip)
        if known is None:
            top: AtPath = at_path(self._objects, tip, b"")
            self._left = self._most
            known = () if top.content is not None else tuple(self._below(top.entries, b"", 0))
            if len(self._tips) >= _REMEMBERED_MAX:
                self._tips.clear()
            self._tips[tip] = known
        return known

    def _below(self, entries: tuple[Entry, ...], folder: bytes, depth: int) -> list[bytes]:
        found: list[bytes] = []
        self._left -= len(entries)
        if self._left < 0:
            raise TooManyNames
        for one in entries:
            path = folder + one.name
            if self._matches(path, len(folder)):
                found.append(path + (b"/" if one.is_folder else b""))
            if one.is_folder and depth < DEPTH_MAX:
                found += self._in_tree(one.id, path + b"/", depth + 1)
        return found

    def _in_tree(self, tree: str, folder: bytes, depth: int) -> tuple[bytes, ...]:
        known = self._trees.get((tree, folder))
        if known is None:
            kind, content = read(self._objects, tree)
            known = tuple(self._below(entries_of(content), folder, depth)) if kind == TREE else ()
            if len(self._trees) >= _REMEMBERED_MAX:
                self._trees.clear()
            self._trees[tree, folder] = known
        return known
