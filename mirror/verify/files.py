"""Stored files: each hashed again, and each that a document points to there."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field

from mirror.model import Finding
from mirror.store.reader import RepositoryFolder, StoreDamaged
from mirror.verify.snapshots import Checked


@dataclass
class FilesChecked:
    """How many files were read, and what is wrong."""

    count: int = 0
    findings: list[Finding] = field(default_factory=list)


def check_files(folder: RepositoryFolder, checked: Checked) -> FilesChecked:
    """Re-hash every stored file of a repository. Never raises for damage."""
    result = FilesChecked()
    name = folder.full_name

    def note(damage: StoreDamaged) -> None:
        result.findings.append(Finding(damage.file, damage.problem, name, severity="warning"))

    there: set[str] = set()
    for stored in folder.files(note):
        result.count += 1
        there.add(stored.sha256)
        snapshots = tuple(sorted(set(checked.pointers.get(stored.sha256, ()))))
        problem = None
        try:
            digest, size = hashlib.sha256(), 0
            with stored.open() as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
                    size += len(chunk)
            if digest.hexdigest() != stored.sha256:
                problem = "its content has another sha256"
            elif checked.sizes.get(stored.sha256, size) != size:
                problem = "its size is not what the document says"
        except (OSError, EOFError, zlib.error) as error:
            problem = f"cannot be read: {error}"
        if problem is not None:
            result.findings.append(Finding(stored.file, problem, name, stored.sha256, snapshots))
    for sha256 in sorted(checked.pointers.keys() - there):
        text = "a file that a document points to is missing"
        snapshots = tuple(sorted(set(checked.pointers[sha256])))
        result.findings.append(Finding(folder.relative("files"), text, name, sha256, snapshots))
    return result
