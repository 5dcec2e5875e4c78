"""Maintenance of a mirror: merges small packs, and writes the commit-graph of a large mirror.

Each fetch adds a pack, and every pack costs each reader two open files and a lookup in its index. Many small
packs are merged by copying (`pack/merge.py`). A large pack is copied only when the smaller ones together come
near its size, so that each byte is copied only a few times.

Merged packs stay for a day, listed in the file `retired`, for processes that were reading them or copying the
store file by file. A pack is removed only if every object in it is in another pack that stays and that was
just read again and found intact. A wrong line in the list does no harm.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from mirror.fs.durable import sync_folder, write_file
from mirror.git import cgit
from mirror.git.failures import GitFailed
from mirror.git.pack.format import PackDamaged
from mirror.git.pack.merge import join
from mirror.git.pack.names import packs_in, packs_without_index
from mirror.git.pack.reader import PackIndex
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
# Files beside a pack, all of which can be rebuilt.
_BESIDE = (".idx", ".rev", ".bitmap", ".mtimes")


@dataclass(frozen=True)
class Limits:
    """Thresholds; see the constants."""

    packs: int = field(default_factory=lambda: PACKS_MAX)
    size: int = field(default_factory=lambda: BYTES_MAX)
    grace: int = field(default_factory=lambda: GRACE)
    graph: int = field(default_factory=lambda: GRAPH_LEAST)


@dataclass(frozen=True)
class MaintenanceJob:
    """Do the maintenance that is due for the mirror at `path`. `now` is in seconds since 1970."""

    path: str
    now: float
    limits: Limits = field(default_factory=Limits)

    def do(self, progress: OnProgress, _clock: Clock, /) -> MaintenanceResult:
        """See `run_maintenance`."""
        return run_maintenance(self, progress=progress)


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


def run_maintenance(job: MaintenanceJob, *, progress: OnProgress = no_progress) -> MaintenanceResult:
    """Do `job`. Killed at any point, nothing is lost and the next one continues.

    The caller holds the writer's lock. Readers are not disturbed: every object is in a pack all the time.
    Raises GitFailed where a pack is damaged or disk space is short, and OSError; nothing is lost then.
    """
    path, limits = Path(job.path), job.limits
    sweep(path)
    _drop_damaged_graph(path)
    removed = _remove_expired(path, job, progress)
    chosen = choose(_sizes(path, _read_retired(path)), limits)
    if chosen:
        _merge(path, chosen, job.now, progress)
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
        for pack in packs_in(path / "objects" / "pack")
        if pack.name.startswith("pack-")
        and not any(pack.with_suffix(suffix).exists() for suffix in (".keep", ".promisor"))
    ]


def _sizes(path: Path, retired: Collection[str]) -> dict[Path, int]:
    """The packs that are not retired, with their sizes in bytes."""
    return {pack: pack.stat().st_size for pack in _packs(path) if pack.stem not in retired}


def choose(sizes: Mapping[Path, int], limits: Limits) -> list[Path]:
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


def _merge(path: Path, chosen: Sequence[Path], now: float, progress: OnProgress) -> None:
    """Merge packs, the oldest first: later objects are deltas of earlier ones."""
    stats = {pack: pack.stat() for pack in chosen}
    needed = sum(one.st_size for one in stats.values())
    if (free := shutil.disk_usage(path).free) < 2 * needed:
        raise GitFailed(
            f"{path.name}: {len(chosen)} packs were not merged: that takes {needed >> 20} MiB temporarily,"
            f" and only {free >> 20} MiB are free",
            hint="free disk space",
        )
    merged_pack = join(sorted(chosen, key=lambda pack: (stats[pack].st_mtime_ns, pack)), tell=progress)
    retired = {pack.stem: int(now) for pack in chosen if pack.stem != merged_pack.name}
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
    # The multi-pack-index points to the removed packs. git works without it.
    (folder / "multi-pack-index").unlink(missing_ok=True)
    halves = [folder / f"{name}.pack" for name in expired if name not in there]
    for pack in (*going, *(half for half in halves if not half.exists())):
        # The index goes last: an index alone is ignored, while a pack alone would be indexed again.
        for suffix in (".pack", *_BESIDE[1:], _BESIDE[0]):
            pack.with_suffix(suffix).unlink(missing_ok=True)
    sync_folder(folder)
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
                    names = (index.name(at) for at in range(index.count))
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
    if _checksum(pack) != index.pack_checksum:
        raise PackDamaged(f"{pack.name}: its content does not match its checksum")


def _checksum(file: Path) -> bytes | None:
    """The checksum at the end of a git file where the content matches it, else None."""
    digest, left = hashlib.sha1(usedforsecurity=False), file.stat().st_size - 20
    with file.open("rb") as stream:
        while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        return stated if (stated := stream.read()) == digest.digest() else None


def _graph(path: Path) -> Path:
    return path / "objects" / "info" / "commit-graph"


def _has_graph(path: Path) -> bool:
    return _graph(path).exists() or _graph(path).with_name("commit-graphs").exists()


def _drop_damaged_graph(path: Path) -> None:
    """Remove a damaged commit-graph, which would mislead C git. It can be written again."""
    graph = _graph(path)
    graph.with_suffix(".lock").unlink(missing_ok=True)
    if graph.exists() and _checksum(graph) is None:
        _log.warning("git.commit_graph_dropped", file=str(graph), problem="its checksum does not match")
        graph.unlink()
