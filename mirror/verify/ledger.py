"""Comparing a folder's ledger with the run records, and its snapshots with the ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mirror.model import Finding, Snapshot
from mirror.store.format.layout import ERASURES_FILE, LEDGER_FILE
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Ledger, StoreDamaged
from mirror.verify.records import Expected

# How often ledger and tags are read before a snapshot counts as missing: prune may be running.
TRIES = 3


def check_ledger(
    folder: AnyFolder, expected: Expected | None, there: Collection[str], snapshots: Sequence[Snapshot]
) -> list[Finding]:
    """Compare the snapshots of a folder (`there` are the ids of its tags) with its ledger and with the run
    records. Never raises for damage."""
    check = _Check(folder, expected if expected is not None else Expected(folder.full_name))
    check.small_files()
    try:
        ledger = folder.ledger()
    except (StoreDamaged, OSError) as damage:
        check.find(folder.relative(LEDGER_FILE), f"it cannot be read: {damage}")
        return check.findings
    if ledger is None:
        check.without_ledger(there)
        check.trees(snapshots, check.expected.trees)
        return check.findings
    check.against_records(ledger)
    if not check.everything_erased:
        check.against_tags(ledger, there)
    check.unlisted(ledger, snapshots)
    check.trees(snapshots, {one.id: one.tree for one in ledger.snapshots})
    return check.findings


class _Check:
    def __init__(self, folder: AnyFolder, expected: Expected) -> None:
        self.folder = folder
        self.expected = expected
        self.findings: list[Finding] = []
        self._removed: set[str] = set()
        self._rewritten: dict[str, str] = {}
        self.everything_erased = False
        self._read_removals()

    def find(self, file: str, text: str, what: str | None = None, *ids: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(file, text, self.folder.full_name, what, ids))

    def _read_removals(self) -> None:
        """Read what was pruned or erased from the folder's own files: a killed run has no record."""
        folder = self.folder
        try:
            pruned, erasures = folder.pruned(), folder.erasures()
        except StoreDamaged as damage:
            self.find(damage.file, damage.problem)
            return
        self._removed = set(pruned.snapshots if pruned is not None else ())
        for one in erasures:
            self._rewritten.update(one.trees)
            if not one.done:
                text = f"the erasure of the run {one.run} is not finished; the next backup or prune does that"
                file = folder.relative(ERASURES_FILE)
                self.findings.append(Finding(file, text, folder.full_name, None, (), "warning"))
        self.everything_erased = any(one.is_everything for one in erasures)

    def small_files(self) -> None:
        """Check that each small file that run records name exists."""
        for one in sorted(self.expected.files - {LEDGER_FILE}):
            if not self.folder.has(one):
                self.find(self.folder.relative(one), "it is missing, and a run record names it")

    def without_ledger(self, there: Collection[str]) -> None:
        """Compare with the snapshots in records of earlier versions."""
        if self.expected.ledger is not None:
            self.find(self.folder.relative(LEDGER_FILE), "it is missing, and a run record names it")
        missing = self.expected.snapshots - set(there) - self._removed
        for identifier in sorted(missing) if not self.everything_erased else ():
            text = "a snapshot that run records name is missing"
            self.find(self.folder.metadata.file, text, None, identifier)

    def against_records(self, ledger: Ledger) -> None:
        """Check that the ledger is the one in the last record, or a later version of it."""
        file = self.folder.relative(LEDGER_FILE)
        if not ledger.follows(self.expected.ledger):
            self.find(file, "it is not the one that run records name, nor was it made from that one")
        sequences = [one.sequence for one in ledger.snapshots]
        if ledger.gaps or len(set(sequences)) < len(sequences):
            self.find(file, "it does not list each snapshot once")

    def against_tags(self, ledger: Ledger, there: Collection[str]) -> None:
        """Check that each snapshot that the ledger lists as kept has a tag."""
        folder, tags = self.folder, set(there)
        for _ in range(TRIES):
            if ledger.kept.keys() <= tags:
                break
            try:  # a backup or prune may have run in between
                ledger = folder.ledger() or ledger
                tags = set(folder.metadata.tags())
            except (StoreDamaged, OSError):
                break
        for identifier in sorted(ledger.kept.keys() - tags):
            text = "a snapshot that the ledger lists as kept is missing"
            self.find(folder.metadata.file, text, None, identifier)

    def unlisted(self, ledger: Ledger, snapshots: Sequence[Snapshot]) -> None:
        """Check that each snapshot is listed, except newer ones by a killed or running backup."""
        listed = {one.id for one in ledger.snapshots}
        last = max((one.sequence for one in ledger.snapshots), default=0)
        for one in snapshots:
            if one.id not in listed and ledger.listed_from <= one.sequence <= last:
                text = "the ledger does not list this snapshot"
                self.find(self.folder.metadata.file, text, None, one.id)

    def trees(self, snapshots: Sequence[Snapshot], trees: Mapping[str, str]) -> None:
        """Check that each snapshot has its recorded tree, or that of an erasure."""
        for snapshot in snapshots:
            tree = trees.get(snapshot.id)
            if tree is not None and snapshot.tree not in (tree, self._rewritten.get(snapshot.id)):
                text = "the snapshot is not the one that the ledger or its run record names"
                self.find(self.folder.metadata.file, text, snapshot.tree, snapshot.id)
