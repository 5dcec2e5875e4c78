"""The history in the run records: the state of each repository and workspace, and the last runs.

Records are read from the newest back to the last checkpoint, which summarizes all records before it. The cost
depends on what there is now, not on the length of the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mirror.model import JsonObject, Scope, time_from_text, time_text
from mirror.store.format import layout
from mirror.store.format.failures import StoreDamaged
from mirror.store.reading.copy_history import CopyHistory, add_copy, add_older_copies
from mirror.store.reading.run_records import (
    Key,
    OnDamage,
    RunRecord,
    key_of,
    log_damage,
    newest_first,
    read_list,
)
from mirror.store.reading.troubles import FailureStreak, LostRefs

GOOD = ("saved", "confirmed")
# Outcomes of a repository that was not tried: neither a failure nor the end of a failure streak.
UNTRIED = ("locked", "pending")
# The number of rewritten or removed refs that are listed one by one.
LOST_REFS_MAX = 20
# Outcomes of a run that brought a folder into the store, or took it out: nothing older counts for it.
ARRIVED, DEPARTED = "arrived", "departed"
# Outcomes of prune and erase after which a folder has exactly the snapshots in the entry, up to version 0.4.
_JUDGED = ("pruned", "kept", "erased")


@dataclass
class FolderHistory:
    """The history of one repository or workspace.

    `entry` is from the newest backup that processed it: outcome, problems, ref changes, facts. `confirmed` is
    when a backup last found it complete, as the snapshot `confirmed_as`. `snapshot` and `ledger` (a sha256)
    are the last ones in an entry; `files` are the small files that its folder must have. `changed` is the
    number of the record that first had this ledger; 0 where no record since version 0.8 has it. `snapshots`
    and `trees` are from records up to version 0.4, for a folder without a ledger.
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
    changed: int = 0
    has_changed: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether an older record with a good outcome adds nothing."""
        return self.confirmed is not None and self.has_not_failed and self.entry is not None

    @property
    def outcome(self) -> str | None:
        """The outcome of the newest backup that processed it, or None."""
        return None if self.entry is None else str(self.entry["outcome"])

    def failing(self) -> FailureStreak | None:
        """The failure streak, if the last run that tried it failed."""
        return FailureStreak(self.failures, self.failing_since, self.reason) if self.failures else None

    def lost_refs(self) -> LostRefs:
        """The refs that upstream rewrote or removed."""
        return LostRefs(self.rewritten, self.removed, self.last_lost, tuple(self.lost))

    def add_name(self, entry: JsonObject) -> None:
        """Add name and folder from an older entry."""
        self.full_name = self.full_name or str(entry.get("full_name", ""))
        self.folder = self.folder or str(entry.get("folder", ""))

    def add_backup(self, run: RunRecord, entry: JsonObject) -> None:
        """Add the entry of an older backup."""
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

    def add_entry(self, run: RunRecord, entry: JsonObject) -> None:
        """Add the entry of an older run of any kind."""
        self.add_name(entry)
        self.files.update(entry.get("facts", {}).get("files", ()))
        self._add_snapshot(entry.get("snapshot"))
        if self.ledger is None:
            self.ledger = entry.get("ledger")
            if self.ledger is None:
                self._add_snapshots(run.kind, entry)
        self._add_change(entry.get("ledger"), run.number)

    def _add_change(self, ledger: str | None, number: int) -> None:
        """Add an older record (its `number`) that has a ledger: the change to the present one is the oldest
        that has it."""
        self.has_changed = self.has_changed or (ledger is not None and ledger != self.ledger)
        if ledger is not None and not self.has_changed:
            self.changed = number

    def _add_snapshot(self, named: str | None) -> None:
        self.snapshot = self.snapshot or named
        if self.confirmed is not None:
            # A newer run found this snapshot, or an earlier one, unchanged.
            self.confirmed_as = self.confirmed_as or named

    def _add_snapshots(self, kind: str, entry: JsonObject) -> None:
        """Add the snapshots in an entry of version 0.4 or older."""
        removes = kind in ("prune", "erase") and entry["outcome"] in _JUDGED
        if self.snapshots is None and "snapshots" in entry and (entry.get("snapshot") is not None or removes):
            self.snapshots = set(entry["snapshots"])
        if entry.get("snapshot") is not None and entry.get("tree") is not None:
            self.trees.setdefault(entry["snapshot"], entry["tree"])
        for name, tree in entry.get("trees", {}).items():
            self.trees.setdefault(name, tree)

    def add_older(self, base: FolderHistory) -> None:
        """Add the history in all older records."""
        self.full_name, self.folder = self.full_name or base.full_name, self.folder or base.folder
        self.entry = self.entry or base.entry
        if self.confirmed is None:
            self.confirmed, self.confirmed_as = base.confirmed, base.confirmed_as
        self._add_snapshot(base.snapshot)
        if self.ledger is None:
            self.ledger, self.snapshots, self.trees = base.ledger, base.snapshots, dict(base.trees)
        self._add_change(base.ledger, base.changed)
        self.files |= base.files
        if not self.has_not_failed and base.failures:
            self.failures += base.failures
            self.failing_since, self.reason = base.failing_since, self.reason or base.reason
        self.rewritten, self.removed = self.rewritten + base.rewritten, self.removed + base.removed
        self.last_lost = self.last_lost or base.last_lost
        self.lost = [*self.lost, *base.lost][:LOST_REFS_MAX]

    def to_json(self) -> JsonObject:
        """The JSON in the list of a checkpoint."""
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
            "changed": self.changed,
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
            int(data.get("changed", 0)),
        )  # fmt: skip


@dataclass
class RunHistory:
    """The history in the run records.

    `folders` is by kind and uuid. `last` is the summary of the last run of each kind. By job (`Scope.job`),
    without the runs of some repositories: `scoped` is the summary of the last run, `began` when the last
    uninterrupted one began, `good` when the last one that exited with 0 ended. `last_good` is when the last
    backup of everything did. `lists` are those of the last runs of each kind, the newest first. `tip` is the
    newest record, `checkpoint` the last checkpoint, `records_from` the number of the oldest record that was
    not removed. `hooks` is what the last backup that says so says of the hooks of each workspace, by uuid.
    `copies` are the copies in object storage, by address.

    A record of repositories that hooks announced (the fact `announced`) counts in `folders` only, and one of
    what was done with a copy that is there (the fact `action`) in `copies` only.
    """

    folders: dict[Key, FolderHistory] = field(default_factory=dict)
    last: dict[str, JsonObject] = field(default_factory=dict)
    began: dict[str, str] = field(default_factory=dict)
    scoped: dict[str, JsonObject] = field(default_factory=dict)
    good: dict[str, str] = field(default_factory=dict)
    last_good: str | None = None
    lists: dict[str, list[str]] = field(default_factory=dict)
    tip: RunRecord | None = None
    checkpoint: RunRecord | None = None
    records_from: int = 1
    hooks: dict[str, JsonObject] = field(default_factory=dict)
    copies: dict[str, CopyHistory] = field(default_factory=dict)

    def find(self, kind: str, uuid: str) -> FolderHistory | None:
        """The history of one repository or workspace, or None."""
        return self.folders.get((kind, uuid))

    def by_folder(self) -> dict[str, FolderHistory]:
        """The histories by folder."""
        return {one.folder: one for one in self.folders.values() if one.folder}

    def to_json(self) -> JsonObject:
        """The JSON in the list of a checkpoint."""
        return {
            "schema": 1,
            "things": [self.folders[key].to_json() for key in sorted(self.folders)],
            "last": self.last,
            "began": self.began,
            "scoped": self.scoped,
            "good": self.good,
            "last_good": self.last_good,
            "lists": self.lists,
            "records_from": self.records_from,
            **({"hooks": self.hooks} if self.hooks else {}),
            **({"copies": {name: one.to_json() for name, one in self.copies.items()}} if self.copies else {}),
        }


def summary(record: RunRecord) -> JsonObject:
    """The summary of a run for `status`; with `selectors` where it was of some only."""
    selectors = record.data.get("facts", {}).get("selectors")
    return {
        **({"selectors": selectors} if selectors else {}),
        "run": record.id,
        "started": record.data["started"],
        "ended": record.data["ended"],
        "exit_code": record.data["exit_code"],
        "problems": [problem["text"] for problem in record.data["problems"]],
    }


# The number of lists of each kind of run that are remembered.
_LISTS_MAX = 8


class _HistoryReader:
    """Adds records to a history, the newest first."""

    def __init__(self, on_damage: OnDamage) -> None:
        self.history = RunHistory()
        self._on_damage = on_damage
        self._pending: set[Key] = set()
        self._complete: dict[str, frozenset[Key]] = {}  # by list: complete without problems
        self._others: dict[str, dict[Key, JsonObject]] = {}
        self._brakes: set[str] = set()
        # What came or left in a newer record: its keys, and the folders.
        self._closed: set[Key] = set()
        self._moved: set[str] = set()

    def add(self, run: RunRecord) -> None:
        """Add an older record."""
        history = self.history
        history.tip = history.tip or run
        facts = run.data.get("facts", {})
        if not run.is_announced and not facts.get("action"):
            history.last.setdefault(run.kind, summary(run))
            if not facts.get("dry_run") and (not facts.get("selectors") or "only" in facts):
                self._add_job(run, Scope.of_facts(facts))
        history.hooks = {**facts.get("hooks", {}), **history.hooks}
        add_copy(history.copies, run, summary(run))
        history.records_from = max(history.records_from, int(facts.get("records_from", 1)))
        try:
            self._add_entries(run)
        except StoreDamaged as damage:
            self._on_damage(damage)
        self._brakes.update(set(facts.get("brakes", ())) - self._moved)

    def _add_job(self, run: RunRecord, scope: Scope) -> None:
        """Add a run that is not of some repositories only."""
        history, job = self.history, scope.job(run.kind)
        history.scoped.setdefault(job, summary(run))
        if run.exit_code != 130:
            history.began.setdefault(job, run.started)
        if run.exit_code == 0:
            history.good.setdefault(job, str(run.data["ended"]))
            if run.kind == "backup" and scope.is_everything:
                history.last_good = history.last_good or str(run.data["ended"])

    def _add_entries(self, run: RunRecord) -> None:
        inline: set[Key] = set()
        for entry in run.data["entries"]:
            key = key_of(entry)
            inline.add(key)
            folder = self._folder(key)
            if entry["outcome"] == DEPARTED:
                self._close(folder, entry)
                continue
            folder.add_entry(run, entry)
            if run.kind == "backup":
                folder.add_backup(run, entry)
                self._settle(folder)
            if entry["outcome"] == ARRIVED:
                known = entry.get("facts", {}).get("history")
                changed = folder.changed or run.number
                if known is not None:
                    folder.add_older(FolderHistory.from_json(known))
                folder.changed, folder.has_changed = changed, True  # numbers of another store mean nothing
                self._close(folder, entry)
        if run.list_sha256 is None:
            return
        lists = self.history.lists.setdefault(run.kind, [])
        if run.list_sha256 not in lists and len(lists) < _LISTS_MAX:
            lists.append(run.list_sha256)
        self._open(run)
        if run.kind != "backup":
            return
        for key, thing in self._others[run.list_sha256].items():
            if key not in inline:
                folder = self._folder(key)
                folder.add_backup(run, thing)
                self._settle(folder)
        for key in (self._pending & self._complete[run.list_sha256]) - inline:
            folder = self._folder(key)
            folder.add_backup(run, _CONFIRMED)
            self._settle(folder)

    def _open(self, run: RunRecord) -> None:
        """Add the names in a list, once for all runs that share it."""
        digest = run.list_sha256
        assert digest is not None
        if digest in self._complete:
            return
        self._others[digest] = {}
        complete = set()
        for key, thing in run.looked_at.items():
            self._folder(key).add_name(thing)
            if thing["outcome"] in GOOD and not thing.get("problems"):
                complete.add(key)
            else:
                self._others[digest][key] = {"problems": [], "ref_changes": [], **thing}
        self._complete[digest] = frozenset(complete)

    def _close(self, folder: FolderHistory, entry: JsonObject) -> None:
        """Let nothing older count for a folder that came or left."""
        self._moved.add(str(entry["folder"]))
        if folder.key in self._closed:
            return  # it came or left again since
        self._closed.add(folder.key)
        self._pending.discard(folder.key)
        if not folder.folder:  # it left, and no newer record knows it
            self.history.folders.pop(folder.key, None)

    def _folder(self, key: Key) -> FolderHistory:
        if key in self._closed:
            return FolderHistory(key)
        folder = self.history.folders.get(key)
        if folder is None:
            folder = self.history.folders[key] = FolderHistory(key)
            self._pending.add(key)
        return folder

    def _settle(self, folder: FolderHistory) -> None:
        if folder.is_settled:
            self._pending.discard(folder.key)

    def finish(self) -> RunHistory:
        """The history."""
        for folder in self.history.folders.values() if self._brakes else ():
            if folder.folder in self._brakes:
                folder.files.add(layout.BRAKE_FILE)
        return self.history

    def add_checkpoint(self, run: RunRecord, data: JsonObject) -> None:
        """Add the summary in the checkpoint `run`, which covers `run` and all older records."""
        history = self.history
        history.tip, history.checkpoint = history.tip or run, run
        for one in data["things"]:
            base = FolderHistory.from_json(one)
            folder = history.folders.get(base.key)
            if base.key in self._closed:
                continue
            if folder is None:
                history.folders[base.key] = base
            else:
                folder.add_older(base)
        history.last = {**data["last"], **history.last}
        history.began = {**data["began"], **history.began}
        history.scoped = {**data.get("scoped", _without_selectors(data["last"])), **history.scoped}
        history.good = {**data.get("good", {}), **history.good}
        history.last_good = history.last_good or data["last_good"]
        if history.last_good is not None:
            history.good.setdefault("backup", history.last_good)
        history.lists = {
            kind: list(dict.fromkeys([*history.lists.get(kind, ()), *data["lists"].get(kind, ())]))[
                :_LISTS_MAX
            ]
            for kind in history.lists.keys() | data["lists"].keys()
        }
        history.records_from = max(history.records_from, int(data["records_from"]))
        history.hooks = {**data.get("hooks", {}), **history.hooks}
        add_older_copies(history.copies, data.get("copies", {}))


def _without_selectors(last: JsonObject) -> JsonObject:
    """The last runs in a checkpoint up to version 0.7, without those of some repositories."""
    return {kind: one for kind, one in last.items() if "selectors" not in one}


_CONFIRMED: JsonObject = {"outcome": "confirmed", "problems": [], "ref_changes": [], "facts": {}}


def read_history(
    root: Path, on_damage: OnDamage = log_damage, *, first: RunRecord | None = None
) -> RunHistory:
    """Read the history from the records of the store at `root`; damage goes to `on_damage`.

    `first` is a record that is about to be written.
    """
    reader = _HistoryReader(on_damage)
    records: Iterator[RunRecord] = newest_first(root, on_damage)
    if first is not None:
        reader.add(first)
    for run in records:
        if run.checkpoint is not None:
            try:
                reader.add_checkpoint(run, read_list(root, run.checkpoint, dict))
            except StoreDamaged as damage:
                on_damage(damage)  # the older records back to the checkpoint before have it too
            else:
                break
        reader.add(run)
    return reader.finish()


def failure_of(entry: JsonObject) -> str | None:
    """Why a run failed to back up a repository or its code; None where it did not fail."""
    problems = entry.get("problems", [])
    of_code = [str(one["text"]) for one in problems if one["part"] == "code"]
    if entry["outcome"] == "failed":
        return next(iter(of_code), str(problems[0]["text"]) if problems else "no reason given")
    return of_code[0] if of_code else None
