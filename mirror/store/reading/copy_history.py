"""What the run records say of copies in object storage, by address."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from mirror.model import JsonObject
from mirror.store.format.failures import StoreDamaged
from mirror.store.reading.run_records import Key, RunRecord, key_of

# The number of addresses that are remembered: more than anybody copies to.
COPIES_MAX = 16
# The number of folders of one run that are remembered as failed.
FAILED_MAX = 1000
_STOPPED = 130
# The facts that are kept of the last run, and of the last check.
_FACTS = ("folders", "objects", "bytes", "requests")
_CHECKED = ("read", "checked", "faults")
CHECK = "check"


@dataclass
class CopyHistory:
    """The history of the copy at one address.

    `last` is the summary of the last run, with its counts as `facts`. `good` is when the last run that exited
    with 0 ended. `covers` is the id of the newest run record in the copy. `as_of` is the number of the newest
    record when the last whole attempt began, None where there was none: what the store had then is in the
    copy, but for the folders that `failed`. `check` is the summary of the last check, with its counts as
    `facts`; None where it was never checked from this store.
    """

    last: JsonObject | None = None
    good: str | None = None
    covers: str | None = None
    as_of: int | None = None
    failed: tuple[Key, ...] = ()
    check: JsonObject | None = None

    def add(self, run: RunRecord, summary: JsonObject) -> None:
        """Add an older run."""
        facts = run.data["facts"]
        if self.last is None:
            self.last = _with_facts(summary, facts, _FACTS)
        if run.exit_code == 0:
            self.good = self.good or str(run.data["ended"])
        self.covers = self.covers or facts.get("covers")
        if self.as_of is None and _is_whole(run):
            # An older attempt counts where too many failed, or the list of the run is damaged: whoever reads
            # its entries reports that.
            with contextlib.suppress(StoreDamaged):
                failed = [key_of(one) for one in run.entries() if one["outcome"] == "failed"]
                if len(failed) <= FAILED_MAX:
                    self.as_of, self.failed = facts["covers_number"], tuple(failed)

    def add_check(self, run: RunRecord, summary: JsonObject) -> None:
        """Add an older check."""
        if self.check is None:
            self.check = _with_facts(summary, run.data["facts"], _CHECKED)

    def add_older(self, base: CopyHistory) -> None:
        """Add the history in all older records."""
        self.last, self.good = self.last or base.last, self.good or base.good
        self.covers = self.covers or base.covers
        self.check = self.check or base.check
        if self.as_of is None:
            self.as_of, self.failed = base.as_of, base.failed

    def lacks(self, key: Key, changed: int) -> bool:
        """Whether the copy lacks a folder as it is now; the record number `changed` was the first with its
        present state."""
        return self.as_of is None or changed > self.as_of or key in self.failed

    def to_json(self) -> JsonObject:
        """The JSON in the list of a checkpoint."""
        plain = {name: value for name, value in self.__dict__.items() if (name, value) != ("check", None)}
        return {**plain, "failed": [list(key) for key in self.failed]}

    @classmethod
    def from_json(cls, data: JsonObject) -> CopyHistory:
        """Read what `to_json` wrote."""
        failed = tuple((str(kind), str(uuid)) for kind, uuid in data["failed"])
        return cls(data["last"], data["good"], data["covers"], data["as_of"], failed, data.get("check"))


def _with_facts(summary: JsonObject, facts: JsonObject, names: tuple[str, ...]) -> JsonObject:
    return {**summary, "facts": {name: facts[name] for name in names if name in facts}}


def _is_whole(run: RunRecord) -> bool:
    """Whether a run tried every folder."""
    facts = run.data["facts"]
    has_counts = isinstance(facts.get("covers_number"), int) and isinstance(facts.get("folders"), dict)
    return has_counts and not facts["folders"].get("untried") and run.exit_code != _STOPPED


def add_copy(copies: dict[str, CopyHistory], run: RunRecord, summary: JsonObject) -> None:
    """Add an older run, or an older check, to those of its address. Anything else is no copy."""
    facts = run.data.get("facts", {})
    address, action = facts.get("to"), facts.get("action")
    is_known = run.kind == "copy" and action in (None, CHECK) and not facts.get("dry_run")
    if not is_known or not isinstance(address, str):
        return
    if address in copies or len(copies) < COPIES_MAX:
        one = copies.setdefault(address, CopyHistory())
        one.add_check(run, summary) if action == CHECK else one.add(run, summary)


def add_older_copies(copies: dict[str, CopyHistory], data: JsonObject) -> None:
    """Add what the list of a checkpoint says."""
    for address, one in data.items():
        if address in copies or len(copies) < COPIES_MAX:
            copies.setdefault(address, CopyHistory()).add_older(CopyHistory.from_json(one))
