"""Listing snapshots, showing a document, and comparing two snapshots."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import UsageError
from mirror.extract import read_consistently
from mirror.model import Json, JsonObject, Selector, Snapshot, name_to_json, time_text
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, Store, is_own_document, qualified_ref


def _folder(store: Store, selector: Selector) -> AnyFolder:
    """The folder that a selector matches: a repository's, or a workspace's."""
    if selector.repository is not None:
        return store.repository(selector)
    found = store.workspaces([selector])
    if len(found) != 1:
        raise UsageError(f"{selector} matches {len(found)} workspaces, and one is needed")
    return found[0]


def snapshots(path: Path, selector: Selector) -> tuple[str, list[Snapshot]]:
    """The full name of the selected folder, and its snapshots, the oldest first."""
    with Store.open(path) as store:
        folder = _folder(store, selector)
        return folder.full_name, read_consistently(folder, folder.metadata.snapshots)


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
        folder = _folder(store, selector)
        return read_consistently(folder, lambda: _shown(folder, document, at))


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


@dataclass(frozen=True)
class Difference:
    """The differences of two snapshots."""

    name: str
    old: At
    new: At
    refs: tuple[Change, ...]
    documents: tuple[Change, ...]

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "name": self.name,
            "old": {"snapshot": self.old.snapshot.id, "taken": time_text(self.old.taken)},
            "new": {"snapshot": self.new.snapshot.id, "taken": time_text(self.new.taken)},
            "refs": [change.to_json() for change in self.refs],
            "documents": [change.to_json() for change in self.documents],
        }


def diff(path: Path, selector: Selector, old: str, new: str) -> Difference:
    """Compare two snapshots of one repository or workspace."""
    with Store.open(path) as store:
        folder = _folder(store, selector)
        return read_consistently(folder, lambda: _difference(folder, old, new))


def _difference(folder: AnyFolder, old: str, new: str) -> Difference:
    before, after = folder.metadata.at(old), folder.metadata.at(new)
    documents = []
    for name, one, two in folder.metadata.diff(before.snapshot, after.snapshot):
        if is_own_document(name):
            continue
        kind = "added" if one is None else "removed" if two is None else "changed"
        fields = _fields(folder, before, after, name) if kind == "changed" else ()
        documents.append(Change(name, kind, fields=fields))
    refs = _ref_changes(folder, before, after)
    return Difference(folder.full_name, before, after, refs, tuple(documents))


def _fields(folder: AnyFolder, before: At, after: At, name: str) -> tuple[str, ...]:
    old = folder.metadata.read(before.snapshot, name)
    new = folder.metadata.read(after.snapshot, name)
    if not isinstance(old, dict) or not isinstance(new, dict):
        return ()
    return tuple(key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key))


def _ref_changes(folder: AnyFolder, before: At, after: At) -> tuple[Change, ...]:
    def values(when: At) -> Mapping[bytes, str]:
        found: dict[bytes, str] = {}
        for mirror, one in folder.metadata.mirrors(when.snapshot).items():
            found |= {qualified_ref(mirror, name): value for name, value in one.refs.refs.items()}
        return found

    old, new = values(before), values(after)
    changes = []
    for name in sorted(old.keys() | new.keys()):
        one, two = old.get(name), new.get(name)
        if one != two:
            kind = "added" if one is None else "removed" if two is None else "changed"
            changes.append(Change(name_to_json(name), kind, one, two))
    return tuple(changes)
