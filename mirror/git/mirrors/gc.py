"""Garbage collection: removes objects that no ref reaches, with C git where it is installed.

Everything that must stay is reachable from some ref, those below `refs/mirror/` included. The new pack is
durable before the first old one is removed.
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
from mirror.git.pack.limits import PackLimits
from mirror.git.pack.names import unkept_packs_in
from mirror.git.pack.publish import remove_packs
from mirror.git.refs import packed_fault, read_all
from mirror.git.workers.job import Clock, OnProgress

# For how many hashes at most to look up the refs that still reach them.
HOLDERS_MAX = 20


@dataclass(frozen=True)
class GcJob:
    """Remove the objects of the repository at `path` that no ref reaches.

    `gone`: hashes that lost their refs. Where other refs reach the same objects, there is nothing to remove
    and nothing is rewritten, unless `always`. `kept`: hashes each of which must be the value of a ref, or
    the job fails. `report_holders`: also look up the refs that still reach one of `gone`.
    """

    path: str
    kept: tuple[str, ...]
    gone: tuple[str, ...] = ()
    always: bool = False
    report_holders: bool = False

    def do(self, _progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> GcResult:
        """See `collect_garbage`."""
        return collect_garbage(self)


@dataclass(frozen=True)
class GcResult:
    """`freed`: bytes; None where C git is not installed and nothing was removed. `holders`: the refs that
    still reach one of `gone`."""

    freed: int | None
    holders: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskUsageJob:
    """Compute the size on disk of the objects that `gone` reach and `kept` do not."""

    path: str
    gone: tuple[str, ...]
    kept: tuple[str, ...]

    def do(self, _progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> DiskUsageResult:
        """See `disk_usage`."""
        return disk_usage(self)


@dataclass(frozen=True)
class DiskUsageResult:
    """`size` in bytes; None where C git is not installed."""

    size: int | None


def collect_garbage(job: GcJob) -> GcResult:
    """Do `job`. Raises GitFailed where the repository is damaged; then nothing is removed."""
    path = Path(job.path)
    fault = packed_fault(path)
    missing = set(job.kept) - set(read_all(path).values()) if fault is None else set()
    if fault is not None or missing:
        raise GitFailed(
            f"{path.name}: nothing was freed: its packed-refs: {fault or f'no ref holds {min(missing)}'}",
            hint="run mirror verify; restore the folder from a copy of the store",
        )
    git = cgit.find()
    if git is None:
        return GcResult(None)
    holders = _holders(git, path, job.gone) if job.report_holders else ()
    if not job.always and not _size_of(git, path, job.gone, ("--all",)):
        return GcResult(0, holders)
    objects = path / "objects"
    before = _size(objects)
    old = unkept_packs_in(objects / "pack")
    names = cgit.run(
        git, path, "pack-objects", "--all", "--honor-pack-keep", "--non-empty", "--delta-base-offset", "-q",
        str(objects / "pack" / "pack"),
    ).split()  # fmt: skip
    new = {f"pack-{name.decode('ascii')}" for name in names}
    for suffix in (".pack", ".idx"):
        for name in new:
            sync_file(objects / "pack" / (name + suffix))
    sync_folder(objects / "pack")
    # These point to the old packs. git works without them.
    (objects / "info" / "commit-graph").unlink(missing_ok=True)
    shutil.rmtree(objects / "info" / "commit-graphs", ignore_errors=True)
    remove_packs(objects / "pack", [pack for pack in old if pack.stem not in new])
    drop_cache(path)
    # Loose objects are in the new pack, or unreachable.
    for file in objects.glob("[0-9a-f][0-9a-f]/*"):
        file.unlink(missing_ok=True)
    return GcResult(max(0, before - _size(objects)), holders)


def _holders(git: str, path: Path, gone: tuple[str, ...]) -> tuple[str, ...]:
    """The refs that reach a commit of `gone`."""
    names: set[str] = set()
    for value in gone[:HOLDERS_MAX]:
        with contextlib.suppress(GitFailed):  # not a commit, or missing
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
    """The size in bytes of the objects that only `gone` reach."""
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
