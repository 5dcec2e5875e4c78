"""Which backups of a workspace are unfinished: prune takes nothing of it meanwhile.

`unfinished` in the workspace's folder is locked (flock, shared) by every backup that is at work there,
and has a line for each backup that began. A backup that ends in order empties it, unless another is still
at work; one that was killed leaves its line, and the next one to end in order removes it, too.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mirror.fs.durable import sync_folder
from mirror.store.format import layout


class UnfinishedMark:
    """The mark of one backup of a workspace, from `begin` to `finish` or `leave`."""

    def __init__(self, descriptor: int, *, was_unfinished: bool) -> None:
        self._descriptor = descriptor
        # Whether another backup was killed here, or is still at work.
        self.was_unfinished = was_unfinished

    @classmethod
    def begin(cls, workspace: Path, run: str) -> UnfinishedMark:
        """Say, durably, that the backup `run` of the workspace in the folder `workspace` has begun."""
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
        """The backup has ended in order, and the brake was judged; nothing happens the second time."""
        if self._descriptor < 0:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.fsync(self._descriptor)
        except BlockingIOError:
            pass  # another backup is at work: the last one to end empties the file
        finally:
            self.leave()

    def leave(self) -> None:
        """The backup has ended, and its mark stays; after `finish` nothing happens."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def has_unfinished_backup(workspace: Path) -> bool:
    """Whether a backup of the workspace in the folder `workspace` is at work, or did not end in order."""
    try:
        return (workspace / layout.UNFINISHED_FILE).stat().st_size > 0
    except FileNotFoundError:
        return False
