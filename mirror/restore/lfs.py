"""LFS objects of a restored snapshot: beside its code in a folder, or brought to a server before the push."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mirror.errors import DamageFound
from mirror.git.lfs import LfsFindJob, LfsPushJob, is_sound
from mirror.git.lfs_transfer import object_path
from mirror.git.lfs_walk import LFS
from mirror.git.transport import GitLogin
from mirror.git.workers import WorkerPool
from mirror.model import Snapshot
from mirror.store.reader import RepositoryFolder

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Objects:
    """The LFS objects that a snapshot's refs reach: how many, how many of them were restored, and how many
    the store never had. `problems` say what else went wrong, each with an exit code."""

    reached: int = 0
    restored: int = 0
    absent: int = 0
    problems: tuple[tuple[int, str], ...] = ()


async def reached_by(folder: RepositoryFolder, tips: Sequence[str], pool: WorkerPool) -> list[str]:
    """The objects that the hashes `tips` reach in the mirror."""
    job = LfsFindJob(str(folder.code), tuple(sorted(set(tips))))
    return sorted((await pool.run(job)).objects)


async def to_folder(
    folder: RepositoryFolder, snapshot: Snapshot, oids: Sequence[str], git_folder: Path, tell: Tell
) -> Objects:
    """Copy the objects to where git-lfs looks for them in the repository at `git_folder`, each hashed on
    its way. Raises DamageFound where one is damaged, or missing although the snapshot says that it is held.
    """
    return await asyncio.to_thread(_copy_all, folder, snapshot, oids, git_folder, tell)


def _copy_all(
    folder: RepositoryFolder, snapshot: Snapshot, oids: Sequence[str], git_folder: Path, tell: Tell
) -> Objects:
    listed = folder.metadata.lfs(snapshot) or {}
    restored = absent = 0
    for oid in oids:
        source = folder.lfs_object(oid)
        if source is None:
            if listed.get(oid, (0, False))[1]:
                raise _damage(folder, oid, "is missing")
            absent += 1
            continue
        target = object_path(git_folder / LFS, oid)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(f"{oid}.part")
            beside.unlink(missing_ok=True)
            if not is_sound(source, oid, beside):
                beside.unlink()
                raise _damage(folder, oid, "is damaged")
            beside.rename(target)
        restored += 1
        tell(f"{restored} LFS objects")
    return Objects(len(oids), restored, absent)


async def to_url(
    folder: RepositoryFolder,
    snapshot: Snapshot,
    oids: Sequence[str],
    tips: Sequence[str],
    url: str,
    login: GitLogin | None,
    pool: WorkerPool,
    tell: Tell,
) -> Objects:
    """Bring the objects to the git server at `url`, or to the repository that a file URL names."""
    if urlsplit(url).scheme == "file":
        target = Path(unquote(urlsplit(url).path))
        return await to_folder(folder, snapshot, oids, target if _is_bare(target) else target / ".git", tell)
    plain = url.rstrip("/")
    job = LfsPushJob(
        str(folder.code), plain if plain.endswith(".git") else f"{plain}.git", login, tuple(sorted(set(tips)))
    )
    result = await pool.run(job, progress=tell)
    problems: list[tuple[int, str]] = []
    listed = folder.metadata.lfs(snapshot) or {}
    lost = [oid for oid in result.absent if listed.get(oid, (0, False))[1]]
    if lost:
        problems.append((4, f"{folder.full_name}: {len(lost)} LFS objects are missing, such as {lost[0]}"))
    if result.failed:
        oid, reason = min(result.failed.items())
        text = (
            f"{len(result.failed)} of {result.objects} LFS objects were not restored, such as {oid}: {reason}"
        )
        problems.append((3, text))
    done = result.brought + result.there
    return Objects(result.objects, done, len(result.absent) - len(lost), tuple(problems))


def _is_bare(path: Path) -> bool:
    return (path / "objects").is_dir()


def _damage(folder: RepositoryFolder, oid: str, what: str) -> DamageFound:
    return DamageFound(
        f"{folder.full_name}: the LFS object {oid} {what}",
        hint="run mirror verify; an older snapshot may be whole",
    )
