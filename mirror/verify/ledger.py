"""A folder's ledger against the run records, and its snapshots against the ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mirror.model import Finding, Snapshot
from mirror.store.format.layout import ERASURES_FILE, LEDGER_FILE
from mirror.store.reading.reader import Ledger, RepositoryFolder, StoreDamaged, WorkspaceFolder
from mirror.verify.records import Expected

Folder = RepositoryFolder | WorkspaceFolder
# How often ledger and tags are read again before a snapshot counts as missing: a prune may be at work.
TRIES = 3


def check_ledger(
    folder: Folder, expected: Expected | None, there: Collection[str], snapshots: Sequence[Snapshot]
) -> list[Finding]:
    """Compare the snapshots of a folder, `there` by id, with its ledger and with what run records say.

    Never raises for damage.
    """
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
    def __init__(self, folder: Folder, expected: Expected) -> None:
        self.folder = folder
        self.expected = expected
        self.findings: list[Finding] = []
        self._let_go: set[str] = set()
        self._rewritten: dict[str, str] = {}
        self.everything_erased = False
        self._read_removals()

    def find(self, file: str, text: str, what: str | None = None, *ids: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(file, text, self.folder.full_name, what, ids))

    def _read_removals(self) -> None:
        """Read what the folder itself says was let go or erased: a run that was killed has no record."""
        folder = self.folder
        try:
            pruned, erasures = folder.pruned(), folder.erasures()
        except StoreDamaged as damage:
            self.find(damage.file, damage.problem)
            return
        self._let_go = set(pruned.snapshots if pruned is not None else ())
        for one in erasures:
            self._rewritten.update(one.trees)
            if not one.done:
                text = f"the erasure of the run {one.run} is not finished; the next backup or prune does that"
                file = folder.relative(ERASURES_FILE)
                self.findings.append(Finding(file, text, folder.full_name, None, (), "warning"))
        self.everything_erased = any(one.is_everything for one in erasures)

    def small_files(self) -> None:
        """Check that each small file that run records name is there."""
        for one in sorted(self.expected.files - {LEDGER_FILE}):
            if not self.folder.has(one):
                self.find(self.folder.relative(one), "it is missing, and a run record names it")

    def without_ledger(self, there: Collection[str]) -> None:
        """Compare with what records of earlier versions say of the snapshots."""
        if self.expected.ledger is not None:
            self.find(self.folder.relative(LEDGER_FILE), "it is missing, and a run record names it")
        missing = self.expected.snapshots - set(there) - self._let_go
        for identifier in sorted(missing) if not self.everything_erased else ():
            text = "a snapshot that run records name is missing"
            self.find(self.folder.metadata.file, text, None, identifier)

    def against_records(self, ledger: Ledger) -> None:
        """The ledger is the one that the last record names, or was carried on from it."""
        file = self.folder.relative(LEDGER_FILE)
        if not ledger.follows(self.expected.ledger):
            self.find(file, "it is not the one that run records name, nor was it made from that one")
        sequences = [one.sequence for one in ledger.snapshots]
        if ledger.gaps or len(set(sequences)) < len(sequences):
            self.find(file, "it does not list each snapshot once")

    def against_tags(self, ledger: Ledger, there: Collection[str]) -> None:
        """Each snapshot that the ledger lists as kept is there, and no other."""
        folder, tags = self.folder, set(there)
        for _ in range(TRIES):
            if ledger.kept.keys() <= tags:
                break
            try:  # a backup or a prune may have been at work between the two
                ledger = folder.ledger() or ledger
                tags = set(folder.metadata.tags())
            except (StoreDamaged, OSError):
                break
        for identifier in sorted(ledger.kept.keys() - tags):
            text = "a snapshot that the ledger lists as kept is missing"
            self.find(folder.metadata.file, text, None, identifier)

    def unlisted(self, ledger: Ledger, snapshots: Sequence[Snapshot]) -> None:
        """Each snapshot is listed, but for those that a run took since that was killed or is at work."""
        listed = {one.id for one in ledger.snapshots}
        last = max((one.sequence for one in ledger.snapshots), default=0)
        for one in snapshots:
            if one.id not in listed and ledger.listed_from <= one.sequence <= last:
                text = "the ledger does not list this snapshot"
                self.find(self.folder.metadata.file, text, None, one.id)

    def trees(self, snapshots: Sequence[Snapshot], trees: Mapping[str, str]) -> None:
        """Each snapshot is the one that was taken, or what an erasure made of it."""
        for snapshot in snapshots:
            tree = trees.get(snapshot.id)
            if tree is not None and snapshot.tree not in (tree, self._rewritten.get(snapshot.id)):
                text = "the snapshot is not the one that the ledger or its run record names"
                self.find(self.folder.metadata.file, text, snapshot.tree, snapshot.id)
