"""Marks unfinished backups of a workspace, so that prune removes nothing from it.

The file `unfinished` in the workspace's folder has a line for each backup that began; a running backup holds
a shared lock (flock) on it. A backup that completes empties the file, unless another one still runs. The line
of a killed backup stays until the next one completes.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mirror.fs.durable import sync_folder
from mirror.store.format import layout


class UnfinishedMark:
    """The mark of one backup, from `begin` to `finish` or `leave`."""

    def __init__(self, descriptor: int, *, was_unfinished: bool) -> None:
        self._descriptor = descriptor
        # Whether another backup was killed, or still runs.
        self.was_unfinished = was_unfinished

    @classmethod
    def begin(cls, workspace: Path, run: str) -> UnfinishedMark:
        """Record durably that the backup `run` of the workspace in the folder `workspace` has begun."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        is_new = not (workspace / layout.UNFINISHED_FILE).exists()
        descriptor = os.open(workspace / layout.UNFINISHED_FILE, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            was_unfinished = os.fstat(descriptor).st_size > 0
            os.write(descriptor, f"{run}\n".encode("ascii"))
            os.fsync(descriptor)
            if is_new:
                sync_folder(workspace)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, was_unfinished=was_unfinished)

    def finish(self) -> None:
        """The backup is complete and the brake was judged. A second call does nothing.

        It empties the file of the lines of killed backups too: where `was_unfinished`, only a backup of the
        whole workspace may do so.
        """
        if self._descriptor < 0:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.fsync(self._descriptor)
        except BlockingIOError:
            pass  # another backup runs, and will empty the file
        finally:
            self.leave()

    def leave(self) -> None:
        """The backup ended early: leave its mark. Does nothing after `finish`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def has_unfinished_backup(workspace: Path) -> bool:
    """Whether a backup of the workspace in the folder `workspace` runs, or did not complete."""
    try:
        return (workspace / layout.UNFINISHED_FILE).stat().st_size > 0
    except FileNotFoundError:
        return False
