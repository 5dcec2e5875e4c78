"""Every hash that snapshots name in the mirror, and which of the snapshots do.

Snapshots share most of their refs' documents, so each document is read once, however many snapshots
have it: fifty thousand refs in a hundred snapshots cost as much as fifty thousand refs and the changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mirror.git.documents import Documents
from mirror.model import JsonObject, loads
from mirror.store import layout
from mirror.store.failures import Malformed
from mirror.store.refs_document import check_count, code_of, files_of, head_of, sharded_of, values_of

_SHARDS = "refs/code"


class Named(Mapping[str, tuple[str, ...]]):
    """Hashes, each with the ids of the snapshots that name it.

    `has_code`: some snapshot tells of refs, if only that there are none.
    """

    def __init__(self) -> None:
        self.has_code = False
        self._ids: list[str] = []
        self._bits: dict[str, int] = {}
        self._told: dict[int, tuple[str, ...]] = {}

    def begin(self, identifier: str) -> int:
        """A further snapshot; returns its bit."""
        self.has_code = True
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
class _Code:
    """One `refs.json`: the hashes in it, and its shards, where it has some."""

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
class NamedReader:
    """Reads the refs' documents of one snapshot after another, each document once."""

    named: Named = field(default_factory=Named)
    _codes: dict[str, _Code] = field(default_factory=dict)
    _shards: dict[str, _Shard] = field(default_factory=dict)
    _documents: dict[str, _Document] = field(default_factory=dict)

    def add(self, documents: Documents, identifier: str, tree: str) -> None:
        """Take up the snapshot `identifier`. Raises ValueError, and GitFailed where its documents are
        damaged; nothing is taken up then."""
        entry = documents.find(tree, layout.REFS_DOCUMENT)
        if entry is None:
            return
        blob = entry[1]
        code = self._codes.get(blob)
        if code is None:
            code = self._codes[blob] = _read_code(documents.blob(blob))
        found = {blob: code.hashes}
        if code.sharded is not None:
            found.update(self._shards_of(documents, tree, code.sharded))
        bit = self.named.begin(identifier)
        for name, hashes in found.items():
            self._documents.setdefault(name, _Document(hashes)).bits |= bit

    def _shards_of(
        self, documents: Documents, tree: str, sharded: JsonObject
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        folder = documents.find(tree, _SHARDS)
        level = documents.level(folder[1]) if folder is not None else {}
        refs = pins = 0
        for path, digest in files_of(sharded).items():
            parent, _, name = path.rpartition("/")
            entry = level.get(name.encode("utf-8")) if parent == _SHARDS else None
            if entry is None:
                raise Malformed(f"{path} is missing")
            shard = self._shards.get(entry[1])
            if shard is None:
                shard = self._shards[entry[1]] = _read_shard(documents.blob(entry[1]), path)
            if shard.digest != digest:
                raise Malformed(f"{path} is not the one that refs.json names")
            refs, pins = refs + shard.refs, pins + shard.pins
            yield entry[1], shard.hashes
        check_count(sharded, refs, pins)

    def done(self) -> Named:
        """What was taken up."""
        for document in self._documents.values():
            self.named.note(document.hashes, document.bits)
        return self.named


def _read_code(data: bytes) -> _Code:
    code = code_of(data)
    head, sharded = head_of(code), sharded_of(code)
    told = [head.value.decode("ascii", "replace")] if head is not None and head.kind == "detached" else []
    if sharded is None:
        refs, pins = values_of(code, layout.REFS_DOCUMENT)
        told += [*refs.values(), *pins.values()]
    return _Code(tuple(told), sharded)


def _read_shard(data: bytes, path: str) -> _Shard:
    refs, pins = values_of(loads(data), path)
    hashes = (*refs.values(), *pins.values())
    return _Shard(hashlib.sha256(data).hexdigest(), hashes, len(refs), len(pins))
