"""Comparing snapshots with run records, with each other, and with the refs of the mirrors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mirror.git.mirrors.fsck import direct_values
from mirror.git.refs import head_promised, packed_fault, read_head, read_refs
from mirror.model import Finding, NotCanonical, Refs, Snapshot, dumps, loads, name_to_json, pointers
from mirror.store.format.layout import LFS_DOCUMENTS, MAIN
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import StoreDamaged
from mirror.verify.ledger import check_ledger
from mirror.verify.records import Expected


@dataclass
class Checked:
    """The results for one folder: by mirror the hashes that snapshots name (`named`), the files that
    documents point to (`pointers`, `sizes`), and the LFS objects that the store must have (`lfs`); each with
    the ids of the snapshots."""

    findings: list[Finding] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    named: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    pointers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    lfs: dict[str, tuple[str, ...]] = field(default_factory=dict)


def check_snapshots(
    folder: AnyFolder, expected: Expected | None, level: Literal["refs", "objects"]
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
    checked.findings += check_ledger(folder, expected, there, checked.snapshots)
    _check_repositories(folder, checked)
    _check_order(folder, checked)
    _check_refs(folder, checked)
    if level == "objects":
        _check_documents(folder, checked)
    return checked


def _check_repositories(folder: AnyFolder, checked: Checked) -> None:
    """Check the checksums of the refs, and the HEAD of the documents."""
    paths = [folder.metadata.path, *folder.mirrors().values()]
    for path in paths:
        if not path.exists():
            continue
        try:
            fault = packed_fault(path)
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        if fault is not None:
            every = tuple(snapshot.id for snapshot in checked.snapshots)
            file = f"{folder.relative(path)}/packed-refs"
            checked.findings.append(Finding(file, fault, folder.full_name, None, every))
    head = folder.metadata.path / "HEAD"
    if checked.snapshots and not _has_content(head, f"ref: {MAIN}\n".encode("ascii")):
        file = f"{folder.metadata.file}/HEAD"
        checked.findings.append(Finding(file, f"it does not point to {MAIN}", folder.full_name))


def _has_content(path: Path, content: bytes) -> bool:
    """Whether a file has exactly this content."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _check_order(folder: AnyFolder, checked: Checked) -> None:
    """Check that each sequence occurs once (retention leaves gaps), and that the uuid is the folder's."""
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


def _check_refs(folder: AnyFolder, checked: Checked) -> None:
    """Check the keep rule: every hash that a snapshot names is the value of a ref."""

    def note(snapshot: Snapshot, damage: StoreDamaged) -> None:
        finding = Finding(damage.file, damage.problem, folder.full_name, None, (snapshot.id,))
        checked.findings.append(finding)

    checked.named = folder.metadata.hash_usage(checked.snapshots, note)
    named = {mirror: one for mirror, one in checked.named.items() if one}
    left = {mirror for mirror, one in named.items() if _check_keep_rule(folder, mirror, one, checked)}
    for snapshot in reversed(checked.snapshots):
        if not left:
            return
        try:
            mirrors = folder.metadata.mirrors(snapshot)
        except StoreDamaged:
            continue
        for mirror in sorted(left & mirrors.keys()):
            if mirrors[mirror].refs.head is not None:
                left.discard(mirror)
                _check_head(folder, mirror, snapshot, mirrors[mirror].refs, checked)


def _check_keep_rule(
    folder: AnyFolder,
    mirror: str,
    named: Mapping[str, tuple[str, ...]],
    checked: Checked,
) -> bool:
    """Find the named hashes that no ref has; returns whether the refs can be read."""
    path = folder.mirror(mirror)
    file = f"{folder.relative(path)}/packed-refs"
    try:
        held = direct_values(path)
    except (OSError, ValueError) as error:
        everything = tuple(snapshot.id for snapshot in checked.snapshots)
        text = f"its refs cannot be read: {error}"
        checked.findings.append(Finding(file, text, folder.full_name, None, everything))
        return False
    for value in sorted(named.keys() - held):
        text = "a hash that a snapshot names is no longer the value of any ref"
        checked.findings.append(Finding(file, text, folder.full_name, value, named[value]))
    return True


def _check_head(folder: AnyFolder, mirror: str, snapshot: Snapshot, refs: Refs, checked: Checked) -> None:
    """Check that a mirror's HEAD is that of the last snapshot which has one."""
    path = folder.mirror(mirror)
    head = read_head(path)
    assert refs.head is not None
    # A writer killed between refs and snapshot left a note of the new HEAD.
    if head is None or head.value not in (refs.head.value, head_promised(path)):
        text = "it is not what the last snapshot says"
        file = f"{folder.relative(path)}/HEAD"
        checked.findings.append(Finding(file, text, folder.full_name, None, (snapshot.id,)))
    _compare_refs(folder, path, refs, checked)


def _compare_refs(folder: AnyFolder, path: Path, wanted: Refs, checked: Checked) -> None:
    """Compare a mirror's refs with those of the last snapshot.

    A difference is only a warning: a killed run leaves one, and the next backup corrects it. The hashes that
    snapshots need were checked by value.
    """
    now = read_refs(path).refs
    expected = {name: value for name, value in wanted.refs.items() if not name.startswith(b"refs/mirror/")}
    differing = {name for name in now.keys() | expected.keys() if now.get(name) != expected.get(name)}
    if differing:
        text = f"{len(differing)} refs are not what the last snapshot says; the next backup sets them right"
        file = f"{folder.relative(path)}/packed-refs"
        first = name_to_json(min(differing))
        checked.findings.append(Finding(file, text, folder.full_name, first, (), "warning"))


def _check_documents(folder: AnyFolder, checked: Checked) -> None:
    """Check that every document is canonical JSON, and note its pointers. Equal documents are read once."""
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


def _check_document(folder: AnyFolder, snapshot: Snapshot, path: str, checked: Checked) -> None:
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
    if path.startswith(LFS_DOCUMENTS) and isinstance(value, dict):
        for sha256, one in value.items():
            if isinstance(one, dict) and one.get("held"):
                checked.lfs[sha256] = (*checked.lfs.get(sha256, ()), snapshot.id)
    for pointer in pointers(value):
        sha256 = pointer["sha256"]
        checked.pointers[sha256] = (*checked.pointers.get(sha256, ()), snapshot.id)
        checked.sizes[sha256] = pointer["size"]
