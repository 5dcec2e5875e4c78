"""What keeps prune from a folder, whatever retention says: tripped brakes and unfinished backups."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.prune.common import Folder
from mirror.store.reading.reader import Store, StoreDamaged, WorkspaceFolder, current_workspace
from mirror.store.writing.unfinished_backup import has_unfinished_backup


@dataclass(frozen=True)
class Blocker:
    """Why nothing of a folder may go, and the exit code of that."""

    code: int
    reason: str


def find_blocker(store: Store, folder: Folder) -> Blocker | None:
    """What keeps prune from `folder`, or None. The caller holds the folder's lock, so that no backup of it
    takes a snapshot meanwhile."""
    older = store.rollback_problem(folder)
    if older is not None:
        return Blocker(4, f"{older}; bring back a newer copy, or let the next backup begin from this one")
    if isinstance(folder, WorkspaceFolder):
        return _of_workspace(folder)
    # Read again under the lock: a transfer may have been noticed meanwhile.
    current = store.read_again(folder)
    home = current_workspace(current, store.workspaces(on_damage=_pass_over))
    if home is None:
        text = "the workspace that it is in cannot be read, so nobody can tell whether its brake is tripped"
        return Blocker(4, text)
    return _tripped(current) or _of_workspace(home)


def _of_workspace(workspace: WorkspaceFolder) -> Blocker | None:
    if has_unfinished_backup(workspace.root / workspace.place):
        return Blocker(
            11,
            f"a backup of {workspace.slug} is at work, or was stopped before its end;"
            " nothing is let go until one has ended",
        )
    return _tripped(workspace)


def _tripped(folder: Folder) -> Blocker | None:
    try:
        losses = folder.brake().losses
    except StoreDamaged as damage:
        text = f"{damage.file} is damaged: {damage.problem}; bring it back, or run mirror accept-loss"
        return Blocker(4, f"{text} {folder.full_name}")
    if not losses:
        return None
    more = f", and {len(losses) - 1} more" if len(losses) > 1 else ""
    return Blocker(5, f"{losses[0]}{more}; see mirror accept-loss {folder.full_name}")


def _pass_over(damage: StoreDamaged) -> None:
    """Pass a workspace with a damaged card over: the run names it."""
