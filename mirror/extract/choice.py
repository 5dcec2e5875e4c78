"""Which snapshot of each folder to extract, and the target folder of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mirror.errors import MirrorError, UsageError
from mirror.extract.consistency import read_consistently
from mirror.model import Selector, time_text
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, RepositoryFolder, Store, StoreDamaged, WorkspaceFolder

# The target of what belongs to a workspace itself; no repository can have this name.
WORKSPACE = "~workspace"


def readable(
    store: Store, selector: Selector, *, homes: bool = True
) -> tuple[list[RepositoryFolder], list[WorkspaceFolder], list[StoreDamaged]]:
    """The repositories that `selector` matches, with `homes` the workspaces that it names as a whole, and the
    damage of folders that cannot be identified.

    Raises UsageError where it matches no repository, and StoreDamaged where it matches only a damaged one.
    """
    damages: list[StoreDamaged] = []
    folders = store.repositories([selector], damages.append)
    if damages and (selector.is_exact or not folders):
        raise damages[0]
    if not folders:
        raise UsageError(f"{selector} has no repository in this store")
    whole = homes and selector.repository is None
    return folders, store.workspaces([selector], damages.append) if whole else [], damages


def unreadable(damage: StoreDamaged) -> tuple[str, tuple[tuple[int, str], ...]]:
    """The name and the problems of a folder that cannot be identified."""
    return damage.file.rpartition("/")[0], (problem_of(damage),)


def choose(folders: Sequence[AnyFolder], at: str) -> list[At | MirrorError]:
    """The snapshot of each of `folders` that `at` selects, or the error where there is none.

    Raises the first error (UsageError or StoreDamaged) where no folder has one.
    """
    found = [_snapshot_at(folder, at) for folder in folders]
    if found and all(isinstance(one, MirrorError) for one in found):
        raise next(one for one in found if isinstance(one, MirrorError))
    return found


def _snapshot_at(folder: AnyFolder, at: str) -> At | MirrorError:
    try:
        return snapshot_at(folder, at)
    except (StoreDamaged, UsageError) as error:
        return error


def snapshot_at(folder: AnyFolder, at: str) -> At:
    """The snapshot of a folder that `at` selects. Raises UsageError, also where everything was erased, and
    StoreDamaged."""
    try:
        return read_consistently(folder, lambda: folder.metadata.at(at))
    except (UsageError, StoreDamaged):
        gone = next((one for one in folder.erasures() if one.is_everything), None)
        if gone is None:
            raise
        raise UsageError(f"{folder.full_name} was erased on {time_text(gone.at)}: {gone.reason}") from None


def problem_of(error: MirrorError) -> tuple[int, str]:
    """The exit code and text for one folder of several without a snapshot."""
    return 3 if isinstance(error, UsageError) else error.exit_code, error.message


def places_of(folders: Sequence[RepositoryFolder]) -> list[Path]:
    """The target of each repository: `workspace/repository`, or the folder name where two have the same name
    (a name that was used again)."""
    times = Counter(one.full_name for one in folders)
    return [
        Path(one.workspace_slug) / (one.slug if times[one.full_name] == 1 else one.folder) for one in folders
    ]
