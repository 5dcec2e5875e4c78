"""Sending the LFS objects of a snapshot to a git server before the push."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mirror.extract import copy_objects
from mirror.git.lfs.sync import LfsFindJob, LfsPushJob
from mirror.git.wire.client import GitLogin
from mirror.git.workers.pool import WorkerPool
from mirror.model import Snapshot
from mirror.store.reading.reader import RepositoryFolder


@dataclass(frozen=True)
class Objects:
    """The LFS objects that the refs reach: their number, how many were restored, and how many the store never
    had. Each problem has an exit code."""

    reached: int = 0
    restored: int = 0
    absent: int = 0
    problems: tuple[tuple[int, str], ...] = ()


async def reached_by(folder: RepositoryFolder, tips: Sequence[str], pool: WorkerPool) -> list[str]:
    """The sha256 of the objects that the hashes `tips` reach in the mirror."""
    job = LfsFindJob(str(folder.code), tuple(sorted(set(tips))))
    return sorted((await pool.run(job)).objects)


async def to_url(
    folder: RepositoryFolder,
    snapshot: Snapshot,
    oids: Sequence[str],
    tips: Sequence[str],
    url: str,
    login: GitLogin | None,
    pool: WorkerPool,
    report: Callable[..., None],
) -> Objects:
    """Send the objects to the git server at `url`, or copy them to the repository of a file URL."""
    if urlsplit(url).scheme == "file":
        target = Path(unquote(urlsplit(url).path))
        place = target if _is_bare(target) else target / ".git"
        found = await asyncio.to_thread(copy_objects, folder, snapshot, oids, place, report)
        return Objects(len(oids), found.restored, found.absent, tuple(found.problems))
    plain = url.rstrip("/")
    job = LfsPushJob(
        str(folder.code), plain if plain.endswith(".git") else f"{plain}.git", login, tuple(sorted(set(tips)))
    )
    result = await pool.run(job, progress=report)
    problems: list[tuple[int, str]] = []
    listed = folder.metadata.lfs(snapshot) or {}
    lost = [oid for oid in result.absent if listed.get(oid, (0, False))[1]]
    if lost:
        problems.append((4, f"{folder.full_name}: {len(lost)} LFS objects are missing, such as {lost[0]}"))
    if result.damaged:
        text = f"{len(result.damaged)} LFS objects are damaged, such as {result.damaged[0]}"
        problems.append((4, f"{folder.full_name}: {text}"))
    if result.failed:
        oid, reason = min(result.failed.items())
        text = (
            f"{len(result.failed)} of {result.objects} LFS objects were not restored, such as {oid}: {reason}"
        )
        problems.append((3, text))
    done = result.uploaded + result.already_present
    return Objects(result.objects, done, len(result.absent) - len(lost), tuple(problems))


def _is_bare(path: Path) -> bool:
    return (path / "objects").is_dir()
