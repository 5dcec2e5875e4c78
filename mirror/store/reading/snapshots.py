"""Reading snapshots: the tagged commits of a folder's metadata, and the documents in them."""

from __future__ import annotations

import hashlib
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from mirror.errors import UsageError
from mirror.git.documents.repository import Documents, tags_of
from mirror.git.failures import GitFailed
from mirror.model import Json, Refs, Snapshot, is_snapshot_id, loads, snapshot_id, snapshot_time, time_text
from mirror.store.format import layout
from mirror.store.format.failures import Malformed, StoreDamaged
from mirror.store.format.ledger import Ledger, LedgerEntry, read_ledger
from mirror.store.format.lfs_document import knows_lfs, lfs_from_documents
from mirror.store.format.refs_document import (
    MAIN_MIRROR,
    WIKI_MIRROR,
    MirrorRefs,
    mirror_from_documents,
    refs_document_of,
    refs_from_documents,
    snippet_mirrors,
)
from mirror.store.reading.hash_usage import HashUsage, HashUsageReader, add_snapshot

T = TypeVar("T")
OnDamage = Callable[[StoreDamaged], None]
_OPEN_MAX = 16
# So many times something is read again because a writer changed it meanwhile.
_TRIES = 5


@dataclass(frozen=True)
class At:
    """The snapshot that a text names.

    `taken` is its time; `last_confirmed` when a run last found nothing changed since (None: no run
    record says so); `next_different` when the snapshot after it was taken (None: it is the latest).
    """

    snapshot: Snapshot
    taken: datetime
    last_confirmed: datetime | None
    next_different: datetime | None


@dataclass(frozen=True)
class Overview:
    """The snapshots of a folder at a glance: the newest one, the id of the newest complete one, and how
    many there are."""

    latest: Snapshot | None
    complete: str | None
    count: int


class OpenDocuments:
    """The few metadata repositories that are open at a time, the least recently used closed first.

    A reader of a thousand repositories would otherwise run out of file descriptors.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Documents] = OrderedDict()
        # A reader that nobody closed must not leave memory maps behind.
        weakref.finalize(self, _close_all, self._open)

    def get(self, path: Path) -> Documents:
        """The repository at `path`, opened where it is not open."""
        documents = self._open.pop(path, None)
        if documents is None:
            documents = Documents(path)
        self._open[path] = documents
        while len(self._open) > _OPEN_MAX:
            self._open.popitem(last=False)[1].close()
        return documents

    def close(self) -> None:
        """Close them all."""
        _close_all(self._open)


def _close_all(opened: OrderedDict[Path, Documents]) -> None:
    while opened:
        opened.popitem()[1].close()


@contextmanager
def damage_in(file: str) -> Iterator[None]:
    """Turn what a damaged repository or document raises into StoreDamaged naming `file`."""
    try:
        yield
    except StoreDamaged:
        raise
    except GitFailed as error:
        raise StoreDamaged(file, error.message) from error
    except (ValueError, KeyError, OverflowError) as error:
        raise StoreDamaged(file, str(error) or type(error).__name__) from error


class SnapshotReader:
    """The snapshots of one folder. Trusts only what a tag reaches, and never writes.

    `file` is where the metadata repository stands in the store; `confirmed` tells when a run last
    confirmed a snapshot, by its id.
    """

    def __init__(
        self,
        root: Path,
        file: str,
        opened: OpenDocuments,
        confirmed: Callable[[str], datetime | None] = lambda _: None,
    ) -> None:
        self.file = file
        self._root = root
        self._path = root / file
        self._opened = opened
        self._confirmed = confirmed
        self._known: dict[str, Snapshot] = {}  # by commit
        self._told: dict[tuple[str, str], MirrorRefs] = {}  # by mirror and the blob of the document

    @property
    def path(self) -> Path:
        """The bare repository that holds the documents."""
        return self._path

    def tags(self) -> dict[str, str]:
        """Snapshot id to commit id, in the order of ids; empty where there is no snapshot yet."""
        if not self._path.exists():
            return {}
        with damage_in(self.file):
            tags = tags_of(self._path)
        return _only_snapshots(tags)

    def snapshots(self, on_damage: OnDamage | None = None) -> list[Snapshot]:
        """Every snapshot, by sequence.

        One that cannot be read raises StoreDamaged, or goes to `on_damage` where that is given.
        """
        found, damaged = self._read_all()
        for damage in damaged.values():
            if on_damage is None:
                raise damage
            on_damage(damage)
        return found

    def _listed(self) -> Ledger | None:
        """The folder's ledger, where it lists just the snapshots that have tags; else None."""
        try:
            ledger = read_ledger(self._root, self.file.rpartition("/")[0])
        except (StoreDamaged, OSError):
            return None  # verify tells; the snapshots themselves are read
        if ledger is None or ledger.latest is None or ledger.kept.keys() != self.tags().keys():
            return None
        return ledger

    def overview(self, on_damage: OnDamage) -> Overview:
        """The snapshots at a glance, from the ledger where that agrees with the tags.

        Those that have to be read and cannot be go to `on_damage`.
        """
        ledger = self._listed()
        if ledger is not None:
            kept = list(ledger.kept.values())
            complete = next((one.id for one in reversed(kept) if one.complete), None)
            return Overview(ledger.latest, complete, len(kept))
        taken = self.snapshots(on_damage)
        complete = next((one.id for one in reversed(taken) if one.is_complete), None)
        return Overview(taken[-1] if taken else None, complete, len(taken))

    def latest(self) -> Snapshot | None:
        """The snapshot with the highest sequence, or None where there is none."""
        tags = self.tags()
        for _ in range(_TRIES):
            try:
                return self._latest(tags)
            except StoreDamaged:
                before, tags = tags, self.tags()
                if tags == before:
                    raise
        return self._latest(tags)

    def _latest(self, tags: dict[str, str]) -> Snapshot | None:
        if not tags:
            return None
        # Each snapshot follows the one before on one branch, so where its tip is tagged no other
        # needs to be read.
        with damage_in(self.file):
            tip = self._ask(lambda documents: documents.head(layout.MAIN))
        for name, commit in tags.items():
            if commit == tip:
                return self._snapshot(name, commit)
        return self.snapshots()[-1]

    def get(self, identifier: str) -> Snapshot | None:
        """The snapshot of this id, or None."""
        commit = self.tags().get(identifier)
        return None if commit is None else self._snapshot(identifier, commit)

    def at(self, text: str) -> At:
        """The snapshot that `text` names: an id, `latest`, or an ISO time.

        A time names the last snapshot at or before it; a date alone means the end of that day
        (UTC). Raises UsageError, naming the nearest ones, where there is none.
        """
        wanted = text.strip()
        ledger = self._listed()
        if ledger is not None:
            return self._at_listed(ledger, wanted)
        snapshots, damaged = self._read_all()
        if wanted.upper() in damaged:
            raise damaged[wanted.upper()]
        if not snapshots:
            for damage in damaged.values():
                raise damage
            raise UsageError("there is no snapshot yet", hint="take one with mirror backup")
        index = _choose(snapshots, wanted)
        chosen = snapshots[index]
        if wanted != chosen.id:
            _check_not_hidden(chosen, damaged, None if wanted == "latest" else _time(wanted))
        following = snapshots[index + 1] if index + 1 < len(snapshots) else None
        return At(
            snapshot=chosen,
            taken=chosen.time,
            last_confirmed=self._confirmed(chosen.id),
            next_different=None if following is None else following.time,
        )

    def _at_listed(self, ledger: Ledger, wanted: str) -> At:
        """The snapshot that `wanted` names, of those that the ledger lists; only that one is read."""
        kept = list(ledger.kept.values())
        index = _choose(kept, wanted)
        chosen = self.get(kept[index].id)
        if chosen is None:
            raise StoreDamaged(self.file, f"the tag {kept[index].id} is gone")
        following = kept[index + 1] if index + 1 < len(kept) else None
        return At(
            snapshot=chosen,
            taken=chosen.time,
            last_confirmed=self._confirmed(chosen.id) or kept[index].confirmed,
            next_different=None if following is None else following.time,
        )

    def read_bytes(self, snapshot: Snapshot, path: str) -> bytes | None:
        """The bytes of the document at `path`, or None where the snapshot has none there."""
        with damage_in(f"{self.file} ({snapshot.id}:{path})"):
            return self._ask(lambda documents: documents.read(snapshot.tree, path))

    def read(self, snapshot: Snapshot, path: str) -> Json | None:
        """The document at `path`, or None where the snapshot has none there."""
        data = self.read_bytes(snapshot, path)
        if data is None:
            return None
        with damage_in(f"{self.file} ({snapshot.id}:{path})"):
            return loads(data)

    def paths(self, snapshot: Snapshot, prefix: str = "") -> list[str]:
        """The documents of a snapshot below the folder `prefix`, sorted."""
        with damage_in(f"{self.file} ({snapshot.id})"):
            return self._ask(lambda documents: list(documents.paths(snapshot.tree, prefix)))

    def diff(self, old: Snapshot | None, new: Snapshot | None) -> list[tuple[str, str | None, str | None]]:
        """What differs between two snapshots: path, old blob id, new blob id, sorted by path."""
        with damage_in(self.file):
            before = None if old is None else old.tree
            after = None if new is None else new.tree
            changes = self._ask(lambda documents: list(documents.diff(before, after)))
            return sorted(changes, key=lambda change: change[0])

    def code_refs(self, snapshot: Snapshot) -> tuple[Refs, dict[int, str]] | None:
        """The refs of the code at a snapshot, and the pinned head of each pull request.

        None where the snapshot does not know them (the code was never readable).
        """
        with damage_in(f"{self.file} ({snapshot.id}:{layout.REFS_DOCUMENT})"):
            return refs_from_documents(
                lambda path: self._ask(lambda documents: documents.read(snapshot.tree, path))
            )

    def mirrors(self, snapshot: Snapshot) -> dict[str, MirrorRefs]:
        """What a snapshot says of each mirror that it knows of, by name (`code`, `wiki`, …)."""
        found = {}
        for mirror, blob in self._telling(snapshot).items():
            told = self._told.get((mirror, blob))
            if told is None:
                with damage_in(f"{self.file} ({snapshot.id}:{refs_document_of(mirror)})"):
                    told = self._ask(partial(_told, tree=snapshot.tree, mirror=mirror))
            if told is not None:
                found[mirror] = told
                if "/" in mirror:  # there may be very many, and hardly any changes
                    self._told[mirror, blob] = told
        return found

    def named(
        self,
        snapshots: Iterable[Snapshot],
        on_damage: Callable[[Snapshot, StoreDamaged], None] | None = None,
    ) -> dict[str, HashUsage]:
        """Every hash that `snapshots` name, by mirror, with the ids of those that do. Mirrors of which
        none tells are left out.

        One whose refs cannot be read raises StoreDamaged, or goes to `on_damage` where that is given.
        """
        readers: dict[str, HashUsageReader] = {}
        for snapshot in snapshots:
            try:
                self._name(readers, snapshot)
            except StoreDamaged as damage:
                if on_damage is None:
                    raise
                on_damage(snapshot, damage)
        found = {mirror: reader.done() for mirror, reader in readers.items()}
        return {mirror: named for mirror, named in found.items() if named.is_told}

    def _name(self, readers: dict[str, HashUsageReader], snapshot: Snapshot) -> None:
        by_home: dict[str, list[HashUsageReader]] = {}
        telling = self._telling(snapshot)
        for mirror in telling:
            by_home.setdefault(refs_document_of(mirror), []).append(
                readers.setdefault(mirror, HashUsageReader(mirror))
            )
        for home, several in by_home.items():
            blob = telling[several[0].mirror]
            with damage_in(f"{self.file} ({snapshot.id}:{home})"):
                self._ask(
                    partial(
                        add_snapshot, readers=several, identifier=snapshot.id, tree=snapshot.tree, blob=blob
                    )
                )

    def _telling(self, snapshot: Snapshot) -> dict[str, str]:
        """The mirrors that a snapshot may tell of, each with the blob of the document that does."""
        with damage_in(f"{self.file} ({snapshot.id}:{layout.REFS_DOCUMENT})"):
            return self._ask(partial(_telling, tree=snapshot.tree))

    def lfs(self, snapshot: Snapshot) -> dict[str, tuple[int, bool]] | None:
        """The LFS objects that a snapshot lists: size, and whether each is held.

        None where it lists none because nobody looked. Raises StoreDamaged.
        """
        if not knows_lfs(snapshot.parts):
            return None
        with damage_in(f"{self.file} ({snapshot.id}:{layout.LFS_DOCUMENTS})"):
            paths = self.paths(snapshot, layout.LFS_DOCUMENTS)
            return lfs_from_documents(
                paths, lambda path: self._ask(lambda documents: documents.read(snapshot.tree, path))
            )

    def refs_sha256(self, snapshot: Snapshot) -> str | None:
        """The sha256 of the snapshot's `refs.json`, or None where it has none."""
        with damage_in(f"{self.file} ({snapshot.id}:{layout.REFS_DOCUMENT})"):
            return self._ask(lambda documents: refs_sha256(documents, snapshot.tree))

    def _read_all(self) -> tuple[list[Snapshot], dict[str, StoreDamaged]]:
        """Every snapshot that can be read, by sequence, and what is wrong with the others, by id.

        Prune and erase move tags before anything goes: what seems damaged may be theirs.
        """
        for _ in range(_TRIES):
            tags = self.tags()
            found: list[Snapshot] = []
            damaged: dict[str, StoreDamaged] = {}
            for name, commit in tags.items():
                try:
                    found.append(self._snapshot(name, commit))
                except StoreDamaged as damage:
                    damaged[name] = damage
            if not damaged or self.tags() == tags:
                break
        return sorted(found, key=lambda snapshot: (snapshot.sequence, snapshot.id)), damaged

    def _ask(self, question: Callable[[Documents], T]) -> T:
        """What `question` finds. Asked again as long as a writer has just merged packs beneath us."""
        documents = self._opened.get(self._path)
        packs: frozenset[str] | None = None
        for _ in range(_TRIES):
            try:
                return question(documents)
            except (GitFailed, FileNotFoundError):
                before, packs = packs, documents.packs()
                if packs == before:
                    raise
                documents.refresh()
        return question(documents)

    def _snapshot(self, name: str, commit: str) -> Snapshot:
        known = self._known.get(commit)
        if known is not None and known.id == name:
            return known
        with damage_in(f"{self.file} ({name})"):
            snapshot = self._ask(lambda documents: read_snapshot(documents, commit))
            if snapshot.id != name:
                raise Malformed(f"the tag {name} stands at the snapshot {snapshot.id}")
        self._known[commit] = snapshot
        return snapshot


def _told(documents: Documents, *, tree: str, mirror: str) -> MirrorRefs | None:
    return mirror_from_documents(mirror, lambda path: documents.read(tree, path))


def _telling(documents: Documents, *, tree: str) -> dict[str, str]:
    """The mirrors that the documents of a tree may tell of, each with the blob of the one that does."""
    found: dict[str, str] = {}
    entry = documents.find(tree, layout.REFS_DOCUMENT)
    if entry is not None:
        found = dict.fromkeys((MAIN_MIRROR, WIKI_MIRROR), entry[1])
    folder = f"{layout.REFS_DOCUMENTS}{layout.SNIPPETS}"
    snippets = documents.find(tree, folder)
    for name, (_, blob) in documents.level(snippets[1]).items() if snippets is not None else ():
        for mirror in snippet_mirrors([f"{folder}/{name.decode('utf-8', 'surrogateescape')}"]):
            found[mirror] = blob
    return found


def _only_snapshots(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: tags[name] for name in sorted(tags) if is_snapshot_id(name)}


def snapshot_tags(documents: Documents) -> dict[str, str]:
    """Snapshot id to commit, the oldest first: ids sort as sequences do."""
    return _only_snapshots(documents.tags())


def refs_sha256(documents: Documents, tree: str) -> str | None:
    """The sha256 of `refs.json` in `tree`, or None where there is none."""
    data = documents.read(tree, layout.REFS_DOCUMENT)
    return None if data is None else hashlib.sha256(data).hexdigest()


def read_snapshot(documents: Documents, commit: str) -> Snapshot:
    """The snapshot that a commit holds. Raises GitFailed, ValueError or KeyError where damaged."""
    tree = documents.tree_of(commit)
    data = documents.read(tree, layout.SNAPSHOT_DOCUMENT)
    if data is None:
        raise Malformed(f"the commit {commit} has no {layout.SNAPSHOT_DOCUMENT}")
    content = loads(data)
    try:
        snapshot = Snapshot.from_json(content, tree=tree)
    except (TypeError, AttributeError) as error:
        raise Malformed(f"{layout.SNAPSHOT_DOCUMENT} is not of its form: {error}") from error
    if type(content["sequence"]) is not int:
        raise Malformed(f"{layout.SNAPSHOT_DOCUMENT} has no sequence")
    return snapshot


def _choose(snapshots: Sequence[Snapshot | LedgerEntry], text: str) -> int:
    """The index in `snapshots` (by sequence) of the one that `text` names."""
    if text == "latest":
        return len(snapshots) - 1
    wanted = text.upper()
    if is_snapshot_id(wanted):
        for index, snapshot in enumerate(snapshots):
            if snapshot.id == wanted:
                return index
        raise UsageError(f"there is no snapshot {wanted}", hint=_nearest(snapshots, wanted))
    when = _time(text)
    if when is None:
        raise UsageError(
            f"{text!r} names no snapshot",
            hint="give a snapshot id (20261123T020000Z), an ISO time (2026-11-23T02:00:00Z) or latest",
        )
    for index in reversed(range(len(snapshots))):
        if snapshots[index].time <= when:
            return index
    raise UsageError(
        f"there is no snapshot at or before {time_text(when)}",
        hint=_nearest(snapshots, snapshot_id(when)),
    )


def _check_not_hidden(chosen: Snapshot, damaged: dict[str, StoreDamaged], until: datetime | None) -> None:
    """Raise where a damaged snapshot, and not `chosen`, is the last one at or before `until`.

    An older state must be asked for by its id: it never stands in for a newer one unasked.
    """
    for name in sorted(damaged, reverse=True):
        if name > chosen.id and (until is None or snapshot_time(name) <= until):
            raise damaged[name]


def _time(text: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        # A date without a time: the whole day is meant.
        return when + timedelta(days=1, seconds=-1) if len(text) in (8, 10) and ":" not in text else when
    except (ValueError, OverflowError):
        return None


def _nearest(snapshots: Sequence[Snapshot | LedgerEntry], wanted: str) -> str:
    identifiers = sorted(snapshot.id for snapshot in snapshots)
    place = bisect_right(identifiers, wanted)
    if place == 0:
        return f"the first snapshot is {identifiers[0]}; the latest is {snapshots[-1].id}"
    near = identifiers[max(0, place - 2) : place + 2]
    return f"the nearest are {', '.join(near)}; the latest is {snapshots[-1].id}"
