"""Plain files of a snapshot: its documents as JSON, its files, and an ordinary git clone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import MirrorError, UsageError
from mirror.git.copies import checkout
from mirror.git.failures import GitFailed
from mirror.git.lfs import LfsFindJob, find, is_sound
from mirror.git.lfs_transfer import object_path
from mirror.git.lfs_walk import LFS
from mirror.model import JsonObject, Selector, loads, pointers, time_text
from mirror.store.reader import At, RepositoryFolder, Store
from mirror.store.taking_out import (
    EXPORTING,
    WORKSPACE,
    Folder,
    choose,
    not_empty,
    place_of,
    problem_of,
    remove_unfinished,
    unfinished_at,
)

CODE = "code"
METADATA = "metadata"
FILES = "files"


@dataclass(frozen=True)
class Exported:
    """One repository's export; `when` is None where it had no snapshot then. `is_there`: at the target, in
    full or in part."""

    name: str
    when: At | None
    target: str
    documents: int = 0
    files: int = 0
    refs: int = 0
    is_there: bool = False
    problems: tuple[tuple[int, str], ...] = ()

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {
            "repository": self.name,
            "snapshot": self.when.snapshot.id if self.when else None,
            "taken": time_text(self.when.taken) if self.when else None,
            "target": self.target,
            "documents": self.documents,
            "files": self.files,
            "refs": self.refs,
            "is_there": self.is_there,
            "problems": [{"code": code, "text": text} for code, text in self.problems],
        }


def export(
    path: Path,
    selector: Selector,
    target: Path,
    *,
    at: str = "latest",
    tell: Callable[[str, str], None] = lambda *_: None,
) -> list[Exported]:
    """Write what `selector` means to the folder `target`, as it was `at`.

    One repository: `code`, `wiki` where there is one, `metadata` and `files` in it; several: the same
    below `workspace/repository`, and of a whole workspace what is its own below
    `workspace/~workspace`. Raises UsageError where the folder is not empty; what happens to one of
    several is in its own export, also that it had no snapshot then.
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is not a folder; nothing was written")
    if target.exists() and any(target.iterdir()):
        raise UsageError(not_empty(target), hint="name an empty folder, or a new one")
    with Store.open(path) as store:
        folders = store.repositories([selector])
        if not folders:
            raise UsageError(f"{selector} has no repository in this store")
        homes = store.workspaces([selector]) if selector.repository is None else []
        places: list[tuple[Folder, Path]] = [
            (one, target / one.slug / WORKSPACE) for one in homes if one.metadata.tags()
        ]
        places += [(one, target if selector.is_exact else target / place_of(one, folders)) for one in folders]
        chosen = choose([one for one, _ in places], at)
        return [
            _export(folder, when, place, tell)
            if isinstance(when, At)
            else Exported(folder.full_name, None, str(place), problems=(problem_of(when),))
            for (folder, place), when in zip(places, chosen, strict=True)
        ]


def _export(folder: Folder, when: At, target: Path, tell: Callable[[str, str], None]) -> Exported:
    name, snapshot = folder.full_name, when.snapshot
    unfinished = unfinished_at(target, EXPORTING)
    is_there = False
    documents = files = refs = 0
    problems: list[tuple[int, str]] = []
    try:
        unfinished.mkdir(parents=True)
        tell(name, "documents")
        documents, files, missing = _write_tree(folder, when, unfinished)
        problems += missing
        mirrors = folder.metadata.mirrors(snapshot)
        if isinstance(folder, RepositoryFolder) and CODE not in mirrors:
            problems.append((3, f"{name}: the snapshot has no code, which could not be read then"))
        for mirror, told in mirrors.items():
            tell(name, mirror)
            refs += len(told.refs.refs)
            checkout(folder.mirror(mirror), unfinished / mirror, told.refs)
        if isinstance(folder, RepositoryFolder) and CODE in mirrors:
            tell(name, "LFS objects")
            tips = list(mirrors[CODE].refs.refs.values())
            problems += _copy_objects(folder, when, unfinished / CODE / ".git", tips)
        if unfinished.parent == target:
            for child in sorted(unfinished.iterdir()):
                child.rename(target / child.name)
                is_there = True
        else:
            unfinished.rename(target)
            is_there = True
    except MirrorError as error:
        problems.append((error.exit_code, error.message))
    except OSError as error:
        problems.append((1, f"{error.strerror}: {error.filename}"))
    finally:
        problems += remove_unfinished(unfinished)
        tell(name, "done")
    counts = (documents, files, refs) if is_there else (0, 0, 0)
    return Exported(name, when, str(target), *counts, is_there, tuple(problems))


def _write_tree(folder: Folder, when: At, target: Path) -> tuple[int, int, list[tuple[int, str]]]:
    documents, files, problems = 0, 0, []
    dropped = folder.dropped()
    for path in folder.metadata.paths(when.snapshot):
        data = folder.metadata.read_bytes(when.snapshot, path) or b""
        place = target / METADATA / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        documents += 1
        for pointer in pointers(loads(data)):
            stream = folder.file(str(pointer["sha256"]))
            if stream is None and pointer["sha256"] in dropped:
                continue  # retention let it go
            if stream is None:
                problems.append((4, f"{folder.full_name}: the file {pointer['sha256']} is missing"))
                continue
            copy = target / FILES / _file_name(pointer)
            copy.parent.mkdir(exist_ok=True)
            with stream, copy.open("wb") as out:
                shutil.copyfileobj(stream, out)
            files += 1
    return documents, files, problems


def _copy_objects(
    folder: RepositoryFolder, when: At, git_folder: Path, tips: Sequence[str]
) -> list[tuple[int, str]]:
    """Copy the LFS objects that `tips` reach to where git-lfs looks for them; returns what is wrong."""
    listed = folder.metadata.lfs(when.snapshot) or {}
    problems = []
    try:
        reached = find(LfsFindJob(str(folder.code), tuple(tips))).objects
    except GitFailed as error:  # the code may be whole for all that
        return [(4, error.message)]
    for oid in reached:
        source = folder.lfs_object(oid)
        target = object_path(git_folder / LFS, oid)
        if source is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not is_sound(source, oid, target):
                target.unlink()
                problems.append((4, f"{folder.full_name}: the LFS object {oid} is damaged"))
        elif listed.get(oid, (0, False))[1]:
            problems.append((4, f"{folder.full_name}: the LFS object {oid} is missing"))
    return problems


def _file_name(pointer: JsonObject) -> str:
    """A name for people that is safe on any disk: the hash keeps two of one name apart."""
    name = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in str(pointer["name"]))
    return f"{str(pointer['sha256'])[:12]}-{name.lstrip('.')[-80:]}"
