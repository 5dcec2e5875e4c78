"""Runs: one attempt over some repositories, and its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from mirror.errors import Result, worst
from mirror.model.canonical import JsonObject
from mirror.model.repositories import RefChange, name_to_json
from mirror.model.snapshots import Part, time_from_text, time_text

RunKind = Literal["backup", "verify", "prune", "erase", "accept-loss", "drill", "copy", "move"]


class Outcome(StrEnum):
    """The result of a run for one repository or workspace."""

    SAVED = "saved"  # something had changed: a new snapshot
    CONFIRMED = "confirmed"  # nothing had changed since the last snapshot
    PARTIAL = "partial"  # stored in part; its problems say what is missing
    FAILED = "failed"  # no snapshot could be taken
    LOCKED = "locked"  # another process held its lock
    ABSENT = "absent"  # not in a complete listing, not yet confirmed as gone; kept
    UNREACHED = "unreached"  # stored and included, but in no list, and it is unknown whether it is gone; kept
    GONE = "gone"  # confirmed as gone upstream; kept
    EXCLUDED = "excluded"  # excluded by the configuration; its snapshots are kept
    PENDING = "pending"  # not reached before the run ended
    PRUNED = "pruned"  # retention removed snapshots
    KEPT = "kept"  # retention removed nothing; its facts say why
    ERASED = "erased"  # erased; or skipped because it was
    ACCEPTED = "accepted"  # a loss that had tripped the brake was accepted
    ARRIVED = "arrived"  # its folder came from another store
    DEPARTED = "departed"  # its folder went to another store


@dataclass(frozen=True)
class Problem:
    """A problem of a run: the exit code, a text for people, and the part affected.

    `hint` says what to do, where that is known.
    """

    code: int
    text: str
    part: str | None = None
    hint: str | None = None

    def to_json(self) -> JsonObject:
        """The JSON in run records."""
        hint = {"hint": self.hint} if self.hint else {}
        return {"code": self.code, "part": self.part, "text": self.text, **hint}


@dataclass(frozen=True)
class RunEntry:
    """The result of a run for one repository or workspace (`kind`)."""

    kind: Literal["repository", "workspace"]
    full_name: str
    uuid: str
    folder: str
    outcome: Outcome
    snapshot: str | None = None
    tree: str | None = None
    refs_sha256: str | None = None
    # The sha256 of the folder's ledger, which lists each snapshot.
    ledger: str | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    ref_changes: tuple[RefChange, ...] = ()
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0
    # Snapshots that were rewritten: id to the new tree, and to the new sha256 of refs.json.
    trees: Mapping[str, str] = field(default_factory=dict)
    refs: Mapping[str, str | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """The JSON in run records."""
        rewritten = {"trees": dict(self.trees), "refs": dict(self.refs)} if self.trees else {}
        facts = {"facts": dict(self.facts)} if self.facts else {}
        return {
            **rewritten,
            **facts,
            "kind": self.kind,
            "full_name": self.full_name,
            "uuid": self.uuid,
            "folder": self.folder,
            "outcome": str(self.outcome),
            "snapshot": self.snapshot,
            "tree": self.tree,
            "refs_sha256": self.refs_sha256,
            "ledger": self.ledger,
            "parts": {name: part.to_json() for name, part in self.parts.items()},
            "ref_changes": [
                {"name": name_to_json(c.name), "old": c.old, "new": c.new, "kind": c.kind}
                for c in self.ref_changes
            ],
            "problems": [problem.to_json() for problem in self.problems],
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Run(Result):
    """One run. `id` is its lower-case UTC start and a short random part.

    `problems` are those of the run itself (no credential, no listing); those of a repository
    stand in its entry. `facts` are counts worth keeping (`{"requests": 31}`), or, for verify,
    its findings.
    """

    id: str
    kind: RunKind
    started: datetime
    ended: datetime
    program: str
    entries: tuple[RunEntry, ...] = ()
    problems: tuple[Problem, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        """Those of the run itself, then those of each entry."""
        return (*self.problems, *(problem for entry in self.entries for problem in entry.problems))

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies, the one that counts first; empty when all is well."""
        codes = {problem.code for problem in self.all_problems}
        ordered = []
        while codes:
            first = worst(codes)
            ordered.append(first)
            codes = {code for code in codes if code != first and worst((code,)) != first}
        return tuple(ordered)

    def to_json(self, *, previous: str | None) -> JsonObject:
        """The run record; `previous` is the sha256 of the record before."""
        return {
            "schema": 1,
            "id": self.id,
            "kind": self.kind,
            "started": time_text(self.started),
            "ended": time_text(self.ended),
            "program": self.program,
            **self.codes_to_json(),
            "previous": previous,
            "entries": [entry.to_json() for entry in self.entries],
            "problems": [problem.to_json() for problem in self.problems],
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class Finding:
    """A finding of verify: something damaged or missing.

    `file` is relative to the store. `object` is a git object id, ref name or document path where
    that says more. `snapshots` are the ids that can no longer be restored in full because of it.
    """

    file: str
    problem: str
    repository: str | None = None
    object: str | None = None
    snapshots: tuple[str, ...] = ()
    severity: Literal["damage", "warning"] = "damage"

    def to_json(self) -> JsonObject:
        """The JSON in results and run records."""
        return {
            "file": self.file,
            "problem": self.problem,
            "repository": self.repository,
            "object": self.object,
            "snapshots": list(self.snapshots),
            "severity": self.severity,
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Finding:
        """Read what `to_json` wrote."""
        return cls(
            data["file"], data["problem"], data["repository"], data["object"], tuple(data["snapshots"]),
            data["severity"],
        )  # fmt: skip


@dataclass(frozen=True)
class Verified:
    """The result of verifying one folder of a store (`place`) at the time `at`."""

    place: str
    at: datetime
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]

    def to_json(self) -> JsonObject:
        """The JSON in the journal."""
        findings = [finding.to_json() for finding in self.findings]
        return {
            "place": self.place,
            "at": time_text(self.at),
            "findings": findings,
            "counts": dict(self.counts),
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Verified:
        """Read what `to_json` wrote."""
        findings = tuple(Finding.from_json(one) for one in data["findings"])
        return cls(data["place"], time_from_text(data["at"]), findings, dict(data["counts"]))


def run_time(record: JsonObject) -> datetime:
    """When the run of a record ended."""
    return time_from_text(record["ended"])
