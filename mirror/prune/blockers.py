"""Why prune must leave a folder alone, whatever retention says: tripped brakes and unfinished backups."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.errors import TryLater
from mirror.model.elsewhere import Elsewhere
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import Store, StoreDamaged, WorkspaceFolder, current_workspace
from mirror.store.writing.unfinished_backup import has_unfinished_backup


@dataclass(frozen=True)
class Blocker:
    """Why nothing may be removed from a folder, and the exit code for it."""

    code: int
    reason: str


def find_blocker(store: Store, folder: AnyFolder) -> Blocker | None:
    """The reason why prune must leave `folder` alone, or None. The caller holds the folder's lock, so no
    backup takes a snapshot meanwhile."""
    older = store.rollback_problem(folder)
    if older is not None:
        return Blocker(4, f"{older}; restore a newer copy, or let the next backup continue from this one")
    if isinstance(folder, WorkspaceFolder):
        return _of_workspace(folder)
    # Read again under the lock: another run may have recorded a transfer.
    current = store.read_again(folder)
    home = current_workspace(current, store.workspaces(on_damage=_pass_over))
    if home is None:
        text = "its workspace cannot be read, so its brake cannot be checked"
        return Blocker(4, text)
    return _tripped(current) or _of_workspace(home)


async def find_obstacle(elsewhere: Elsewhere, store: Store, folder: AnyFolder) -> Blocker | None:
    """The reason why prune must leave `folder` alone because of the other hosts of a cluster, or None."""
    home: WorkspaceFolder | None
    if isinstance(folder, WorkspaceFolder):
        home = folder
    else:
        home = current_workspace(folder, store.workspaces(on_damage=_pass_over))
    reason = None if home is None else await elsewhere.obstacle(home.uuid)
    return None if reason is None else Blocker(TryLater.exit_code, reason)


def _of_workspace(workspace: WorkspaceFolder) -> Blocker | None:
    if has_unfinished_backup(workspace.root / workspace.place):
        return Blocker(
            11,
            f"a backup of {workspace.slug} is running, or was interrupted;"
            " nothing is removed until a backup completes",
        )
    return _tripped(workspace)


def _tripped(folder: AnyFolder) -> Blocker | None:
    try:
        losses = folder.brake().losses
    except StoreDamaged as damage:
        text = f"{damage.file} is damaged: {damage.problem}; restore it, or run mirror accept-loss"
        return Blocker(4, f"{text} {folder.full_name}")
    if not losses:
        return None
    more = f", and {len(losses) - 1} more" if len(losses) > 1 else ""
    return Blocker(5, f"{losses[0]}{more}; see mirror accept-loss {folder.full_name}")


def _pass_over(damage: StoreDamaged) -> None:
    """Skip a damaged workspace: the run reports it."""
