"""Reading the snapshots of a folder: the tagged commits of its metadata, and their documents."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from mirror.errors import UsageError
from mirror.git.documents.repository import Documents, tags_of
from mirror.git.failures import GitFailed
from mirror.git.refs import packed_tag_names
from mirror.model import Json, Refs, Snapshot, loads
from mirror.store.format import layout
from mirror.store.format.failures import Malformed, StoreDamaged
from mirror.store.format.ledger import Ledger, read_ledger, read_summary
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
from mirror.store.reading.documents import (
    OpenDocuments,
    damage_in,
    only_snapshots,
    read_snapshot,
    refs_sha256,
)
from mirror.store.reading.hash_usage import HashUsage, HashUsageReader, add_snapshot
from mirror.store.reading.snapshot_selection import At, check_not_hidden, choose, parse_time

T = TypeVar("T")
OnDamage = Callable[[StoreDamaged], None]
# How often something is read again because a writer changed it meanwhile.
_TRIES = 5


@dataclass(frozen=True)
class Overview:
    """A summary of the snapshots of a folder: the newest one, the id of the newest complete one, and their
    number."""

    latest: Snapshot | None
    complete: str | None
    count: int


class SnapshotReader:
    """The snapshots of one folder. Trusts only what a tag reaches, and never writes.

    `file` is the path of the metadata repository in the store. `confirmed` gives, for a snapshot's id, when a
    run last confirmed it.
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
        self._mirror_refs: dict[tuple[str, str], MirrorRefs] = {}  # by mirror and blob

    @property
    def path(self) -> Path:
        """The bare repository that holds the documents."""
        return self._path

    def tags(self) -> dict[str, str]:
        """Snapshot id to commit, in the order of ids; empty before the first snapshot."""
        if not self._path.exists():
            return {}
        with damage_in(self.file):
            tags = tags_of(self._path)
        return only_snapshots(tags)

    def snapshots(self, on_damage: OnDamage | None = None) -> list[Snapshot]:
        """Every snapshot, in the order of sequences.

        A damaged one raises StoreDamaged, or goes to `on_damage` if that is given.
        """
        found, damaged = self._read_all()
        for damage in damaged.values():
            if on_damage is None:
                raise damage
            on_damage(damage)
        return found

    def _listed(self) -> Ledger | None:
        """The folder's ledger, if it lists exactly the tagged snapshots; else None."""
        try:
            ledger = read_ledger(self._root, self.file.rpartition("/")[0])
        except (StoreDamaged, OSError):
            return None  # verify reports it; the snapshots are read instead
        if ledger is None or ledger.latest is None or ledger.kept.keys() != self.tags().keys():
            return None
        return ledger

    def overview(self, on_damage: OnDamage) -> Overview:
        """A summary of the snapshots, from the ledger if that agrees with the tags.

        Else the snapshots are read, and the damage of one goes to `on_damage`.
        """
        summary = read_summary(self._root, self.file.rpartition("/")[0])
        if (
            summary is not None
            and summary.latest is not None
            and summary.kept == packed_tag_names(self._path)
        ):
            return Overview(summary.latest, summary.complete, len(summary.kept))
        ledger = self._listed()
        if ledger is not None:
            kept = list(ledger.kept.values())
            complete = next((one.id for one in reversed(kept) if one.complete), None)
            return Overview(ledger.latest, complete, len(kept))
        taken = self.snapshots(on_damage)
        complete = next((one.id for one in reversed(taken) if one.is_complete), None)
        return Overview(taken[-1] if taken else None, complete, len(taken))

    def latest(self) -> Snapshot | None:
        """The snapshot with the highest sequence, or None."""
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
        # The snapshots are one branch: if its tip is tagged, it is the latest.
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

    def several(self, identifiers: Iterable[str], on_damage: OnDamage) -> dict[str, Snapshot]:
        """The snapshots of these ids that there are, by id. The damage of one goes to `on_damage`."""
        tags, found = self.tags(), {}
        for identifier in identifiers:
            if identifier in tags:
                try:
                    found[identifier] = self._snapshot(identifier, tags[identifier])
                except StoreDamaged as damage:
                    on_damage(damage)
        return found

    def at(self, text: str) -> At:
        """The snapshot that `text` selects: an id, `latest`, or an ISO time.

        A time selects the last snapshot at or before it; a date means the end of that day (UTC). Raises
        UsageError that names the nearest ones, and StoreDamaged.
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
            self._check_never_taken()
            raise UsageError("there is no snapshot yet", hint="take one with mirror backup")
        index = choose(snapshots, wanted)
        chosen = snapshots[index]
        if wanted != chosen.id:
            check_not_hidden(chosen, damaged, None if wanted == "latest" else parse_time(wanted))
        following = snapshots[index + 1] if index + 1 < len(snapshots) else None
        return At(
            snapshot=chosen,
            taken=chosen.time,
            last_confirmed=self._confirmed(chosen.id),
            next_different=None if following is None else following.time,
        )

    def _check_never_taken(self) -> None:
        """Raise StoreDamaged where the folder's ledger lists snapshots, which are gone then."""
        ledger = read_ledger(self._root, self.file.rpartition("/")[0])
        if ledger is not None and ledger.kept:
            raise StoreDamaged(self.file, f"of the {len(ledger.kept)} snapshots in the ledger none is there")

    def _at_listed(self, ledger: Ledger, wanted: str) -> At:
        """As `at`, by the ledger: only the selected snapshot is read."""
        kept = list(ledger.kept.values())
        index = choose(kept, wanted)
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
        """The bytes of the document at `path`, or None."""
        with damage_in(f"{self.file} ({snapshot.id}:{path})"):
            return self._ask(lambda documents: documents.read(snapshot.tree, path))

    def read(self, snapshot: Snapshot, path: str) -> Json | None:
        """The document at `path`, or None."""
        data = self.read_bytes(snapshot, path)
        if data is None:
            return None
        with damage_in(f"{self.file} ({snapshot.id}:{path})"):
            return loads(data)

    def paths(self, snapshot: Snapshot, prefix: str = "") -> list[str]:
        """The paths of a snapshot's documents below the folder `prefix`, sorted."""
        with damage_in(f"{self.file} ({snapshot.id})"):
            return self._ask(lambda documents: list(documents.paths(snapshot.tree, prefix)))

    def names(self, snapshot: Snapshot, folder: str = "") -> dict[str, str]:
        """The entries of one folder of documents: name to object id, by which equal content is known. The
        names of folders end with a slash. Empty where there is no such folder."""
        with damage_in(f"{self.file} ({snapshot.id}:{folder})"):
            return self._ask(partial(_names, tree=snapshot.tree, folder=folder))

    def diff(self, old: Snapshot | None, new: Snapshot | None) -> list[tuple[str, str | None, str | None]]:
        """The documents that differ between two snapshots: path, old and new blob id, sorted by path."""
        with damage_in(self.file):
            before = None if old is None else old.tree
            after = None if new is None else new.tree
            changes = self._ask(lambda documents: list(documents.diff(before, after)))
            return sorted(changes, key=lambda change: change[0])

    def code_refs(self, snapshot: Snapshot) -> tuple[Refs, dict[int, str]] | None:
        """The refs of the code at a snapshot, and the pinned head of each pull request.

        None where the snapshot does not have them (the code was never readable).
        """
        with damage_in(f"{self.file} ({snapshot.id}:{layout.REFS_DOCUMENT})"):
            return refs_from_documents(
                lambda path: self._ask(lambda documents: documents.read(snapshot.tree, path))
            )

    def mirrors(self, snapshot: Snapshot) -> dict[str, MirrorRefs]:
        """The refs of each mirror at a snapshot, by the mirror's name (`code`, `wiki`, …)."""
        found = {}
        for mirror, blob in self._refs_blobs(snapshot).items():
            refs = self._mirror_refs.get((mirror, blob))
            if refs is None:
                with damage_in(f"{self.file} ({snapshot.id}:{refs_document_of(mirror)})"):
                    refs = self._ask(partial(_read_mirror_refs, tree=snapshot.tree, mirror=mirror))
            if refs is not None:
                found[mirror] = refs
                if "/" in mirror:  # snippets: many, which rarely change
                    self._mirror_refs[mirror, blob] = refs
        return found

    def hash_usage(
        self,
        snapshots: Iterable[Snapshot],
        on_damage: Callable[[Snapshot, StoreDamaged], None] | None = None,
    ) -> dict[str, HashUsage]:
        """The hashes that `snapshots` name, by mirror, each with the ids of those snapshots. Mirrors without
        refs in any of them are left out.

        A snapshot with damaged refs raises StoreDamaged, or goes to `on_damage` if that is given.
        """
        readers: dict[str, HashUsageReader] = {}
        for snapshot in snapshots:
            try:
                self._add_usage(readers, snapshot)
            except StoreDamaged as damage:
                if on_damage is None:
                    raise
                on_damage(snapshot, damage)
        found = {mirror: reader.done() for mirror, reader in readers.items()}
        return {mirror: usage for mirror, usage in found.items() if usage.has_refs}

    def _add_usage(self, readers: dict[str, HashUsageReader], snapshot: Snapshot) -> None:
        by_document: dict[str, list[HashUsageReader]] = {}
        blobs = self._refs_blobs(snapshot)
        for mirror in blobs:
            reader = readers.setdefault(mirror, HashUsageReader(mirror))
            by_document.setdefault(refs_document_of(mirror), []).append(reader)
        for path, several in by_document.items():
            add = partial(add_snapshot, readers=several, identifier=snapshot.id, tree=snapshot.tree)
            with damage_in(f"{self.file} ({snapshot.id}:{path})"):
                self._ask(partial(add, blob=blobs[several[0].mirror]))

    def _refs_blobs(self, snapshot: Snapshot) -> dict[str, str]:
        """The mirrors that a snapshot may have refs of, each with the blob of its document."""
        with damage_in(f"{self.file} ({snapshot.id}:{layout.REFS_DOCUMENT})"):
            return self._ask(partial(_refs_blobs, tree=snapshot.tree))

    def lfs(self, snapshot: Snapshot) -> dict[str, tuple[int, bool]] | None:
        """The LFS objects that a snapshot lists: the size, and whether the store has it.

        None where the snapshot was taken without LFS. Raises StoreDamaged.
        """
        if not knows_lfs(snapshot.parts):
            return None
        with damage_in(f"{self.file} ({snapshot.id}:{layout.LFS_DOCUMENTS})"):
            paths = self.paths(snapshot, layout.LFS_DOCUMENTS)
            return lfs_from_documents(
                paths, lambda path: self._ask(lambda documents: documents.read(snapshot.tree, path))
            )

    def refs_sha256(self, snapshot: Snapshot) -> str | None:
        """The sha256 of the snapshot's `refs.json`, or None."""
        with damage_in(f"{self.file} ({snapshot.id}:{layout.REFS_DOCUMENT})"):
            return self._ask(lambda documents: refs_sha256(documents, snapshot.tree))

    def _read_all(self) -> tuple[list[Snapshot], dict[str, StoreDamaged]]:
        """Every intact snapshot, in the order of sequences, and the damage of the others by id.

        Prune and erase move tags before they remove anything: damage counts only if the tags are unchanged.
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
        """The result of `question`, which is called again while a writer merges packs."""
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
                raise Malformed(f"the tag {name} points to the snapshot {snapshot.id}")
        self._known[commit] = snapshot
        return snapshot


def _names(documents: Documents, *, tree: str, folder: str) -> dict[str, str]:
    entry = documents.find(tree, folder)
    if entry is None or not stat.S_ISDIR(entry[0]):
        return {}
    return {
        name.decode("utf-8", "surrogateescape") + ("/" if stat.S_ISDIR(mode) else ""): identifier
        for name, (mode, identifier) in documents.level(entry[1]).items()
    }


def _read_mirror_refs(documents: Documents, *, tree: str, mirror: str) -> MirrorRefs | None:
    return mirror_from_documents(mirror, lambda path: documents.read(tree, path))


def _refs_blobs(documents: Documents, *, tree: str) -> dict[str, str]:
    """The mirrors that a tree may have refs of, each with the blob of its document."""
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
