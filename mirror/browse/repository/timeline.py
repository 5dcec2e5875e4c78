"""The snapshots of a folder on a time line, and what changed from each to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from mirror.errors import UsageError
from mirror.model import Snapshot, snapshot_id, snapshot_time
from mirror.store.format.ledger import Removal
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import StoreDamaged, is_own_document, qualified_ref
from mirror.store.reading.snapshot_selection import parse_time

# So many refs of two neighbours are told one by one.
REFS_TOLD_MAX = 20


@dataclass(frozen=True)
class Moment:
    """A snapshot on the time line. `complete` is None where the ledger does not say; `removal` tells that it
    was let go, `damage` why it cannot be read."""

    id: str
    time: datetime
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
        return next((one for one in self.moments if one.id == identifier), None)

    def before(self, identifier: str) -> Moment | None:
        """The kept snapshot before this one, which need not be kept itself."""
        return next((one for one in self.kept if one.id < identifier), None)

    def after(self, identifier: str) -> Moment | None:
        """The kept snapshot after this one."""
        return next((one for one in reversed(self.kept) if one.id > identifier), None)

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


def timeline(folder: AnyFolder) -> Timeline:
    """The time line of a folder, by its tags and its ledger. Raises StoreDamaged where the tags cannot be
    read."""
    tags = folder.metadata.tags()
    found: dict[str, Moment] = {}
    damage = ""
    try:
        ledger = folder.ledger()
    except StoreDamaged as error:
        ledger, damage = None, error.message
    for one in ledger.snapshots if ledger is not None else ():
        lost = f"the tag {one.id} is gone" if one.removal is None and one.id not in tags else ""
        found[one.id] = Moment(one.id, one.time, one.complete, one.confirmed, one.removal, lost)
    for identifier in tags:
        if identifier not in found:
            found[identifier] = Moment(identifier, snapshot_time(identifier))
    return Timeline(tuple(found[one] for one in sorted(found, reverse=True)), damage)


@dataclass(frozen=True)
class RefChange:
    """A ref that changed: `kind` is added, removed or moved."""

    name: bytes
    kind: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Changes:
    """What changed from one snapshot to a later one. `documents` counts those of each kind by how they
    changed; `refs` are the first REFS_TOLD_MAX, `ref_counts` counts all. `damage`: why it is not known."""

    refs: tuple[RefChange, ...] = ()
    ref_counts: dict[str, int] = field(default_factory=dict)
    documents: dict[str, dict[str, int]] = field(default_factory=dict)
    damage: str = ""


def changes(folder: AnyFolder, old: Snapshot | None, new: Snapshot) -> Changes:
    """What changed between two snapshots; with `old` None everything is added. Damage is told in the
    result."""
    try:
        refs = ref_changes(folder, old, new)
        several = document_changes(folder, old, new)
    except StoreDamaged as damage:
        return Changes(damage=damage.message)
    documents: dict[str, dict[str, int]] = {}
    for one in several:
        counts = documents.setdefault(one.path.partition("/")[0].removesuffix(".json"), {})
        counts[one.kind] = counts.get(one.kind, 0) + 1
    return Changes(tuple(refs[:REFS_TOLD_MAX]), dict(Counter(one.kind for one in refs)), documents)


@dataclass(frozen=True)
class DocumentChange:
    """A document that differs: `kind` is added, removed or changed."""

    path: str
    kind: str


def document_changes(folder: AnyFolder, old: Snapshot | None, new: Snapshot) -> list[DocumentChange]:
    """The documents that differ between two snapshots, by path. Raises StoreDamaged."""
    return [
        DocumentChange(path, "added" if before is None else "removed" if after is None else "changed")
        for path, before, after in folder.metadata.diff(old, new)
        if not is_own_document(path)
    ]


def ref_changes(folder: AnyFolder, old: Snapshot | None, new: Snapshot) -> Sequence[RefChange]:
    """The refs that differ between two snapshots, by name; those of the wiki are like `wiki:refs/…`. Raises
    StoreDamaged."""
    before, after = (_refs(folder, one) if one is not None else {} for one in (old, new))
    found = []
    for name in sorted(before.keys() | after.keys()):
        one, two = before.get(name), after.get(name)
        if one != two:
            found.append(
                RefChange(name, "added" if one is None else "removed" if two is None else "moved", one, two)
            )
    return found


def _refs(folder: AnyFolder, snapshot: Snapshot) -> dict[bytes, str]:
    return {
        qualified_ref(mirror, name): value
        for mirror, one in folder.metadata.mirrors(snapshot).items()
        for name, value in one.refs.refs.items()
    }
