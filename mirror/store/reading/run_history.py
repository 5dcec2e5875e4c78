"""What the run records say: how each repository and workspace stands, and the last run of each kind.

Read from the newest record back to the last checkpoint, which holds what all records before it say. So
this costs what there is now, however long the history is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mirror.model import JsonObject, time_from_text, time_text
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.reading.run_records import (
    Key,
    OnDamage,
    RunRecord,
    key_of,
    log_damage,
    newest_first,
    read_list,
)

GOOD = ("saved", "confirmed")
# A repository that was not tried: neither a failure nor the end of failures.
UNTRIED = ("locked", "pending")
# So many of the refs that upstream rewrote or removed are listed one by one.
LOST_REFS_MAX = 20
# So many failures in a row are more than bad luck.
FAILURES_TOLD = 3
# Outcomes of a prune or an erasure after which a folder holds just what the entry says (up to version 0.4).
_JUDGED = ("pruned", "kept", "erased")


@dataclass(frozen=True)
class FailureStreak:
    """The last `runs` runs that tried a repository failed, the first of them at `since`, the last for
    `reason`."""

    runs: int
    since: str
    reason: str

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
class FolderHistory:
    """What the records say about one repository or workspace.

    `entry` is that of the newest backup that looked at it: outcome, problems, ref changes, facts.
    `confirmed`: when a backup last found it whole, as the snapshot `confirmed_as`. `snapshot` and `ledger`
    (a sha256) are the last that an entry names, `files` the small files that its folder must have.
    `snapshots` and `trees` are what records up to version 0.4 say about a folder that has no ledger yet.
    """

    key: Key
    full_name: str = ""
    folder: str = ""
    entry: JsonObject | None = None
    confirmed: datetime | None = None
    confirmed_as: str | None = None
    snapshot: str | None = None
    ledger: str | None = None
    files: set[str] = field(default_factory=set)
    failures: int = 0
    failing_since: str = ""
    reason: str = ""
    has_not_failed: bool = False
    rewritten: int = 0
    removed: int = 0
    last_lost: str | None = None
    lost: list[JsonObject] = field(default_factory=list)
    snapshots: set[str] | None = None
    trees: dict[str, str] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether older records can add nothing where they found it well."""
        return self.confirmed is not None and self.has_not_failed and self.entry is not None

    @property
    def outcome(self) -> str | None:
        """What the newest backup that looked at it made of it."""
        return None if self.entry is None else str(self.entry["outcome"])

    def failing(self) -> FailureStreak | None:
        """Its failures in a row, if the last run that tried it failed."""
        return FailureStreak(self.failures, self.failing_since, self.reason) if self.failures else None

    def lost_refs(self) -> LostRefs:
        """The refs that upstream rewrote or removed."""
        return LostRefs(self.rewritten, self.removed, self.last_lost, tuple(self.lost))

    def name(self, entry: JsonObject) -> None:
        """Take up who it is, where no newer record has told it."""
        self.full_name = self.full_name or str(entry.get("full_name", ""))
        self.folder = self.folder or str(entry.get("folder", ""))

    def add(self, run: RunRecord, entry: JsonObject) -> None:
        """Take up what an older backup says."""
        outcome = entry["outcome"]
        if self.entry is None:
            self.entry = {
                name: entry[name] for name in ("outcome", "problems", "ref_changes", "facts") if name in entry
            }
        if self.confirmed is None and outcome in GOOD:
            self.confirmed, self.confirmed_as = run.ended, entry.get("snapshot")
        if not self.has_not_failed and outcome not in UNTRIED:
            reason = failure_of(entry)
            self.has_not_failed = reason is None
            if reason is not None:
                self.failures, self.failing_since = self.failures + 1, run.started
                self.reason = self.reason or reason
        for change in entry.get("ref_changes", ()):
            if change["kind"] not in ("rewritten", "removed"):
                continue
            self.last_lost = self.last_lost or run.started
            self.rewritten += change["kind"] == "rewritten"
            self.removed += change["kind"] == "removed"
            if len(self.lost) < LOST_REFS_MAX:
                self.lost.append({**change, "run": run.id, "when": run.started})

    def learn(self, kind: str, entry: JsonObject) -> None:
        """Take up what an older run of any kind says of the folder."""
        self.name(entry)
        self.files.update(entry.get("facts", {}).get("files", ()))
        self._learn_snapshot(entry.get("snapshot"))
        if self.ledger is None:
            self.ledger = entry.get("ledger")
            if self.ledger is None:
                self._learn_snapshots(kind, entry)

    def _learn_snapshot(self, named: str | None) -> None:
        self.snapshot = self.snapshot or named
        if self.confirmed is not None:
            # What a newer run found unchanged is what this one, or one before it, took.
            self.confirmed_as = self.confirmed_as or named

    def _learn_snapshots(self, kind: str, entry: JsonObject) -> None:
        """Take up what an entry of version 0.4 or older says of the folder's snapshots."""
        lets_go = kind in ("prune", "erase") and entry["outcome"] in _JUDGED
        if self.snapshots is None and "snapshots" in entry and (entry.get("snapshot") is not None or lets_go):
            self.snapshots = set(entry["snapshots"])
        if entry.get("snapshot") is not None and entry.get("tree") is not None:
            self.trees.setdefault(entry["snapshot"], entry["tree"])
        for name, tree in entry.get("trees", {}).items():
            self.trees.setdefault(name, tree)

    def after(self, base: FolderHistory) -> None:
        """Take up what all older records say."""
        self.full_name, self.folder = self.full_name or base.full_name, self.folder or base.folder
        self.entry = self.entry or base.entry
        if self.confirmed is None:
            self.confirmed, self.confirmed_as = base.confirmed, base.confirmed_as
        self._learn_snapshot(base.snapshot)
        if self.ledger is None:
            self.ledger, self.snapshots, self.trees = base.ledger, base.snapshots, dict(base.trees)
        self.files |= base.files
        if not self.has_not_failed and base.failures:
            self.failures += base.failures
            self.failing_since, self.reason = base.failing_since, self.reason or base.reason
        self.rewritten, self.removed = self.rewritten + base.rewritten, self.removed + base.removed
        self.last_lost = self.last_lost or base.last_lost
        self.lost = [*self.lost, *base.lost][:LOST_REFS_MAX]

    def to_json(self) -> JsonObject:
        """As a checkpoint's list holds it."""
        lost = {
            "rewritten": self.rewritten,
            "removed": self.removed,
            "last": self.last_lost,
            "latest": self.lost,
        }
        failing = {"runs": self.failures, "since": self.failing_since, "reason": self.reason}
        snapshots = {name: self.trees.get(name) for name in sorted(self.snapshots or ())}
        whole = None
        if self.confirmed is not None:
            whole = {"at": time_text(self.confirmed), "snapshot": self.confirmed_as}
        plain = {
            "kind": self.key[0],
            "uuid": self.key[1],
            "full_name": self.full_name,
            "folder": self.folder,
            "entry": self.entry,
            "whole": whole,
            "snapshot": self.snapshot,
            "ledger": self.ledger,
        }
        more = {
            "files": sorted(self.files),
            "failing": failing if self.failures else None,
            "lost_refs": lost if self.last_lost else None,
            "snapshots": snapshots if self.ledger is None else None,
        }
        return {**plain, **{name: value for name, value in more.items() if value}}

    @classmethod
    def from_json(cls, data: JsonObject) -> FolderHistory:
        """Read what `to_json` wrote."""
        lost = data.get("lost_refs") or {"rewritten": 0, "removed": 0, "last": None, "latest": []}
        failing = data.get("failing") or {"runs": 0, "since": "", "reason": ""}
        snapshots, whole = data.get("snapshots"), data["whole"] or {"at": None, "snapshot": None}
        return cls(
            key_of(data), data["full_name"], data["folder"], data["entry"],
            None if whole["at"] is None else time_from_text(whole["at"]), whole["snapshot"], data["snapshot"],
             data["ledger"],
            set(data.get("files", ())), int(failing["runs"]), failing["since"], failing["reason"],
            False, int(lost["rewritten"]), int(lost["removed"]), lost["last"], list(lost["latest"]),
            None if snapshots is None else set(snapshots),
            {name: tree for name, tree in (snapshots or {}).items() if tree is not None},
        )  # fmt: skip


@dataclass
class RunHistory:
    """What the records tell.

    `told` is by kind and uuid; `last` the summary of the last run of each kind, and `began` when the last
    one of each kind that was not stopped began, `last_good` when the last backup that ended with 0 ended.
    `lists` are the lists of the last runs of each kind, the
    newest first. `tip` is the record written last, `checkpoint` the last one. `records_from` is the number
    of the oldest record that was not let go.
    """

    told: dict[Key, FolderHistory] = field(default_factory=dict)
    last: dict[str, JsonObject] = field(default_factory=dict)
    began: dict[str, str] = field(default_factory=dict)
    last_good: str | None = None
    lists: dict[str, list[str]] = field(default_factory=dict)
    tip: RunRecord | None = None
    checkpoint: RunRecord | None = None
    records_from: int = 1

    def of(self, kind: str, uuid: str) -> FolderHistory | None:
        """What the records say about one repository or workspace."""
        return self.told.get((kind, uuid))

    def by_folder(self) -> dict[str, FolderHistory]:
        """What the records say, by folder."""
        return {one.folder: one for one in self.told.values() if one.folder}

    def to_json(self) -> JsonObject:
        """As a checkpoint's list holds it."""
        return {
            "schema": 1,
            "things": [self.told[key].to_json() for key in sorted(self.told)],
            "last": self.last,
            "began": self.began,
            "last_good": self.last_good,
            "lists": self.lists,
            "records_from": self.records_from,
        }


def summary(record: RunRecord) -> JsonObject:
    """A run as `status` shows it."""
    return {
        "run": record.id,
        "started": record.data["started"],
        "ended": record.data["ended"],
        "exit_code": record.data["exit_code"],
        "problems": [problem["text"] for problem in record.data["problems"]],
    }


# So many lists of one kind of run are remembered.
_LISTS_MAX = 8


class _Fold:
    """Takes up records, the newest first."""

    def __init__(self, on_damage: OnDamage) -> None:
        self.past = RunHistory()
        self._on_damage = on_damage
        self._pending: set[Key] = set()
        self._well: dict[str, frozenset[Key]] = {}  # by list: what it says is well
        self._unwell: dict[str, dict[Key, JsonObject]] = {}
        self._brakes: set[str] = set()

    def add(self, run: RunRecord) -> None:
        """Take up an older record."""
        past = self.past
        past.tip = past.tip or run
        past.last.setdefault(run.kind, summary(run))
        if run.exit_code != 130:
            past.began.setdefault(run.kind, run.started)
        if run.kind == "backup" and run.exit_code == 0:
            past.last_good = past.last_good or str(run.data["ended"])
        facts = run.data.get("facts", {})
        past.records_from = max(past.records_from, int(facts.get("records_from", 1)))
        try:
            self._things(run)
        except StoreDamaged as damage:
            self._on_damage(damage)
        self._brakes.update(facts.get("brakes", ()))

    def _things(self, run: RunRecord) -> None:
        inline: set[Key] = set()
        for entry in run.data["entries"]:
            key = key_of(entry)
            inline.add(key)
            told = self._told(key)
            told.learn(run.kind, entry)
            if run.kind == "backup":
                told.add(run, entry)
                self._note(told)
        if run.list_sha256 is None:
            return
        lists = self.past.lists.setdefault(run.kind, [])
        if run.list_sha256 not in lists and len(lists) < _LISTS_MAX:
            lists.append(run.list_sha256)
        self._open(run)
        if run.kind != "backup":
            return
        for key, thing in self._unwell[run.list_sha256].items():
            if key not in inline:
                told = self._told(key)
                told.add(run, thing)
                self._note(told)
        for key in (self._pending & self._well[run.list_sha256]) - inline:
            told = self._told(key)
            told.add(run, _WELL)
            self._note(told)

    def _open(self, run: RunRecord) -> None:
        """Take up who is in a list, once for all runs that have it."""
        digest = run.list_sha256
        assert digest is not None
        if digest in self._well:
            return
        self._unwell[digest] = {}
        well = set()
        for key, thing in run.looked_at.items():
            self._told(key).name(thing)
            if thing["outcome"] in GOOD and not thing.get("problems"):
                well.add(key)
            else:
                self._unwell[digest][key] = {"problems": [], "ref_changes": [], **thing}
        self._well[digest] = frozenset(well)

    def _told(self, key: Key) -> FolderHistory:
        told = self.past.told.get(key)
        if told is None:
            told = self.past.told[key] = FolderHistory(key)
            self._pending.add(key)
        return told

    def _note(self, told: FolderHistory) -> None:
        if told.is_settled:
            self._pending.discard(told.key)

    def finish(self) -> RunHistory:
        """What the records tell."""
        for told in self.past.told.values() if self._brakes else ():
            if told.folder in self._brakes:
                told.files.add(layout.BRAKE_FILE)
        return self.past

    def base(self, run: RunRecord, data: JsonObject) -> None:
        """Take up what a checkpoint says of all records up to `run`, itself included."""
        past = self.past
        past.tip, past.checkpoint = past.tip or run, run
        for one in data["things"]:
            base = FolderHistory.from_json(one)
            told = past.told.get(base.key)
            if told is None:
                past.told[base.key] = base
            else:
                told.after(base)
        past.last = {**data["last"], **past.last}
        past.began = {**data["began"], **past.began}
        past.last_good = past.last_good or data["last_good"]
        past.lists = {
            kind: list(dict.fromkeys([*past.lists.get(kind, ()), *data["lists"].get(kind, ())]))[:_LISTS_MAX]
            for kind in past.lists.keys() | data["lists"].keys()
        }
        past.records_from = max(past.records_from, int(data["records_from"]))


_WELL: JsonObject = {"outcome": "confirmed", "problems": [], "ref_changes": [], "facts": {}}


def read_history(
    root: Path, on_damage: OnDamage = log_damage, *, first: RunRecord | None = None
) -> RunHistory:
    """What the records of the store at `root` tell; what is damaged goes to `on_damage`.

    `first` is a record that is about to be written after all of them.
    """
    fold = _Fold(on_damage)
    records: Iterator[RunRecord] = newest_first(root, on_damage)
    if first is not None:
        fold.add(first)
    for run in records:
        if run.checkpoint is not None:
            try:
                fold.base(run, read_list(root, run.checkpoint, dict))
            except StoreDamaged as damage:
                on_damage(damage)  # older records tell it, back to the checkpoint before
            else:
                break
        fold.add(run)
    return fold.finish()


def failure_of(entry: JsonObject) -> str | None:
    """Why a run failed at a repository, or None where it did not: no snapshot, or none of its code."""
    problems = entry.get("problems", [])
    of_code = [str(one["text"]) for one in problems if one["part"] == "code"]
    if entry["outcome"] == "failed":
        return next(iter(of_code), str(problems[0]["text"]) if problems else "no reason given")
    return of_code[0] if of_code else None
