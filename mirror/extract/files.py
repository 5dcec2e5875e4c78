"""Extracting documents, stored files and LFS objects. Each is hashed while it is copied. A damaged or missing
one is a problem; all others are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirror.git.lfs.reachable import LFS
from mirror.git.lfs.sync import LfsFindJob, LfsFindResult
from mirror.git.lfs.transfer import object_path
from mirror.git.workers.job import Job
from mirror.model import JsonObject, NotCanonical, Snapshot, loads, pointers
from mirror.store.format.layout import check_path
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder, StoreDamaged, StoredFile

METADATA = "metadata"
FILES = "files"
_CHUNK = 1 << 20
_NAME_BYTES_MAX = 120

Problems = list[tuple[int, str]]
# Called with a few words, and how much is done of how much, where that is known.
TellProgress = Callable[..., None]


@dataclass
class Written:
    """The number of documents and files written, and of step logs that retention removed; and the problems,
    each with an exit code."""

    documents: int = 0
    files: int = 0
    logs_let_go: int = 0
    problems: Problems = field(default_factory=list)

    def damage(self, folder: AnyFolder, text: str) -> None:
        """Add a problem of damage."""
        self.problems.append((4, f"{folder.full_name}: {text}"))


def write_documents(
    folder: AnyFolder, snapshot: Snapshot, target: Path, report: TellProgress, *, by_name: bool
) -> Written:
    """Write the snapshot's documents to `target`/metadata, and the files that they point to to
    `target`/files: named by sha256, or `by_name` readably.

    Raises StoreDamaged where the list of documents is damaged, and OSError for errors of the target.
    """
    written = Written()
    needed: dict[str, str] = {}
    for path, data in _documents(folder, snapshot, written):
        place = target / METADATA / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        written.documents += 1
        report("documents", written.documents)
        try:
            for pointer in pointers(loads(data)):
                name = (
                    _name_for_people(pointer) if by_name else f"{pointer['sha256'][:2]}/{pointer['sha256']}"
                )
                needed[name] = pointer["sha256"]
        except NotCanonical as error:
            written.damage(folder, f"{folder.metadata.file} ({snapshot.id}:{path}) is damaged: {error}")
    dropped = _dropped(folder, written)
    removed = set()
    for name, sha256 in sorted(needed.items()):
        found = folder.find_file(sha256)
        if found is not None and _copy(folder, found, target / FILES / name, written):
            written.files += 1
            report("files", written.files)
        elif found is None and (sha256 in dropped or sha256 in _dropped(folder, written)):
            removed.add(sha256)
        elif found is None:
            written.damage(folder, f"the file {sha256} is missing")
    written.logs_let_go = len(removed)
    return written


def _documents(folder: AnyFolder, snapshot: Snapshot, written: Written) -> Iterator[tuple[str, bytes]]:
    """The undamaged documents, each with its path."""
    for path in folder.metadata.paths(snapshot):
        try:
            check_path(path)
            data = folder.metadata.read_bytes(snapshot, path)
        except ValueError as error:
            written.damage(folder, f"{folder.metadata.file} ({snapshot.id}) is damaged: {error}")
        except StoreDamaged as damage:
            written.damage(folder, damage.message)
        else:
            if data is not None:
                yield path, data


def _dropped(folder: AnyFolder, written: Written) -> Mapping[str, str]:
    """The step logs that retention removed. Read it again where one is missing: prune may be running."""
    try:
        return folder.dropped()
    except StoreDamaged as damage:
        problem = (4, f"{folder.full_name}: {damage.message}")
        if problem not in written.problems:
            written.problems.append(problem)
        return {}


def _copy(folder: AnyFolder, stored: StoredFile, target: Path, written: Written) -> bool:
    """Copy a stored file to `target` while hashing it; returns whether it is intact. A damaged copy is
    removed. Raises OSError for errors of the target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        try:
            with stored.open() as stream:
                while chunk := stream.read(_CHUNK):
                    out.write(chunk)
        except StoreDamaged as damage:
            written.damage(folder, damage.message)
        except FileNotFoundError:
            written.damage(folder, f"{stored.file} is missing")
        except PermissionError as error:
            if str(error.filename) != str(stored.path):
                raise
            written.problems.append(
                (1, f"{folder.full_name}: {stored.file} cannot be read: run as its owner")
            )
        else:
            return True
    target.unlink()
    return False


def _name_for_people(pointer: JsonObject) -> str:
    """A readable name that every file system accepts; the hash distinguishes equal names."""
    name = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in str(pointer["name"]))
    short = name.lstrip(".").encode("utf-8")[-_NAME_BYTES_MAX:].decode("utf-8", "ignore")
    return f"{str(pointer['sha256'])[:12]}-{short}"


@dataclass
class Objects:
    """The LFS objects that refs reach: how many were copied, and how many the store never had."""

    restored: int = 0
    absent: int = 0
    problems: Problems = field(default_factory=list)


def lfs_reached(
    folder: RepositoryFolder,
    snapshot: Snapshot,
    repository: Path,
    tips: Iterable[str],
    do: Callable[[Job[LfsFindResult]], LfsFindResult],
) -> list[str]:
    """The LFS objects that the hashes `tips` reach in `repository`. Raises GitFailed and StoreDamaged.

    A snapshot lists all objects that its refs reach: if it lists none, nothing is read.
    """
    if folder.metadata.lfs(snapshot) == {}:
        return []
    return sorted(do(LfsFindJob(str(repository), tuple(sorted(set(tips))))).objects)


def copy_objects(
    folder: RepositoryFolder, snapshot: Snapshot, oids: Sequence[str], git_folder: Path, report: TellProgress
) -> Objects:
    """Copy LFS objects to the place where git-lfs finds them in the repository at `git_folder`.

    Raises StoreDamaged where the snapshot's list of objects is damaged, and OSError.
    """
    listed: Mapping[str, tuple[int, bool]] = folder.metadata.lfs(snapshot) or {}
    done, written = Objects(), Written()
    for oid in oids:
        target = object_path(git_folder / LFS, oid)
        source = folder.lfs_object(oid)
        if source is None and listed.get(oid, (0, False))[1]:
            written.damage(folder, f"the LFS object {oid} is missing")
        elif source is None:
            done.absent += 1
        elif target.exists() or _copy_beside(folder, source, target, written):
            done.restored += 1
            report("LFS objects", done.restored, len(oids))
    done.problems = written.problems
    return done


def _copy_beside(folder: AnyFolder, source: Path, target: Path, written: Written) -> bool:
    """Copy an LFS object, and rename it to its place: the repository may be in use."""
    stored = StoredFile(source.name, folder.relative(source), source)
    beside = target.with_name(f"{target.name}.part-{os.getpid()}")
    if not _copy(folder, stored, beside, written):
        return False
    beside.rename(target)
    return True
