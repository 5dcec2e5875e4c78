"""Documents and files of a snapshot as plain files in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from mirror.errors import DamageFound
from mirror.model import Snapshot, loads, pointers
from mirror.store.reader import RepositoryFolder, WorkspaceFolder

METADATA = "metadata"
FILES = "files"


def write_documents(
    folder: RepositoryFolder | WorkspaceFolder,
    snapshot: Snapshot,
    target: Path,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[int, int]:
    """Write the snapshot's documents below `target`/metadata and the files that they point to below
    `target`/files, each under its sha256; returns how many documents there were, and how many of the
    files retention has let go (old step logs): these cannot be had, and that is no damage.

    Raises DamageFound where a file that a document points to is missing or damaged.
    """
    count = 0
    files: set[str] = set()
    for path in folder.metadata.paths(snapshot):
        data = folder.metadata.read_bytes(snapshot, path)
        assert data is not None
        place = target / METADATA / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        files.update(pointer["sha256"] for pointer in pointers(loads(data)))
        count += 1
        tell(f"{count} documents")
    let_go = {sha256 for sha256 in files & folder.dropped().keys() if folder.find_file(sha256) is None}
    for sha256 in sorted(files - let_go):
        _write_file(folder, sha256, target / FILES / sha256[:2] / sha256)
    return count, len(let_go)


def _write_file(folder: RepositoryFolder | WorkspaceFolder, sha256: str, target: Path) -> None:
    stream = folder.file(sha256)
    if stream is None:
        raise DamageFound(f"{folder.full_name}: the file {sha256} is missing", hint="run mirror verify")
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with stream, target.open("wb") as out:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != sha256:
        raise DamageFound(f"{folder.full_name}: the file {sha256} is damaged", hint="run mirror verify")
