"""A repository behind C git's http-backend, fetched as a mirror is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mirror.git.mirrors.fetch import FetchJob, FetchResult, fetch
from mirror.git.wire.client import GitLogin
from tests.git.backend import GitBackend, git, need_git

LOGIN = GitLogin("ann", "s3cret-word")
# The paths of requests: of the new protocol, and of the first request of the old one.
POST, GET = "/up.git/git-upload-pack", "/up.git/info/refs?service=git-upload-pack"


def make_upstream(tmp_path: Path) -> Path:
    """A bare repository with some branches and tags, each with a commit of its own."""
    need_git()
    work, bare = tmp_path / "work", tmp_path / "root" / "up.git"
    git("init", "-q", "-b", "main", str(work))
    for number in range(12):
        (work / f"file-{number}").write_bytes(os.urandom(20_000))
        git("add", ".", cwd=work)
        git("commit", "-qm", f"{number}", cwd=work)
        git("tag", "-a", f"v{number}", "-m", f"{number}", cwd=work)
    git("branch", "other", "main~3", cwd=work)
    git("clone", "-q", "--mirror", str(work), str(bare))
    return bare


def get(backend: GitBackend, mirror: Path, **more: Any) -> FetchResult:
    job = FetchJob(str(mirror), f"{backend.url}/up.git", LOGIN, silence_timeout=30.0)
    return fetch(job, **more)


def paths(backend: GitBackend) -> list[str]:
    return [path for path, _ in backend.requests]


def is_equal(mirror: Path, upstream: Path) -> bool:
    """Whether all refs are equal, every object is present, and C git finds no fault."""
    what = ("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags")
    assert git("fsck", "--full", "--strict", cwd=mirror) == ""
    return git(*what, cwd=mirror) == git(*what, cwd=upstream)


def state(mirror: Path) -> dict[Path, tuple[int, int, int]]:
    """Every file and folder, with metadata that shows whether somebody touched it."""
    return {
        one: (status.st_mtime_ns, status.st_size, status.st_ino)
        for one in [mirror, *mirror.rglob("*")]
        for status in [one.stat()]
    }
