"""Snapshots: the state of a repository or workspace at one time, as a run stored it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mirror.model.canonical import JsonObject

_ID = re.compile(r"\d{8}T\d{6}Z")


def snapshot_id(when: datetime) -> str:
    """The id of a snapshot begun at `when`: the UTC second."""
    return when.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def is_snapshot_id(text: str) -> bool:
    """Whether `text` has the form of a snapshot id."""
    return _ID.fullmatch(text) is not None


def snapshot_time(identifier: str) -> datetime:
    """The time in a snapshot id."""
    return datetime.strptime(identifier, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def time_text(when: datetime) -> str:
    """A time as documents and records have it: UTC, ISO 8601 to the second, with a `Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_from_text(text: str) -> datetime:
    """Parse a time in ISO 8601; UTC where it has no offset. Raises ValueError."""
    when = datetime.fromisoformat(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


class PartState(StrEnum):
    """How much of a part a snapshot has. Unknown is never recorded as "none"."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    DENIED = "denied"  # the credential lacks a scope or a permission
    GONE = "gone"  # Bitbucket no longer has it; the last good copy is kept
    UNAVAILABLE = "unavailable"  # this kind of credential can never read it
    SKIPPED = "skipped"  # switched off in the configuration


@dataclass(frozen=True)
class Part:
    """One part (`code`, `pull_requests`, …) of one snapshot.

    `counts` are of stored items (`{"pull_requests": 12, "comments": 40}`); `reason` says, for people, why the
    part is not complete; `scope` is the missing scope where access was denied.
    """

    state: PartState
    counts: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None
    scope: str | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is missing that the credential could read."""
        return self.state in (
            PartState.COMPLETE,
            PartState.GONE,
            PartState.UNAVAILABLE,
            PartState.SKIPPED,
        )

    @property
    def summary(self) -> str | None:
        """What is missing and why, for people; None where the part is complete or switched off."""
        if self.state is PartState.SKIPPED or (self.state is PartState.COMPLETE and not self.reason):
            return None
        if self.state is PartState.COMPLETE:
            return self.reason
        prefix, reason = f"{self.state}: ", self.reason or ""
        text = (reason if reason.startswith(prefix) else prefix + reason) if reason else str(self.state)
        return f"{text} (scope {self.scope})" if self.scope and self.scope not in text else text

    def to_json(self) -> JsonObject:
        """The JSON in `snapshot.json`."""
        data: dict[str, Any] = {"state": str(self.state), "counts": dict(self.counts)}
        if self.reason is not None:
            data["reason"] = self.reason
        if self.scope is not None:
            data["scope"] = self.scope
        return data

    @classmethod
    def from_json(cls, data: JsonObject) -> Part:
        """Read what `to_json` wrote."""
        return cls(PartState(data["state"]), dict(data["counts"]), data.get("reason"), data.get("scope"))


@dataclass(frozen=True)
class Snapshot:
    """The content of `snapshot.json`, and the tree of the documents.

    The order of snapshots is by `sequence` (the parent's plus one), not by time.
    """

    id: str
    time: datetime
    sequence: int
    program: str
    uuid: str
    full_name: str
    parts: Mapping[str, Part]
    tree: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether every part is settled."""
        return all(part.is_settled for part in self.parts.values())

    def to_json(self) -> JsonObject:
        """The content of `snapshot.json`."""
        return {
            "schema": 1,
            "id": self.id,
            "time": time_text(self.time),
            "sequence": self.sequence,
            "program": self.program,
            "uuid": self.uuid,
            "full_name": self.full_name,
            "parts": {name: part.to_json() for name, part in self.parts.items()},
        }

    @classmethod
    def from_json(cls, data: JsonObject, *, tree: str) -> Snapshot:
        """Read a `snapshot.json`; `tree` is the id of the tree that contains it."""
        return cls(
            id=data["id"],
            time=time_from_text(data["time"]),
            sequence=data["sequence"],
            program=data["program"],
            uuid=data["uuid"],
            full_name=data["full_name"],
            parts={name: Part.from_json(part) for name, part in data["parts"].items()},
            tree=tree,
        )
