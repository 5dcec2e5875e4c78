"""Freeing the bytes of objects that no ref reaches any more; by C git, where it is installed.

Everything that is to stay is reached by some ref, ours included, so what git would collect is what
was let go. The new pack is durable before the first old one goes.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from mirror.fs.durable import sync_file, sync_folder
from mirror.git import cgit
from mirror.git.failures import GitFailed
from mirror.git.lfs.reachable import drop_cache
from mirror.git.pack.names import packs_in
from mirror.git.refs import packed_fault, read_all
from mirror.git.workers.job import Clock, OnProgress

# For so many hashes it is asked which refs still reach them.
HOLDERS_MAX = 20
_REPLACED = (".pack", ".idx", ".rev", ".bitmap", ".mtimes")


@dataclass(frozen=True)
class GcJob:
    """Free what no ref of the repository at `path` reaches.

    `gone` are hashes that lost their refs. Where all they reach is reached by others, too, there is
    nothing to free and nothing is rewritten, unless `always`. Each of `kept` must be the value of a
    ref, or nothing is done.
    """

    path: str
    kept: tuple[str, ...]
    gone: tuple[str, ...] = ()
    always: bool = False
    report_holders: bool = False

    def do(self, _progress: OnProgress, _clock: Clock, /) -> GcResult:
        """See `collect_garbage`."""
        return collect_garbage(self)


@dataclass(frozen=True)
class GcResult:
    """`freed` bytes; None where C git is not installed, so that they remain on the disk.

    `holders` are refs that reach one of the hashes that were to go, where `report_holders`.
    """

    freed: int | None
    holders: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskUsageJob:
    """Ask how many bytes on the disk only `gone` reach, and no hash of `kept`."""

    path: str
    gone: tuple[str, ...]
    kept: tuple[str, ...]

    def do(self, _progress: OnProgress, _clock: Clock, /) -> DiskUsageResult:
        """See `disk_usage`."""
        return disk_usage(self)


@dataclass(frozen=True)
class DiskUsageResult:
    """`size` in bytes; None where C git is not installed, so that nobody can tell."""

    size: int | None


def collect_garbage(job: GcJob) -> GcResult:
    """Do `job`. Raises GitFailed where the repository is damaged: nothing is removed then."""
    path = Path(job.path)
    fault = packed_fault(path)
    unheld = set(job.kept) - set(read_all(path).values()) if fault is None else set()
    if fault is not None or unheld:
        raise GitFailed(
            f"{path.name}: nothing was freed: its packed-refs: {fault or f'no ref holds {min(unheld)}'}",
            hint="run mirror verify; bring the folder back from a copy of the store",
        )
    git = cgit.find()
    if git is None:
        return GcResult(None)
    held = _holders(git, path, job.gone) if job.report_holders else ()
    if not job.always and not _size_of(git, path, job.gone, ("--all",)):
        return GcResult(0, held)
    objects = path / "objects"
    before = _size(objects)
    old = [pack for pack in packs_in(objects / "pack") if not pack.with_suffix(".keep").exists()]
    names = cgit.run(
        git, path, "pack-objects", "--all", "--honor-pack-keep", "--non-empty", "--delta-base-offset", "-q",
        str(objects / "pack" / "pack"),
    ).split()  # fmt: skip
    new = {f"pack-{name.decode('ascii')}" for name in names}
    for suffix in (".pack", ".idx"):
        for name in new:
            sync_file(objects / "pack" / (name + suffix))
    sync_folder(objects / "pack")
    # What is derived from the packs would point to those that go; git works without it.
    (objects / "pack" / "multi-pack-index").unlink(missing_ok=True)
    (objects / "info" / "commit-graph").unlink(missing_ok=True)
    shutil.rmtree(objects / "info" / "commit-graphs", ignore_errors=True)
    for pack in old:
        if pack.stem not in new:
            for suffix in _REPLACED:
                pack.with_suffix(suffix).unlink(missing_ok=True)
    sync_folder(objects / "pack")
    drop_cache(path)
    # Loose objects are in the new pack now, or nothing reaches them.
    for file in objects.glob("[0-9a-f][0-9a-f]/*"):
        file.unlink(missing_ok=True)
    return GcResult(max(0, before - _size(objects)), held)


def _holders(git: str, path: Path, gone: tuple[str, ...]) -> tuple[str, ...]:
    """The refs that reach a commit of `gone`."""
    names: set[str] = set()
    for value in gone[:HOLDERS_MAX]:
        with contextlib.suppress(GitFailed):  # no commit, or no longer there
            answer = cgit.run(git, path, "for-each-ref", "--format=%(refname)", f"--contains={value}")
            names.update(answer.decode("utf-8", "backslashreplace").split())
    return tuple(sorted(names))


def disk_usage(job: DiskUsageJob) -> DiskUsageResult:
    """Do `job`. Raises GitFailed where git finds the repository damaged."""
    git = cgit.find()
    if git is None:
        return DiskUsageResult(None)
    return DiskUsageResult(_size_of(git, Path(job.path), job.gone, tuple(f"^{value}" for value in job.kept)))


def _size_of(git: str, path: Path, gone: tuple[str, ...], kept: tuple[str, ...]) -> int:
    """The bytes that objects take which only `gone` reach."""
    if not gone:
        return 0
    others = ("--not", "--all") if kept == ("--all",) else ()
    lines = [*gone, *(() if others else kept)]
    answer = cgit.run(
        git, path, "rev-list", "--objects", "--disk-usage", "--ignore-missing", "--stdin", *others,
        stdin="".join(f"{line}\n" for line in lines).encode("ascii"),
    )  # fmt: skip
    return int(answer)


def _size(objects: Path) -> int:
    return sum(file.stat().st_size for file in objects.rglob("*") if file.is_file())
