"""Which snapshot of each folder is taken out, and where several of them go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mirror.errors import MirrorError, UsageError
from mirror.extract.consistency import Folder, read_consistently
from mirror.model import Selector, time_text
from mirror.store.reading.reader import At, RepositoryFolder, Store, StoreDamaged, WorkspaceFolder

# What belongs to a workspace and to no repository is written here; no repository can be called so.
WORKSPACE = "~workspace"


def readable(
    store: Store, selector: Selector, *, homes: bool = True
) -> tuple[list[RepositoryFolder], list[WorkspaceFolder], list[StoreDamaged]]:
    """The repositories that `selector` means, with `homes` the workspaces that it names as a whole, and the
    folders of which nobody can tell whose they are.

    Raises UsageError where it means no repository, and StoreDamaged where it means a damaged one alone.
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
    """The message about a folder whose owner nobody can tell: its name, and what is wrong."""
    return damage.file.rpartition("/")[0], (problem_of(damage),)


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
        return snapshot_at(folder, at)
    except (StoreDamaged, UsageError) as error:
        return error


def snapshot_at(folder: Folder, at: str) -> At:
    """The snapshot of a folder that `at` names. Raises UsageError, also where everything was erased, and
    StoreDamaged."""
    try:
        return read_consistently(folder, lambda: folder.metadata.at(at))
    except UsageError:
        gone = next((one for one in folder.erasures() if one.is_everything), None)
        if gone is None:
            raise
        raise UsageError(f"{folder.full_name} was erased on {time_text(gone.at)}: {gone.reason}") from None


def problem_of(error: MirrorError) -> tuple[int, str]:
    """The problem of one of several that has no snapshot then: it is missing, or damaged."""
    return 3 if isinstance(error, UsageError) else error.exit_code, error.message


def places_of(folders: Sequence[RepositoryFolder]) -> list[Path]:
    """Where each of several repositories is written: `workspace/repository`; where two of them have this
    name (one is gone, and its name was used again), by the names of their folders."""
    times = Counter(one.full_name for one in folders)
    return [
        Path(one.workspace_slug) / (one.slug if times[one.full_name] == 1 else one.folder) for one in folders
    ]
