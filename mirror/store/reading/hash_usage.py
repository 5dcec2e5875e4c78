"""The hashes that snapshots name in a mirror, and which snapshots name each.

Snapshots share most documents of refs, and each document is read once: fifty thousand refs in a hundred
snapshots cost as much as fifty thousand refs and the changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mirror.git.documents.repository import Documents
from mirror.model import JsonObject, loads
from mirror.store.format.failures import Malformed
from mirror.store.format.refs_document import (
    MAIN_MIRROR,
    check_count,
    head_of,
    mirror_content,
    ref_values,
    refs_document_of,
    shard_digests,
    shard_folder_of,
    sharding_of,
)


class HashUsage(Mapping[str, tuple[str, ...]]):
    """Hashes, each with the ids of the snapshots that name it.

    `has_refs`: at least one snapshot holds refs of the mirror, if only an empty list.
    """

    def __init__(self) -> None:
        self.has_refs = False
        self._ids: list[str] = []
        self._bits: dict[str, int] = {}
        self._names: dict[int, tuple[str, ...]] = {}

    def begin(self, identifier: str) -> int:
        """Add a snapshot; returns its bit."""
        self.has_refs = True
        self._ids.append(identifier)
        return 1 << len(self._ids) - 1

    def note(self, hashes: Iterable[str], bits: int) -> None:
        """Note that the snapshots with these bits name these hashes."""
        known = self._bits
        for value in hashes:
            known[value] = known.get(value, 0) | bits

    def __getitem__(self, value: str) -> tuple[str, ...]:
        bits = self._bits[value]
        if bits not in self._names:
            self._names[bits] = tuple(one for at, one in enumerate(self._ids) if bits >> at & 1)
        return self._names[bits]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __contains__(self, value: object) -> bool:
        return value in self._bits


@dataclass
class _Document:
    """The hashes in one document, and a bit for each snapshot that has it."""

    hashes: tuple[str, ...]
    bits: int = 0


@dataclass
class _RefsDocument:
    """The document of a mirror: its hashes, and the description of its shards, if any."""

    hashes: tuple[str, ...]
    sharded: JsonObject | None


@dataclass
class _Shard:
    """One shard: its sha256, the hashes in it, and how many refs and pull requests it has."""

    digest: str
    hashes: tuple[str, ...]
    refs: int
    pins: int


@dataclass
class HashUsageReader:
    """Reads the refs of a mirror from one snapshot after another, each document once."""

    mirror: str = MAIN_MIRROR
    usage: HashUsage = field(default_factory=HashUsage)
    _refs_documents: dict[str, _RefsDocument | None] = field(default_factory=dict)
    _shards: dict[str, _Shard] = field(default_factory=dict)
    _documents: dict[str, _Document] = field(default_factory=dict)

    def knows(self, blob: str) -> bool:
        """Whether the document of this blob was read."""
        return blob in self._refs_documents

    def read(self, blob: str, data: bytes) -> None:
        """Read a document that may hold refs of the mirror. Raises ValueError."""
        self._refs_documents[blob] = _read_refs_document(self.mirror, data)

    def documents_of(self, documents: Documents, tree: str, blob: str) -> dict[str, tuple[str, ...]] | None:
        """The hashes in each document of the snapshot with the document `blob`; None where it has no refs of
        the mirror. Raises ValueError, and GitFailed where shards are damaged."""
        document = self._refs_documents[blob]
        if document is None:
            return None
        shards = self._shards_of(documents, tree, document.sharded) if document.sharded is not None else ()
        return {blob: document.hashes, **dict(shards)}

    def note(self, identifier: str, found: dict[str, tuple[str, ...]]) -> None:
        """Note that the snapshot `identifier` has these documents."""
        bit = self.usage.begin(identifier)
        for name, hashes in found.items():
            self._documents.setdefault(name, _Document(hashes)).bits |= bit

    def _shards_of(
        self, documents: Documents, tree: str, sharded: JsonObject
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        path, place = refs_document_of(self.mirror), shard_folder_of(self.mirror)
        folder = documents.find(tree, place)
        level = documents.level(folder[1]) if folder is not None else {}
        refs = pins = 0
        for file, digest in shard_digests(sharded, path).items():
            parent, _, name = file.rpartition("/")
            entry = level.get(name.encode("utf-8")) if parent == place else None
            if entry is None:
                raise Malformed(f"{file} is missing")
            shard = self._shards.get(entry[1])
            if shard is None:
                shard = self._shards[entry[1]] = _read_shard(self.mirror, documents.blob(entry[1]), file)
            if shard.digest != digest:
                raise Malformed(f"{file} is not the one that {path} names")
            refs, pins = refs + shard.refs, pins + shard.pins
            yield entry[1], shard.hashes
        check_count(self.mirror, sharded, refs, pins)

    def done(self) -> HashUsage:
        """The usage in all snapshots that were added."""
        for document in self._documents.values():
            self.usage.note(document.hashes, document.bits)
        return self.usage


def add_snapshot(
    documents: Documents, readers: Iterable[HashUsageReader], identifier: str, tree: str, blob: str
) -> None:
    """Add the snapshot `identifier`, whose document `blob` holds the refs of the mirrors of `readers`.

    Raises ValueError, and GitFailed where documents are damaged; then nothing is added.
    """
    data: bytes | None = None
    added = []
    for reader in readers:
        if not reader.knows(blob):
            data = documents.blob(blob) if data is None else data
            reader.read(blob, data)
        found = reader.documents_of(documents, tree, blob)
        if found is not None:
            added.append((reader, found))
    for reader, found in added:
        reader.note(identifier, found)


def _read_refs_document(mirror: str, data: bytes) -> _RefsDocument | None:
    content, path = mirror_content(mirror, data), refs_document_of(mirror)
    if content is None:
        return None
    head, sharded = head_of(content, path), sharding_of(content, path)
    hashes = [head.value.decode("ascii", "replace")] if head is not None and head.kind == "detached" else []
    if sharded is None:
        refs, pins = ref_values(mirror, content, path)
        hashes += [*refs.values(), *pins.values()]
    return _RefsDocument(tuple(hashes), sharded)


def _read_shard(mirror: str, data: bytes, path: str) -> _Shard:
    refs, pins = ref_values(mirror, loads(data), path)
    hashes = (*refs.values(), *pins.values())
    return _Shard(hashlib.sha256(data).hexdigest(), hashes, len(refs), len(pins))
