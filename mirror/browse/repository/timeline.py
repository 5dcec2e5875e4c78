"""The snapshots of a folder on a time line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from mirror.browse.repository.recent import Recent
from mirror.errors import UsageError
from mirror.model import snapshot_id, snapshot_time
from mirror.store.format import layout
from mirror.store.format.ledger import Removal
from mirror.store.reading.change_marks import mark_of
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import StoreDamaged
from mirror.store.reading.snapshot_selection import parse_time

# So many time lines are kept in memory: of a thousand snapshots each takes half a megabyte.
_KNOWN_MAX = 16
# What changes with every snapshot that comes or goes.
_FILES = (layout.LEDGER_FILE, f"{layout.METADATA}/packed-refs", f"{layout.METADATA}/refs/tags")


@dataclass(frozen=True)
class Moment:
    """A snapshot on the time line. `complete` and `tree` are None where the ledger does not say; `sequence`
    is its place then. `removal` tells that it was let go, `damage` why it cannot be read."""

    id: str
    time: datetime
    sequence: int
    tree: str | None = None
    complete: bool | None = None
    confirmed: datetime | None = None
    removal: Removal | None = None
    damage: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether it can be looked at."""
        return self.removal is None and not self.damage


@dataclass(frozen=True)
class Timeline:
    """Every snapshot that is known, the newest first: kept ones, and those that were let go. `damage`: why
    the ledger could not be read, and more may have been let go than is told."""

    moments: tuple[Moment, ...]
    damage: str = ""

    @cached_property
    def kept(self) -> list[Moment]:
        """Those that can be looked at, the newest first."""
        return [one for one in self.moments if one.is_kept]

    @property
    def let_go(self) -> int:
        """How many were let go."""
        return sum(one.removal is not None for one in self.moments)

    def months(self) -> dict[str, int]:
        """The number of kept snapshots by month (`2026-11`), the newest first; months with none are left
        out."""
        return dict(Counter(f"{one.time:%Y-%m}" for one in self.kept))

    def find(self, identifier: str) -> Moment | None:
        """The snapshot of this id, kept or not."""
        place = self._places.get(identifier)
        return None if place is None else self.moments[place]

    def before(self, identifier: str) -> Moment | None:
        """The kept snapshot before this one, which need not be kept itself."""
        return next((one for one in self.kept if one.id < identifier), None)

    def after(self, identifier: str) -> Moment | None:
        """The kept snapshot after this one."""
        return next((one for one in reversed(self.kept) if one.id > identifier), None)

    def let_go_between(self, before: Moment | None, moment: Moment) -> int:
        """How many were let go between two snapshots; before `moment` where `before` is None."""
        end = len(self.moments) if before is None else self._places[before.id]
        between = self.moments[self._places[moment.id] + 1 : end]
        return sum(one.removal is not None for one in between)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {one.id: place for place, one in enumerate(self.moments)}

    def as_of(self, text: str) -> Moment:
        """The last kept snapshot at or before an ISO time; a date means the end of that day. `latest` is the
        newest one. Raises UsageError."""
        kept = self.kept
        if text == "latest" and kept:
            return kept[0]
        when = parse_time(text)
        if when is None:
            raise UsageError(f"{text!r} is not a date", hint="write it like 2026-11-23 or 2026-11-23T02:00")
        wanted = snapshot_id(when)
        found = next((one for one in kept if one.id <= wanted), None)
        if found is None:
            first = f"the first one that is kept is of {kept[-1].time:%Y-%m-%d}" if kept else "there are none"
            raise UsageError(f"No snapshot is as old as {text}", hint=first)
        return found


class Timelines:
    """The time lines that were looked at lately. Threads may share it."""

    def __init__(self) -> None:
        self._known: Recent[tuple[object, ...], Timeline] = Recent(_KNOWN_MAX)

    def of(self, folder: AnyFolder) -> Timeline:
        """The time line of a folder, by its tags and its ledger. Raises StoreDamaged where the tags cannot be
        read."""
        place = f"{folder.root}/{folder.place}"
        mark = (place, *(mark_of(f"{place}/{name}") for name in _FILES))
        known = self._known.get(mark)
        if known is None:
            known = timeline(folder)
            if not known.damage:  # somebody may mend it in place
                self._known.put(mark, known)
        return known


def timeline(folder: AnyFolder) -> Timeline:
    """As `Timelines.of`, read anew."""
    tags = folder.metadata.tags()
    found: dict[str, Moment] = {}
    damage = ""
    try:
        ledger = folder.ledger()
    except StoreDamaged as error:
        ledger, damage = None, error.message
    for one in ledger.snapshots if ledger is not None else ():
        lost = f"the tag {one.id} is gone" if one.removal is None and one.id not in tags else ""
        found[one.id] = Moment(
            one.id, one.time, one.sequence, one.tree, one.complete, one.confirmed, one.removal, lost
        )
    for place, identifier in enumerate(tags, 1):
        if identifier not in found:
            found[identifier] = Moment(identifier, snapshot_time(identifier), place)
    return Timeline(tuple(found[one] for one in sorted(found, reverse=True)), damage)
