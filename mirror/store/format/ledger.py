"""The ledger of a folder: every snapshot that was taken, kept or removed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mirror.model import JsonObject, Snapshot, is_snapshot_id, loads, time_from_text, time_text
from mirror.store.format import layout
from mirror.store.format.failures import Malformed, Unreadable
from mirror.store.format.seal import has_valid_seal
from mirror.store.format.small_files import parse_small_file


@dataclass(frozen=True)
class Removal:
    """When a snapshot was removed, by which run, and why (`retention` or `erased`)."""

    at: datetime
    run: str
    why: str

    def to_json(self) -> JsonObject:
        """The JSON in the ledger."""
        return {"at": time_text(self.at), "run": self.run, "why": self.why}

    @classmethod
    def from_json(cls, data: JsonObject) -> Removal:
        """Read what `to_json` wrote."""
        return cls(time_from_text(data["at"]), str(data["run"]), str(data["why"]))


@dataclass(frozen=True)
class LedgerEntry:
    """One snapshot in the ledger.

    `complete`: every part is settled. `confirmed`: when a run last found nothing changed since; noted once
    the next snapshot is taken. `removal` is None while the snapshot is kept.
    """

    id: str
    sequence: int
    time: datetime
    tree: str
    refs_sha256: str | None
    complete: bool
    confirmed: datetime | None = None
    removal: Removal | None = None

    @classmethod
    def of(cls, snapshot: Snapshot, refs_sha256: str | None) -> LedgerEntry:
        """The entry of a new snapshot."""
        return cls(
            snapshot.id, snapshot.sequence, snapshot.time, snapshot.tree, refs_sha256, snapshot.is_complete
        )

    def to_json(self) -> JsonObject:
        """The JSON in the ledger."""
        return {
            "id": self.id,
            "sequence": self.sequence,
            "time": time_text(self.time),
            "tree": self.tree,
            "refs_sha256": self.refs_sha256,
            "complete": self.complete,
            "confirmed": None if self.confirmed is None else time_text(self.confirmed),
            "let_go": None if self.removal is None else self.removal.to_json(),
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> LedgerEntry:
        """Read what `to_json` wrote."""
        confirmed, removal = data["confirmed"], data["let_go"]
        if not is_snapshot_id(data["id"]) or type(data["sequence"]) is not int:
            raise Malformed(f"a snapshot is listed as {data['id']!r} with the sequence {data['sequence']!r}")
        return cls(
            data["id"], data["sequence"], time_from_text(data["time"]), str(data["tree"]),
            data["refs_sha256"], bool(data["complete"]),
            None if confirmed is None else time_from_text(confirmed),
            None if removal is None else Removal.from_json(removal),
        )  # fmt: skip


@dataclass(frozen=True)
class Ledger:
    """A folder's ledger.

    `snapshots` are in the order of their sequence. From `listed_from` on every sequence is listed, before it
    only kept snapshots are. `latest` is the newest kept snapshot. `previous` holds the sha256 of earlier
    versions of the file, the newest last; `sha256` is that of the file itself.
    """

    snapshots: tuple[LedgerEntry, ...] = ()
    listed_from: int = 1
    latest: Snapshot | None = None
    previous: tuple[str, ...] = ()
    sha256: str | None = None

    @property
    def kept(self) -> dict[str, LedgerEntry]:
        """The kept snapshots by id, in the order of their sequence."""
        return {one.id: one for one in self.snapshots if one.removal is None}

    @property
    def gaps(self) -> list[int]:
        """The missing sequences after `listed_from`."""
        there = {one.sequence for one in self.snapshots}
        return [number for number in range(self.listed_from, max(there, default=0)) if number not in there]

    def follows(self, sha256: str | None) -> bool:
        """Whether this is the ledger with that sha256, or a later version of it; True for None."""
        return sha256 is None or sha256 == self.sha256 or sha256 in self.previous

    def to_json(self) -> JsonObject:
        """The content of the file, without its seal."""
        latest = None
        if self.latest is not None:
            latest = {"snapshot": self.latest.to_json(), "tree": self.latest.tree}
        return {
            "schema": 1,
            "listed_from": self.listed_from,
            "latest": latest,
            "previous": list(self.previous),
            "snapshots": [one.to_json() for one in self.snapshots],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Ledger:
        """Read what `to_json` wrote."""
        latest = data["latest"]
        return cls(
            tuple(LedgerEntry.from_json(one) for one in data["snapshots"]),
            int(data["listed_from"]),
            None if latest is None else Snapshot.from_json(latest["snapshot"], tree=latest["tree"]),
            tuple(str(one) for one in data["previous"]),
        )


def read_ledger(root: Path, place: str) -> Ledger | None:
    """The ledger of the folder `place`, or None. Raises StoreDamaged."""
    file = f"{place}/{layout.LEDGER_FILE}"
    try:
        data = (root / file).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(file, error.strerror or str(error)) from error
    digest = hashlib.sha256(data).hexdigest()
    return replace(parse_small_file(data, file, Ledger.from_json), sha256=digest)


@dataclass(frozen=True)
class LedgerSummary:
    """What a ledger says in short: the newest kept snapshot, the id of the newest complete one, and the ids
    of all that are kept."""

    latest: Snapshot | None
    complete: str | None
    kept: frozenset[str]


# An entry as `sealed` writes it. Its keys are sorted.
_ENTRY = re.compile(
    rb'\n    \{\n      "complete": (true|false),\n      "confirmed": (?:null|"[^"\n]*"),\n'
    rb'      "id": "([0-9TZ]+)",\n      "let_go": (null|\{)'
)
_LATEST = b'{\n  "latest": '


def read_summary(root: Path, place: str) -> LedgerSummary | None:
    """The summary of a ledger, many times faster than `read_ledger`; None where that must be asked.

    The seal vouches that the file is what a writer wrote, so its entries are found without parsing it.
    """
    try:
        data = (root / place / layout.LEDGER_FILE).read_bytes()
    except OSError:
        return None
    if not data.startswith(_LATEST) or not has_valid_seal(data):
        return None
    entries = _ENTRY.findall(data)
    # A text in JSON holds no line break, so these are found where keys are only.
    if not entries or len(entries) != data.count(b'\n      "sequence": ', data.find(b'\n  "snapshots": [')):
        return None  # another form
    try:
        latest = _latest_of(data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    kept = [one for one in entries if one[2] == b"null"]
    complete = next((one[1].decode() for one in reversed(kept) if one[0] == b"true"), None)
    names = b" ".join([identifier for _, identifier, _ in kept]).decode()
    return LedgerSummary(latest, complete, frozenset(names.split()))


def _latest_of(data: bytes) -> Snapshot | None:
    """The newest snapshot, which a sealed ledger begins with."""
    end = data.index(b',\n  "listed_from": ')
    latest = loads(data[len(_LATEST) : end] + b"\n")
    return None if latest is None else Snapshot.from_json(latest["snapshot"], tree=latest["tree"])
