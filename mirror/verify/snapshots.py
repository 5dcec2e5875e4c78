"""Snapshots against run records, against themselves, and against the mirror's refs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mirror.git.check import direct_values
from mirror.git.refs import head_promised, read_head, read_refs
from mirror.model import Finding, NotCanonical, Refs, Snapshot, dumps, loads, name_to_json, pointers
from mirror.store.reader import RepositoryFolder, StoreDamaged, WorkspaceFolder
from mirror.verify.records import Expected


@dataclass
class Checked:
    """What was found of one folder. `named` are the hashes that snapshots name in the mirror, each
    with the snapshots that do; `pointers` the files that documents point to, likewise."""

    findings: list[Finding] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    named: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pointers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def check_snapshots(
    folder: RepositoryFolder | WorkspaceFolder, expected: Expected | None, level: Literal["refs", "objects"]
) -> Checked:
    """Check one folder's snapshots. Never raises for damage."""
    checked = Checked()
    name = folder.full_name

    def note(damage: StoreDamaged) -> None:
        checked.findings.append(Finding(damage.file, damage.problem, name))

    try:
        there = set(folder.metadata.tags())
        checked.snapshots = folder.metadata.snapshots(note)
    except StoreDamaged as damage:
        note(damage)
        there = set()
    except OSError as error:
        checked.findings.append(Finding(folder.metadata.file, f"cannot be read: {error.strerror}", name))
        there = set()
    if expected is not None:
        _compare_with_runs(folder, expected, there, checked)
    _check_order(folder, checked)
    if isinstance(folder, RepositoryFolder):
        _check_refs(folder, checked)
    if level == "objects":
        _check_documents(folder, checked)
    return checked


def _compare_with_runs(
    folder: RepositoryFolder | WorkspaceFolder, expected: Expected, there: set[str], checked: Checked
) -> None:
    file, name = folder.metadata.file, folder.full_name
    for identifier in sorted(expected.snapshots - there):
        text = "a snapshot that run records tell of is missing"
        checked.findings.append(Finding(file, text, name, None, (identifier,)))
    for snapshot in checked.snapshots:
        tree = expected.trees.get(snapshot.id)
        if tree is not None and tree != snapshot.tree:
            text = "the snapshot is not the one that its run record tells of"
            checked.findings.append(Finding(file, text, name, snapshot.tree, (snapshot.id,)))


def _check_order(folder: RepositoryFolder | WorkspaceFolder, checked: Checked) -> None:
    """Sequence numbers rise without one twice; a gap is retention's doing."""
    seen: dict[int, str] = {}
    for snapshot in checked.snapshots:
        if snapshot.sequence in seen:
            text = f"two snapshots have the sequence {snapshot.sequence}"
            pair = (seen[snapshot.sequence], snapshot.id)
            checked.findings.append(Finding(folder.metadata.file, text, folder.full_name, None, pair))
        seen[snapshot.sequence] = snapshot.id
        if snapshot.uuid != folder.uuid:
            text = "the snapshot is of something else: its uuid is another"
            checked.findings.append(
                Finding(folder.metadata.file, text, folder.full_name, None, (snapshot.id,))
            )


def _check_refs(folder: RepositoryFolder, checked: Checked) -> None:
    """The keep rule: every hash that a snapshot names is the direct value of some ref."""
    for snapshot in checked.snapshots:
        try:
            found = folder.metadata.code_refs(snapshot)
        except StoreDamaged as damage:
            checked.findings.append(
                Finding(damage.file, damage.problem, folder.full_name, None, (snapshot.id,))
            )
            continue
        if found is None:
            continue
        refs, pins = found
        values = {*refs.refs.values(), *pins.values()}
        if refs.head is not None and refs.head.kind == "detached":
            values.add(refs.head.value.decode("ascii", "replace"))
        for value in values:
            checked.named[value] = (*checked.named.get(value, ()), snapshot.id)
    if not checked.named:
        return
    place = folder.relative(folder.code)
    try:
        held = direct_values(folder.code)
    except (OSError, ValueError) as error:
        everything = tuple(snapshot.id for snapshot in checked.snapshots)
        text = f"its refs cannot be read: {error}"
        checked.findings.append(Finding(f"{place}/packed-refs", text, folder.full_name, None, everything))
        return
    _check_head(folder, checked)
    for value in sorted(checked.named.keys() - held):
        text = "a hash that a snapshot names is no longer the value of any ref"
        checked.findings.append(
            Finding(f"{place}/packed-refs", text, folder.full_name, value, checked.named[value])
        )


def _check_head(folder: RepositoryFolder, checked: Checked) -> None:
    """The mirror's HEAD is what the last snapshot that knows the code says."""
    for snapshot in reversed(checked.snapshots):
        try:
            found = folder.metadata.code_refs(snapshot)
        except StoreDamaged:
            continue
        if found is None or found[0].head is None:
            continue
        head = read_head(folder.code)
        # A writer that was killed between the refs and the snapshot has said what HEAD was to be.
        if head is None or head.value not in (found[0].head.value, head_promised(folder.code)):
            text = "it is not what the last snapshot says"
            file = f"{folder.relative(folder.code)}/HEAD"
            checked.findings.append(Finding(file, text, folder.full_name, None, (snapshot.id,)))
        _compare_refs(folder, found[0], checked)
        return


def _compare_refs(folder: RepositoryFolder, wanted: Refs, checked: Checked) -> None:
    """The mirror's refs against the last snapshot's.

    Only a warning: a run that was killed between the two leaves them apart, too, and the next backup
    sets it right. What snapshots need is held by value, and was checked.
    """
    now = read_refs(folder.code).refs
    expected = {name: value for name, value in wanted.refs.items() if not name.startswith(b"refs/mirror/")}
    differing = {name for name in now.keys() | expected.keys() if now.get(name) != expected.get(name)}
    if differing:
        text = f"{len(differing)} refs are not what the last snapshot says; the next backup sets them right"
        file = f"{folder.relative(folder.code)}/packed-refs"
        first = name_to_json(min(differing))
        checked.findings.append(Finding(file, text, folder.full_name, first, (), "warning"))


def _check_documents(folder: RepositoryFolder | WorkspaceFolder, checked: Checked) -> None:
    """Every document is canonical JSON; what it points to is noted. Equal documents are read once."""
    previous: Snapshot | None = None
    for snapshot in checked.snapshots:
        try:
            changes = folder.metadata.diff(previous, snapshot)
        except StoreDamaged as damage:
            checked.findings.append(
                Finding(damage.file, damage.problem, folder.full_name, None, (snapshot.id,))
            )
            continue
        for path, _, blob in changes:
            if blob is not None:
                _check_document(folder, snapshot, path, checked)
        previous = snapshot


def _check_document(
    folder: RepositoryFolder | WorkspaceFolder, snapshot: Snapshot, path: str, checked: Checked
) -> None:
    def finding(problem: str) -> None:
        checked.findings.append(
            Finding(folder.metadata.file, f"{path}: {problem}", folder.full_name, path, (snapshot.id,))
        )

    try:
        data = folder.metadata.read_bytes(snapshot, path)
        if data is None:
            finding("the document is missing")
            return
        value = loads(data)
        if dumps(value) != data:
            finding("the document is not canonical JSON")
    except (StoreDamaged, NotCanonical) as error:
        finding(str(error))
        return
    for pointer in pointers(value):
        sha256 = pointer["sha256"]
        checked.pointers[sha256] = (*checked.pointers.get(sha256, ()), snapshot.id)
        checked.sizes[sha256] = pointer["size"]
