"""Making a commit of a folder, in a new repository beside it: how pages get to a branch of a git server."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mirror.git import bare
from mirror.git.documents.repository import tree_bytes
from mirror.git.objects import BLOB, COMMIT, TREE
from mirror.git.pack.limits import PackLimits
from mirror.git.pack.writer import PackWriter
from mirror.git.workers.job import Clock, OnProgress

# Bitbucket, and others, refuse a push with a larger file.
FILE_BYTES_MAX = 100_000_000
_AUTHOR = "Mirror <mirror@localhost>"
_FILE, _FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR


@dataclass(frozen=True)
class FolderCommit:
    """The commit of a folder, and the files that it lacks because they are too large."""

    commit: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommitFolderJob:
    """Make a commit without parents of the files in `folder`, in the new bare repository `repository`.

    The same files, `message` and time make the same commit. Memory holds the largest file, of at most
    FILE_BYTES_MAX; larger ones are left out.
    """

    folder: str
    repository: str
    message: str
    when: datetime

    def do(self, _progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> FolderCommit:
        """Do it. Raises OSError where the disk fails."""
        repository = Path(self.repository)
        bare.create(repository)
        pack = PackWriter(repository / "objects")
        left_out: list[str] = []
        try:
            tree = _tree_of(pack, Path(self.folder), "", left_out)
            who = f"{_AUTHOR} {int(self.when.timestamp())} +0000"
            head = f"tree {tree}\nauthor {who}\ncommitter {who}\n\n{self.message}"
            commit = pack.add(COMMIT, head.encode("utf-8"))
            pack.publish()
        finally:
            pack.discard()
        return FolderCommit(commit, tuple(left_out))


def _tree_of(pack: PackWriter, folder: Path, prefix: str, left_out: list[str]) -> str:
    """Add the tree of a folder, with everything in it; returns its id."""
    level: dict[bytes, tuple[int, str]] = {}
    with os.scandir(folder) as several:
        entries = sorted(several, key=lambda one: one.name)
    for entry in entries:
        name = os.fsencode(entry.name)
        if entry.is_dir(follow_symlinks=False):
            level[name] = _FOLDER, _tree_of(pack, Path(entry.path), f"{prefix}{entry.name}/", left_out)
        elif entry.stat(follow_symlinks=False).st_size > FILE_BYTES_MAX:
            left_out.append(prefix + entry.name)
        else:
            level[name] = _FILE, pack.add(BLOB, Path(entry.path).read_bytes())
    return pack.add(TREE, tree_bytes(level))
