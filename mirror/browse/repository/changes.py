"""What changed from a snapshot to a later one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mirror.browse.repository.recent import Recent
from mirror.browse.repository.timeline import Moment
from mirror.model import Snapshot
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import StoreDamaged, is_own_document, qualified_ref

# So many refs of two neighbours are told one by one.
REFS_TOLD_MAX = 20
# So many comparisons are kept in memory; one takes some kilobytes at most.
_KNOWN_MAX = 2_000
# So many refs and documents are listed where two snapshots are compared; so many such lists are kept.
DIFFERENCES_MAX, _DIFFERENCES_KNOWN_MAX = 300, 50
Pair = tuple[Moment | None, Moment]
T = TypeVar("T")


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


class KnownChanges:
    """What changed between snapshots, kept by the trees of both. Threads may share it."""

    def __init__(self) -> None:
        self._known: Recent[tuple[str, str], Changes] = Recent(_KNOWN_MAX)

    def of(self, folder: AnyFolder, pairs: Sequence[Pair]) -> list[Changes]:
        """What changed in each pair. Only what is not known is read. Damage is told in the results."""
        known = {pair: self._get(pair) for pair in pairs}
        new = _read(folder, [pair for pair, found in known.items() if found is None])
        for pair, found in new.items():
            self._put(pair, found)
        return [known[pair] or new[pair] for pair in pairs]

    def _get(self, pair: Pair) -> Changes | None:
        key = _key(pair)
        return self._known.get(key) if key is not None else None

    def _put(self, pair: Pair, found: Changes) -> None:
        key = _key(pair)
        if key is not None and not found.damage:
            self._known.put(key, found)


def _read(folder: AnyFolder, pairs: Sequence[Pair]) -> dict[Pair, Changes]:
    wanted = {one.id for pair in pairs for one in pair if one is not None}
    damages: list[StoreDamaged] = []
    snapshots = folder.metadata.several(sorted(wanted), damages.append) if wanted else {}
    found = {}
    for pair in pairs:
        missing = [one.id for one in pair if one is not None and one.id not in snapshots]
        if missing:
            texts = [one.message for one in damages if any(name in one.message for name in missing)]
            found[pair] = Changes(damage="; ".join(texts) or "it is damaged")
        else:
            before, after = pair
            old = snapshots[before.id] if before is not None else None
            found[pair] = changes(folder, old, snapshots[after.id])
    return found


def _key(pair: Pair) -> tuple[str, str] | None:
    before, after = pair
    if after.tree is None or (before is not None and before.tree is None):
        return None
    return (before.tree or "") if before is not None else "", after.tree


@dataclass(frozen=True)
class Listed(Generic[T]):
    """The first DIFFERENCES_MAX of what changed, and how many there are of each kind."""

    several: tuple[T, ...]
    counts: dict[str, int]


@dataclass(frozen=True)
class Differences:
    """How two snapshots differ."""

    refs: Listed[RefChange]
    documents: Listed[DocumentChange]


class KnownDifferences:
    """The differences that were looked at lately, by the trees of both snapshots. Threads may share it."""

    def __init__(self) -> None:
        self._known: Recent[tuple[str, str], Differences] = Recent(_DIFFERENCES_KNOWN_MAX)

    def of(self, folder: AnyFolder, old: Snapshot, new: Snapshot) -> Differences:
        """What differs between two snapshots. Raises StoreDamaged."""
        found = self._known.get((old.tree, new.tree))
        if found is None:
            refs, documents = ref_changes(folder, old, new), document_changes(folder, old, new)
            found = Differences(
                Listed(tuple(refs[:DIFFERENCES_MAX]), dict(Counter(one.kind for one in refs))),
                Listed(tuple(documents[:DIFFERENCES_MAX]), dict(Counter(one.kind for one in documents))),
            )
            self._known.put((old.tree, new.tree), found)
        return found


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
