"""In which snapshots something was found: kept while the snapshots of a folder are read in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Key(NamedTuple):
    """What was found: its kind, and what it is, which is unique in its folder."""

    kind: str
    what: str


@dataclass
class Place:
    """Where it stands, as the newest snapshot that has it shows it."""

    excerpt: str
    path: str
    first: str = ""
    last: str = ""
    count: int = 0


class Seen:
    """The hits of a folder."""

    def __init__(self) -> None:
        self._places: dict[Key, Place] = {}
        self._now: dict[str, frozenset[Key]] = {}  # by document or mirror: what it has in this snapshot

    def __len__(self) -> int:
        return len(self._places)

    def replace(self, source: str, found: Mapping[Key, tuple[str, str]]) -> None:
        """From this snapshot on, the document or mirror `source` has these hits (excerpt and path), and no
        others."""
        self._now.pop(source, None)
        if found:
            self._now[source] = frozenset(found)
        for key, (excerpt, path) in found.items():
            place = self._places.setdefault(key, Place(excerpt, path))
            place.excerpt, place.path = excerpt, path

    def end(self, snapshot: str) -> None:
        """All changes of this snapshot are told."""
        for key in frozenset().union(*self._now.values()):
            place = self._places[key]
            place.first, place.last, place.count = place.first or snapshot, snapshot, place.count + 1

    def found(self) -> Iterator[tuple[Key, Place]]:
        """Everything that was found, in the order in which snapshots brought it."""
        yield from self._places.items()
