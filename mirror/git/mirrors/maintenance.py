"""Maintenance of a mirror: merges small packs, and writes the commit-graph of a large mirror.

Each fetch adds a pack, and every pack costs each reader two open files and a lookup in its index. Many small
packs are merged by copying (`pack/merge.py`). A large pack is copied only when the smaller ones together come
near its size, so that each byte is copied only a few times.

Merged packs stay for a day, listed in the file `retired`, for processes that were reading them or copying the
store file by file. A pack is removed only if every object in it is in another pack that stays and that was
just read again and found intact. A wrong line in the list does no harm.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from mirror.fs.durable import write_file
from mirror.git import cgit
from mirror.git.failures import GitFailed
from mirror.git.pack.format import PackDamaged, checksums
from mirror.git.pack.index import PackIndex
from mirror.git.pack.limits import DEFAULT_LIMITS, PackLimits
from mirror.git.pack.merge import DEPTH_MAX, merge_packs
from mirror.git.pack.names import packs_without_index, unkept_packs_in
from mirror.git.pack.publish import remove_packs
from mirror.git.pack.receiver import sweep
from mirror.git.workers.job import Clock, OnProgress, no_progress
from mirror.logs import get_logger

_log = get_logger("git")
# More packs than this are merged, if each is less than twice as large as the smaller ones together.
PACKS_MAX = 20
# The size in bytes of one merge, which also bounds memory.
BYTES_MAX = 1 << 30
# How long a merged pack stays, in seconds.
GRACE = 24 * 3600
# The total size in bytes of packs from which a commit-graph is written.
GRAPH_LEAST = 64 << 20
RETIRED = "retired"
_LINE = re.compile(r"(\d{1,12}) (pack-[0-9a-f]{40})")


@dataclass(frozen=True)
class MaintenanceLimits:
    """Thresholds; see the constants."""

    packs: int = PACKS_MAX
    size: int = BYTES_MAX
    grace: int = GRACE
    graph: int = GRAPH_LEAST
    depth: int = DEPTH_MAX


DEFAULT_MAINTENANCE = MaintenanceLimits()


@dataclass(frozen=True)
class MaintenanceJob:
    """Do the maintenance that is due for the mirror at `path`. `now` is in seconds since 1970."""

    path: str
    now: float
    limits: MaintenanceLimits = DEFAULT_MAINTENANCE

    def do(self, progress: OnProgress, _clock: Clock, pack_limits: PackLimits, /) -> MaintenanceResult:
        """See `run_maintenance`."""
        return run_maintenance(self, progress=progress, pack_limits=pack_limits)


@dataclass(frozen=True)
class MaintenanceResult:
    """How many packs were merged, how many earlier merged ones were removed, and whether the commit-graph was
    written."""

    merged: int = 0
    removed: int = 0
    graph: bool = False


def is_due(job: MaintenanceJob, *, with_git: bool) -> bool:
    """Whether `job` has anything to do, judged by file names and sizes. `with_git`: C git is installed."""
    path, limits = Path(job.path), job.limits
    retired = _read_retired(path)
    sizes = _sizes(path, retired)
    return (
        _has_leftovers(path)
        or any(_is_expired(since, job) for since in retired.values())
        or bool(choose(sizes, limits))
        or (with_git and sum(sizes.values()) >= limits.graph and not _has_graph(path))
    )


def run_maintenance(
    job: MaintenanceJob, *, progress: OnProgress = no_progress, pack_limits: PackLimits = DEFAULT_LIMITS
) -> MaintenanceResult:
    """Do `job`. Killed at any point, nothing is lost and the next one continues.

    The caller holds the writer's lock. Readers are not disturbed: every object is in a pack all the time.
    Raises GitFailed where a pack is damaged or disk space is short, and OSError; nothing is lost then.
    """
    path, limits = Path(job.path), job.limits
    sweep(path, pack_limits)
    _drop_damaged_graph(path)
    removed = _remove_expired(path, job, progress)
    chosen = choose(_sizes(path, _read_retired(path)), limits)
    if chosen:
        _merge(path, chosen, job, progress, pack_limits)
        removed += _remove_expired(path, job, progress)
    size, git = sum(_sizes(path, _read_retired(path)).values()), cgit.find()
    if git is None or size < limits.graph or (_has_graph(path) and not chosen):
        return MaintenanceResult(len(chosen), removed)
    progress("writing the commit-graph")
    cgit.run(git, path, "commit-graph", "write", "--reachable", "--no-progress")
    return MaintenanceResult(len(chosen), removed, graph=True)


def _has_leftovers(path: Path) -> bool:
    """Whether there are files that only an interrupted writer leaves."""
    folder = path / "objects" / "pack"
    return (
        _graph(path).with_suffix(".lock").exists()
        or any(folder.glob("tmp_*"))
        or bool(packs_without_index(folder))
        or any(path.glob(f"{RETIRED}.*"))
    )


def _packs(path: Path) -> list[Path]:
    """The packs with an index and without a `.keep` or `.promisor` file."""
    return [
        pack
        for pack in unkept_packs_in(path / "objects" / "pack")
        if pack.name.startswith("pack-") and not pack.with_suffix(".promisor").exists()
    ]


def _sizes(path: Path, retired: Collection[str]) -> dict[Path, int]:
    """The packs that are not retired, with their sizes in bytes."""
    return {pack: pack.stat().st_size for pack in _packs(path) if pack.stem not in retired}


def choose(sizes: Mapping[Path, int], limits: MaintenanceLimits) -> list[Path]:
    """The packs to merge: all but those that are at least twice as large as all smaller ones together."""
    ordered = sorted(sizes, key=lambda pack: (sizes[pack], pack))
    split = len(ordered) - 1
    while split > 0 and sizes[ordered[split]] >= 2 * sizes[ordered[split - 1]]:
        split -= 1
    chosen = ordered[: split + 1] if split > 0 else []
    total = sum(sizes[pack] for pack in chosen)
    for pack in ordered[len(chosen) :] if chosen else ():
        if sizes[pack] >= 2 * total:
            break
        chosen.append(pack)
        total += sizes[pack]
    while chosen and total > limits.size:
        total -= sizes[chosen.pop()]
    return chosen if len(chosen) > limits.packs else []


def _merge(
    path: Path,
    chosen: Sequence[Path],
    job: MaintenanceJob,
    progress: OnProgress,
    pack_limits: PackLimits,
) -> None:
    """Merge packs, the oldest first: later objects are deltas of earlier ones."""
    stats = {pack: pack.stat() for pack in chosen}
    needed = sum(one.st_size for one in stats.values())
    if (free := shutil.disk_usage(path).free) < 2 * needed:
        raise GitFailed(
            f"{path.name}: {len(chosen)} packs were not merged: that takes {needed >> 20} MiB temporarily,"
            f" and only {free >> 20} MiB are free",
            hint="free disk space",
        )
    merged_pack = merge_packs(
        sorted(chosen, key=lambda pack: (stats[pack].st_mtime_ns, pack)),
        progress=progress,
        depth_max=job.limits.depth,
        limits=pack_limits,
    )
    retired = {pack.stem: int(job.now) for pack in chosen if pack.stem != merged_pack.name}
    _write_retired(path, {**_read_retired(path), **retired})


def _read_retired(path: Path) -> dict[str, int]:
    """The stems of the packs that were merged into another, and when (seconds since 1970)."""
    try:
        text = (path / RETIRED).read_text("ascii", "replace")
    except FileNotFoundError:
        return {}
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {line[2]: int(line[1]) for line in found if line is not None}


def _write_retired(path: Path, retired: Mapping[str, int]) -> None:
    if retired:
        lines = "".join(f"{since} {name}\n" for name, since in sorted(retired.items()))
        write_file(path / RETIRED, lines.encode("ascii"))
    else:
        (path / RETIRED).unlink(missing_ok=True)


def _is_expired(since: int, job: MaintenanceJob) -> bool:
    """Whether a pack was merged longer than the grace period ago, or in the future, by a wrong clock."""
    return not 0 <= job.now - since < job.limits.grace


def _remove_expired(path: Path, job: MaintenanceJob, progress: OnProgress) -> int:
    """Remove retired packs whose grace period is over; returns how many.

    A pack with an object that no other pack has is no longer retired.
    """
    retired, folder = _read_retired(path), path / "objects" / "pack"
    expired = [name for name, since in retired.items() if _is_expired(since, job)]
    if not expired:
        return 0
    there = {pack.stem: pack for pack in _packs(path)}
    staying = [pack for name, pack in there.items() if name not in retired]
    going = _covered([there[name] for name in expired if name in there], staying, progress)
    halves = [folder / f"{name}.pack" for name in expired if name not in there]
    remove_packs(folder, [*going, *(half for half in halves if not half.exists())])
    _write_retired(path, {name: since for name, since in retired.items() if name not in expired})
    return len(going)


def _covered(packs: Sequence[Path], staying: Sequence[Path], progress: OnProgress) -> list[Path]:
    """Those of `packs` whose every object is in one of `staying`. The packs of `staying` that have them are
    read again in full. Raises GitFailed where one is damaged, because then these packs may be needed."""
    found: list[Path] = []
    holders: set[int] = set()
    with ExitStack() as stack:
        try:
            newest = sorted(staying, key=lambda pack: pack.stat().st_mtime_ns, reverse=True)
            opened = [(pack, stack.enter_context(closing(_index(pack)))) for pack in newest]
            for number, pack in enumerate(packs, start=1):
                progress(f"checking whether merged pack {number} of {len(packs)} can be removed")
                with closing(_index(pack)) as index:
                    names = (index.oid(rank) for rank in range(index.count))
                    held = [next((at for at, (_, one) in enumerate(opened) if n in one), None) for n in names]
                if None in held:
                    _log.warning(
                        "git.merged_pack_stays",
                        file=pack.name,
                        problem="it has objects that no other pack has",
                    )
                    continue
                found.append(pack)
                holders.update(at for at in held if at is not None)
            for at in sorted(holders):
                _check(*opened[at])
        except PackDamaged as error:
            raise GitFailed(f"{error}; merged packs are not removed", hint="run mirror verify") from error
    return found


def _index(pack: Path) -> PackIndex:
    try:
        return PackIndex(pack.with_suffix(".idx"))
    except PackDamaged as error:
        raise PackDamaged(f"{pack.stem}.idx: {error}") from error


def _check(pack: Path, index: PackIndex) -> None:
    """Raise PackDamaged unless pack and index are what their checksums say."""
    try:
        index.check()
    except PackDamaged as error:
        raise PackDamaged(f"{pack.stem}.idx: {error}") from error
    if checksums(pack) != (index.pack_checksum,) * 2:
        raise PackDamaged(f"{pack.name}: its content does not match its checksum")


def _graph(path: Path) -> Path:
    return path / "objects" / "info" / "commit-graph"


def _has_graph(path: Path) -> bool:
    return _graph(path).exists() or _graph(path).with_name("commit-graphs").exists()


def _drop_damaged_graph(path: Path) -> None:
    """Remove a damaged commit-graph, which would mislead C git. It can be written again."""
    graph = _graph(path)
    graph.with_suffix(".lock").unlink(missing_ok=True)
    if not graph.exists():
        return
    computed, stated = checksums(graph)
    if computed != stated:
        _log.warning("git.commit_graph_dropped", file=str(graph), problem="its checksum does not match")
        graph.unlink()
