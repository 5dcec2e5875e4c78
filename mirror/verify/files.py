"""Verifying stored files: every file has its hash, and every file that a document points to exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mirror.model import Finding
from mirror.store.format.layout import FILES, lfs_object
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import StoreDamaged, StoredFile
from mirror.verify.snapshots import Checked

_CHUNK = 1 << 20


@dataclass
class FilesChecked:
    """The number of files read, and the findings."""

    count: int = 0
    findings: list[Finding] = field(default_factory=list)


def check_files(folder: AnyFolder, checked: Checked) -> FilesChecked:
    """Re-hash every stored file and LFS object of a folder. Never raises for damage."""
    result = FilesChecked()
    name = folder.full_name

    def note(damage: StoreDamaged) -> None:
        result.findings.append(Finding(damage.file, damage.problem, name, severity="warning"))

    there: set[str] = set()
    for stored in folder.files(note):
        try:
            problem = _fault(stored, checked.sizes.get(stored.sha256))
        except FileNotFoundError:
            continue  # prune or erase removed it; if a document needs it, it is found below
        result.count += 1
        there.add(stored.sha256)
        if problem is not None:
            snapshots = tuple(sorted(set(checked.pointers.get(stored.sha256, ()))))
            result.findings.append(Finding(stored.file, problem, name, stored.sha256, snapshots))
    try:
        dropped = folder.dropped()
    except StoreDamaged as damage:
        note(damage)
        dropped = {}
    for sha256 in sorted(checked.pointers.keys() - there - dropped.keys()):
        text, place = "a file that a document points to is missing", f"{FILES}/{sha256[:2]}/{sha256}"
        _missing(folder, sha256, text, place, checked.pointers, result)
    _check_lfs(folder, checked, result)
    return result


def _check_lfs(folder: AnyFolder, checked: Checked, result: FilesChecked) -> None:
    there: set[str] = set()
    for path in folder.lfs_objects():
        stored = StoredFile(path.name, folder.relative(path), path)
        try:
            problem = _fault(stored, None)
        except FileNotFoundError:
            continue
        result.count += 1
        there.add(stored.sha256)
        if problem is not None:
            snapshots = tuple(sorted(set(checked.lfs.get(stored.sha256, ()))))
            result.findings.append(Finding(stored.file, problem, folder.full_name, stored.sha256, snapshots))
    for sha256 in sorted(checked.lfs.keys() - there):
        text = "an LFS object that a snapshot lists as held is missing"
        _missing(folder, sha256, text, lfs_object(sha256), checked.lfs, result)


def _missing(
    folder: AnyFolder,
    sha256: str,
    text: str,
    place: str,
    users: Mapping[str, tuple[str, ...]],
    result: FilesChecked,
) -> None:
    snapshots = tuple(sorted(set(users[sha256])))
    result.findings.append(Finding(folder.relative(place), text, folder.full_name, sha256, snapshots))


def _fault(stored: StoredFile, size: int | None) -> str | None:
    """Why a file does not match its sha256 (and `size`, if given), or None. Raises FileNotFoundError."""
    read = 0
    try:
        with stored.open() as stream:
            while chunk := stream.read(_CHUNK):
                read += len(chunk)
    except FileNotFoundError:
        raise
    except StoreDamaged as damage:
        return damage.problem
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "its size is not what the document says" if size not in (None, read) else None
