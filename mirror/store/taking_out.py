"""What a restore and an export do alike: which snapshot of each folder, and where it is written."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from mirror.errors import MirrorError, UsageError
from mirror.model import time_text
from mirror.store.failures import StoreDamaged
from mirror.store.reader import At, RepositoryFolder, WorkspaceFolder

# What belongs to a workspace and to no repository is written here; no repository can be called so.
WORKSPACE = "~workspace"
RESTORING, EXPORTING = "restoring", "exporting"
Folder = RepositoryFolder | WorkspaceFolder


def choose(folders: Sequence[Folder], at: str) -> list[At | MirrorError]:
    """The snapshot of each of `folders` that `at` names, or why there is none.

    Raises that (UsageError or StoreDamaged) where it is so of all of them: of one that was named, or
    with an `at` that makes no sense.
    """
    found = [_snapshot_at(folder, at) for folder in folders]
    if found and all(isinstance(one, MirrorError) for one in found):
        raise next(one for one in found if isinstance(one, MirrorError))
    return found


def _snapshot_at(folder: Folder, at: str) -> At | MirrorError:
    try:
        return folder.metadata.at(at)
    except StoreDamaged as error:
        return error
    except UsageError as error:
        gone = next((one for one in folder.erasures() if one.is_everything), None)
        if gone is None:
            return error
        return UsageError(f"{folder.full_name} was erased on {time_text(gone.at)}: {gone.reason}")


def problem_of(error: MirrorError) -> tuple[int, str]:
    """What is told of one of several that has no snapshot then: it is missing, or damaged."""
    return 3 if isinstance(error, UsageError) else error.exit_code, error.message


def place_of(folder: RepositoryFolder, others: Sequence[RepositoryFolder]) -> Path:
    """Where one of several repositories is written: `workspace/repository`; where two of them have this
    name (one is gone, and its name was used again), by the names of their folders."""
    same = [one for one in others if one.full_name == folder.full_name]
    return Path(folder.workspace_slug) / (folder.slug if len(same) == 1 else folder.folder)


def unfinished_at(place: Path, word: str) -> Path:
    """Where that is made which comes to `place` once it is whole: on the same disk, so in the place itself
    where that is there already (it may be a mount point), else beside it."""
    mark = f"{word}-{secrets.token_hex(4)}"
    return place / f".{mark}" if place.is_dir() else place.with_name(f".{place.name}.{mark}")


def remove_unfinished(unfinished: Path) -> list[tuple[int, str]]:
    """Remove what was not moved to its place; returns the problem of what is left all the same."""
    shutil.rmtree(unfinished, ignore_errors=True)
    return [(1, f"what is not finished is left at {unfinished}")] if unfinished.exists() else []


def not_empty(place: Path) -> str:
    """How to say that there is something at `place`, and that it may come from one that was stopped."""
    left = sorted(
        path.name for word in (RESTORING, EXPORTING) for path in place.glob(f".{word}-*") if path.is_dir()
    )
    if not left:
        return f"{place} is not empty; nothing was written"
    names = ", ".join(left)
    return (
        f"{place} is not empty: a restore or export that was stopped left {names} there; nothing was written"
    )
