"""Every hash that snapshots name in a mirror, and which of the snapshots do.

Snapshots share most of their refs' documents, so each document is read once, however many snapshots
have it: fifty thousand refs in a hundred snapshots cost as much as fifty thousand refs and the changes.
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

    `is_told`: some snapshot tells of refs, if only that there are none.
    """

    def __init__(self) -> None:
        self.is_told = False
        self._ids: list[str] = []
        self._bits: dict[str, int] = {}
        self._told: dict[int, tuple[str, ...]] = {}

    def begin(self, identifier: str) -> int:
        """A further snapshot; returns its bit."""
        self.is_told = True
        self._ids.append(identifier)
        return 1 << len(self._ids) - 1

    def note(self, hashes: Iterable[str], bits: int) -> None:
        """The snapshots of these bits name these hashes."""
        known = self._bits
        for value in hashes:
            known[value] = known.get(value, 0) | bits

    def __getitem__(self, value: str) -> tuple[str, ...]:
        bits = self._bits[value]
        if bits not in self._told:
            self._told[bits] = tuple(one for at, one in enumerate(self._ids) if bits >> at & 1)
        return self._told[bits]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __contains__(self, value: object) -> bool:
        return value in self._bits


@dataclass
class _Document:
    """One document of refs: the hashes that it holds, and a bit for each snapshot that has it."""

    hashes: tuple[str, ...]
    bits: int = 0


@dataclass
class _Home:
    """One document that tells of a mirror: the hashes in it, and its shards, where it has some."""

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
    """Reads what one snapshot after another tells of a mirror, each document once."""

    mirror: str = MAIN_MIRROR
    named: HashUsage = field(default_factory=HashUsage)
    _homes: dict[str, _Home | None] = field(default_factory=dict)
    _shards: dict[str, _Shard] = field(default_factory=dict)
    _documents: dict[str, _Document] = field(default_factory=dict)

    def knows(self, blob: str) -> bool:
        """Whether the document of this blob was read."""
        return blob in self._homes

    def read(self, blob: str, data: bytes) -> None:
        """Read a document that may tell of the mirror. Raises ValueError."""
        self._homes[blob] = _read_home(self.mirror, data)

    def found(self, documents: Documents, tree: str, blob: str) -> dict[str, tuple[str, ...]] | None:
        """The documents of a snapshot that has the document `blob`, with the hashes in each; None where
        it does not tell of the mirror. Raises ValueError, and GitFailed where shards are damaged."""
        home = self._homes[blob]
        if home is None:
            return None
        shards = self._shards_of(documents, tree, home.sharded) if home.sharded is not None else ()
        return {blob: home.hashes, **dict(shards)}

    def note(self, identifier: str, found: dict[str, tuple[str, ...]]) -> None:
        """The snapshot `identifier` has these documents."""
        bit = self.named.begin(identifier)
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
        """What was taken up."""
        for document in self._documents.values():
            self.named.note(document.hashes, document.bits)
        return self.named


def add_snapshot(
    documents: Documents, readers: Iterable[HashUsageReader], identifier: str, tree: str, blob: str
) -> None:
    """Let `readers` take up the snapshot `identifier`, of whose mirrors the one document `blob` tells.

    Raises ValueError, and GitFailed where documents are damaged; nothing is taken up then.
    """
    data: bytes | None = None
    taken = []
    for reader in readers:
        if not reader.knows(blob):
            data = documents.blob(blob) if data is None else data
            reader.read(blob, data)
        found = reader.found(documents, tree, blob)
        if found is not None:
            taken.append((reader, found))
    for reader, found in taken:
        reader.note(identifier, found)


def _read_home(mirror: str, data: bytes) -> _Home | None:
    content, path = mirror_content(mirror, data), refs_document_of(mirror)
    if content is None:
        return None
    head, sharded = head_of(content, path), sharding_of(content, path)
    told = [head.value.decode("ascii", "replace")] if head is not None and head.kind == "detached" else []
    if sharded is None:
        refs, pins = ref_values(mirror, content, path)
        told += [*refs.values(), *pins.values()]
    return _Home(tuple(told), sharded)


def _read_shard(mirror: str, data: bytes, path: str) -> _Shard:
    refs, pins = ref_values(mirror, loads(data), path)
    hashes = (*refs.values(), *pins.values())
    return _Shard(hashlib.sha256(data).hexdigest(), hashes, len(refs), len(pins))
