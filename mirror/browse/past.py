"""What the last runs say of each repository: from their records alone, the newest first, and no more of
them than can be read at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from mirror.model import JsonObject
from mirror.store.reader import RunRecord, Store, StoreDamaged

GOOD = ("saved", "confirmed")
# A repository that was not tried: neither a failure nor the end of failures.
UNTRIED = ("locked", "pending")
RUNS_MAX = 500
BYTES_MAX = 32 * 1024 * 1024
# So many of the refs that upstream rewrote or removed are told one by one.
LOST_REFS_MAX = 20
# After so many failures in a row it is told apart from bad luck.
FAILURES_TOLD = 3


@dataclass(frozen=True)
class Failing:
    """The last `runs` runs that tried a repository failed, the first of them at `since`, the last for
    `reason`. `at_least`: the runs before were not looked at."""

    runs: int
    since: str
    reason: str
    at_least: bool = False

    @property
    def is_told(self) -> bool:
        """Whether it is more than bad luck."""
        return self.runs >= FAILURES_TOLD

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class LostRefs:
    """How many times upstream rewrote or removed a ref, when last, and the latest of them. Their old
    values are kept."""

    rewritten: int = 0
    removed: int = 0
    last: str | None = None
    latest: tuple[JsonObject, ...] = ()

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {**self.__dict__, "latest": list(self.latest)}


@dataclass
class Told:
    """What the runs say of one repository. `entry` is the newest that speaks of it."""

    entry: JsonObject
    confirmed: datetime | None = None
    failures: int = 0
    failing_since: str = ""
    reason: str = ""
    has_not_failed: bool = False
    rewritten: int = 0
    removed: int = 0
    last_lost: str | None = None
    lost: list[JsonObject] = field(default_factory=list)

    def add(self, run: RunRecord, entry: JsonObject) -> None:
        """Take up what an older run says."""
        started, outcome = str(run.data["started"]), entry["outcome"]
        if self.confirmed is None and outcome in GOOD:
            self.confirmed = run.ended
        if not self.has_not_failed and outcome not in UNTRIED:
            reason = failure_of(entry)
            self.has_not_failed = reason is None
            if reason is not None:
                self.failures, self.failing_since = self.failures + 1, started
                self.reason = self.reason or reason
        for change in entry["ref_changes"]:
            if change["kind"] not in ("rewritten", "removed"):
                continue
            self.last_lost = self.last_lost or started
            self.rewritten += change["kind"] == "rewritten"
            self.removed += change["kind"] == "removed"
            if len(self.lost) < LOST_REFS_MAX:
                self.lost.append({**change, "run": run.id, "when": started})

    def failing(self, *, saw_all: bool) -> Failing | None:
        """Its failures in a row, if the last run that tried it failed."""
        if not self.failures:
            return None
        at_least = not saw_all and not self.has_not_failed
        return Failing(self.failures, self.failing_since, self.reason, at_least)

    def lost_refs(self) -> LostRefs:
        """The refs that upstream rewrote or removed."""
        return LostRefs(self.rewritten, self.removed, self.last_lost, tuple(self.lost))


@dataclass
class Past:
    """What the runs that were read say, by the uuid of repositories, and by kind of the last runs.

    `since` is when the oldest of them began; `is_all`: there are no older ones.
    """

    told: dict[str, Told] = field(default_factory=dict)
    last: dict[str, RunRecord] = field(default_factory=dict)
    last_good_backup: datetime | None = None
    runs: int = 0
    since: str | None = None
    is_all: bool = True

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {"runs": self.runs, "since": self.since, "all": self.is_all}


def failure_of(entry: JsonObject) -> str | None:
    """Why a run failed at a repository, or None where it did not: no snapshot, or none of its code."""
    problems = entry["problems"]
    of_code = [str(one["text"]) for one in problems if one["part"] == "code"]
    if entry["outcome"] == "failed":
        return next(iter(of_code), str(problems[0]["text"]) if problems else "no reason given")
    return of_code[0] if of_code else None


def past_of(store: Store, note: Callable[[StoreDamaged], None]) -> Past:
    """Read the newest run records, as many as is bearable. What is damaged goes to `note`."""
    past, read = Past(), 0
    for run in store.newest_runs(note):
        if past.runs >= RUNS_MAX or read >= BYTES_MAX:
            past.is_all = False
            break
        past.runs += 1
        read += run.size
        past.since = str(run.data["started"])
        past.last.setdefault(run.kind, run)
        if run.kind != "backup":
            continue
        if past.last_good_backup is None and run.data["exit_code"] == 0:
            past.last_good_backup = run.ended
        for entry in run.data["entries"]:
            told = past.told.setdefault(entry["uuid"], Told(entry))
            told.add(run, entry)
    return past
