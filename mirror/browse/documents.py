"""Listing snapshots, showing a document, and comparing two snapshots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from mirror.errors import UsageError
from mirror.extract import GitFile, git_file, read_consistently
from mirror.model import Json, JsonObject, Selector, Snapshot, name_to_json, time_text
from mirror.store.reading.folders import AnyFolder, OnDamage
from mirror.store.reading.reader import At, Store, StoreDamaged, is_own_document, qualified_ref


def folder_of(store: Store, selector: Selector) -> AnyFolder:
    """The folder that a selector matches: a repository's, or a workspace's. Raises UsageError."""
    if selector.repository is not None:
        return store.repository(selector)
    found = store.workspaces([selector])
    if len(found) != 1:
        raise UsageError(f"{selector} matches {len(found)} workspaces, and one is needed")
    return found[0]


def snapshots(path: Path, selector: Selector) -> tuple[str, list[Snapshot]]:
    """The full name of the selected folder, and its snapshots, the oldest first."""
    with Store.open(path) as store:
        folder = folder_of(store, selector)
        return folder.full_name, read_consistently(folder, folder.metadata.snapshots)


@dataclass(frozen=True)
class Kept:
    """The snapshots of one folder in short: their number, the ids of the oldest and the newest, and whether
    the newest is complete. None where there is no snapshot."""

    name: str
    snapshots: int
    first: str | None
    last: str | None
    is_complete: bool | None

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return dict(self.__dict__)


def kept(path: Path, selectors: Sequence[Selector] = ()) -> tuple[list[Kept], list[StoreDamaged]]:
    """What each workspace and repository that `selectors` select (or each) has, by name; and what is damaged.

    Raises NoStore and UsageError.
    """
    damaged: list[StoreDamaged] = []
    found = []
    with Store.open(path) as store:
        homes = [one for one in selectors if one.repository is None]
        folders: list[AnyFolder] = list(store.repositories(selectors, damaged.append))
        if homes or not selectors:
            folders += store.workspaces(homes, damaged.append)
        for folder in folders:
            try:
                found.append(read_consistently(folder, partial(_kept, folder, damaged.append)))
            except StoreDamaged as damage:
                damaged.append(damage)
    return sorted(found, key=lambda one: one.name), damaged


def _kept(folder: AnyFolder, on_damage: OnDamage) -> Kept:
    short, ledger = folder.metadata.overview(on_damage), folder.ledger()
    first = next(iter(ledger.kept if ledger is not None else folder.metadata.tags()), None)
    if short.latest is None:
        return Kept(folder.full_name, short.count, first, None, None)
    return Kept(folder.full_name, short.count, first, short.latest.id, short.latest.is_complete)


@dataclass(frozen=True)
class Shown:
    """A document, or the paths in a folder of documents."""

    name: str
    when: At
    path: str
    document: Json | None
    listing: tuple[str, ...] = ()


def document_path(path: str) -> str:
    """The path of a document from its short form, such as `pull-requests/12`."""
    path = path.strip("/")
    kind, _, number = path.partition("/")
    if re.fullmatch(r"[0-9]{1,18}", number):
        return f"{kind}/{int(number) // 100}/{int(number)}.json"
    return path


def show(path: Path, selector: Selector, document: str, *, at: str = "latest") -> Shown:
    """One document at a snapshot. Raises UsageError where there is none."""
    with Store.open(path) as store:
        folder = folder_of(store, selector)
        return read_consistently(folder, lambda: _shown(folder, document, at))


def show_file(path: Path, selector: Selector, place: str, *, at: str = "latest") -> GitFile:
    """A file of the code or the wiki at a snapshot: `REF:PATH`, see `git_file`."""
    with Store.open(path) as store:
        return git_file(folder_of(store, selector), at, place)


def _shown(folder: AnyFolder, document: str, at: str) -> Shown:
    when = folder.metadata.at(at)
    for candidate in dict.fromkeys(
        (document.strip("/"), document_path(document), f"{document.strip('/')}.json")
    ):
        data = folder.metadata.read(when.snapshot, candidate) if candidate else None
        if data is not None:
            return Shown(folder.full_name, when, candidate, data)
    listing = folder.metadata.paths(when.snapshot, document.strip("/"))
    if not listing:
        raise UsageError(
            f"{folder.full_name} has no {document} in the snapshot {when.snapshot.id}",
            hint="`mirror show SELECTOR /` lists what there is",
        )
    return Shown(folder.full_name, when, document, None, tuple(listing))


@dataclass(frozen=True)
class Change:
    """A document or ref that differs. `fields` are the differing top-level fields of a document."""

    what: str
    kind: str
    old: str | None = None
    new: str | None = None
    fields: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {**self.__dict__, "fields": list(self.fields)}


_OPPOSITE = {"added": "removed", "removed": "added"}


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a snapshot by its id, or `upstream`, and when it was so."""

    snapshot: str
    taken: datetime

    def to_json(self) -> JsonObject:
        """The JSON in results."""
        return {"snapshot": self.snapshot, "taken": time_text(self.taken)}


def side_of(when: At) -> Side:
    """The side that is a snapshot."""
    return Side(when.snapshot.id, when.taken)


@dataclass(frozen=True)
class Difference:
    """The differences of two snapshots, or of one and upstream."""

    name: str
    old: Side
    new: Side
    refs: tuple[Change, ...]
    documents: tuple[Change, ...]

    def reversed(self) -> Difference:
        """The same, seen from the other side."""

        def turned(changes: tuple[Change, ...]) -> tuple[Change, ...]:
            return tuple(
                replace(one, kind=_OPPOSITE.get(one.kind, one.kind), old=one.new, new=one.old)
                for one in changes
            )

        return Difference(self.name, self.new, self.old, turned(self.refs), turned(self.documents))

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "name": self.name,
            "old": self.old.to_json(),
            "new": self.new.to_json(),
            "refs": [change.to_json() for change in self.refs],
            "documents": [change.to_json() for change in self.documents],
        }


def diff(path: Path, selector: Selector, old: str, new: str) -> Difference:
    """Compare two snapshots of one repository or workspace."""
    with Store.open(path) as store:
        folder = folder_of(store, selector)
        return read_consistently(folder, lambda: _difference(folder, old, new))


def _difference(folder: AnyFolder, old: str, new: str) -> Difference:
    before, after = folder.metadata.at(old), folder.metadata.at(new)
    documents = []
    for name, one, two in folder.metadata.diff(before.snapshot, after.snapshot):
        if is_own_document(name):
            continue
        kind = "added" if one is None else "removed" if two is None else "changed"
        fields: tuple[str, ...] = ()
        if kind == "changed":
            fields = fields_of(*(folder.metadata.read(side.snapshot, name) for side in (before, after)))
        documents.append(Change(name, kind, fields=fields))
    refs = changes_of(*(_refs_at(folder, side) for side in (before, after)))
    return Difference(folder.full_name, side_of(before), side_of(after), refs, tuple(documents))


def fields_of(old: Json | None, new: Json | None) -> tuple[str, ...]:
    """The top-level fields in which two documents differ."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return ()
    return tuple(key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key))


def _refs_at(folder: AnyFolder, when: At) -> dict[bytes, str]:
    """The refs of every mirror at a snapshot, by their qualified names."""
    found: dict[bytes, str] = {}
    for mirror, one in folder.metadata.mirrors(when.snapshot).items():
        found |= {qualified_ref(mirror, name): value for name, value in one.refs.refs.items()}
    return found


def changes_of(old: Mapping[bytes, str], new: Mapping[bytes, str]) -> tuple[Change, ...]:
    """The refs that differ, by name."""
    changes = []
    for name in sorted(old.keys() | new.keys()):
        one, two = old.get(name), new.get(name)
        if one != two:
            kind = "added" if one is None else "removed" if two is None else "changed"
            changes.append(Change(name_to_json(name), kind, one, two))
    return tuple(changes)
