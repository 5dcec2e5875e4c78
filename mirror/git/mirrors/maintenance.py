"""Keeping the packs of a mirror few, and readers of a large one quick.

Each fetch adds a pack, and every pack costs each reader two open files and a look into its index. When
many small ones have gathered they are joined by copying (joining.py); a big one is copied only when
the small ones together come near its size, so that each byte is copied a few times in all its life.

The packs that were joined stay for a day, listed in the file `retired`, so that whoever was reading
then, or copying the store file by file, finds what it had seen. A pack goes only when each of its
objects is in one that stays and is whole to the byte; whatever else the list says does no harm.
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
# More packs than this, each less than twice as large as the smaller ones together, are joined.
PACKS_MAX = 20
# So much is copied at a time, which bounds memory, too.
BYTES_MAX = 1 << 30
# How long a pack stays that was joined, in seconds.
GRACE = 24 * 3600
# From so many bytes of packs on, the graph of commits is worth its while.
GRAPH_LEAST = 64 << 20
RETIRED = "retired"
_LINE = re.compile(r"(\d{1,12}) (pack-[0-9a-f]{40})")
# What may stand beside a pack; all of it can be made again.
_BESIDE = (".idx", ".rev", ".bitmap", ".mtimes")


@dataclass(frozen=True)
class Limits:
    """From when on something is worth it; see the constants."""

    packs: int = field(default_factory=lambda: PACKS_MAX)
    size: int = field(default_factory=lambda: BYTES_MAX)
    grace: int = field(default_factory=lambda: GRACE)
    graph: int = field(default_factory=lambda: GRAPH_LEAST)


@dataclass(frozen=True)
class MaintenanceJob:
    """Do what is due for the mirror at `path`. `now` is in seconds since 1970."""

    path: str
    now: float
    limits: Limits = field(default_factory=Limits)

    def do(self, progress: OnProgress, _clock: Clock, /) -> MaintenanceResult:
        """See `run_maintenance`."""
        return run_maintenance(self, progress=progress)


@dataclass(frozen=True)
class MaintenanceResult:
    """How many packs were joined, and how many removed that had been; whether the graph of commits was
    written."""

    joined: int = 0
    removed: int = 0
    graph: bool = False


def is_due(job: MaintenanceJob, *, with_git: bool) -> bool:
    """Whether `job` has anything to do, which a look into folders tells. `with_git`: C git is installed."""
    path, limits = Path(job.path), job.limits
    retired = _read_retired(path)
    sizes = _sizes(path, retired)
    return (
        _was_interrupted(path)
        or any(_is_ripe(since, job) for since in retired.values())
        or bool(choose(sizes, limits))
        or (with_git and sum(sizes.values()) >= limits.graph and not _has_graph(path))
    )


def run_maintenance(job: MaintenanceJob, *, progress: OnProgress = no_progress) -> MaintenanceResult:
    """Do `job`; killed at any point, nothing is lost and the next one goes on.

    The caller holds the writer's lock. Readers go on reading: every object is in a pack all the time.
    Raises GitFailed where a pack is damaged or there is no room, and OSError; nothing is lost then.
    """
    path, limits = Path(job.path), job.limits
    sweep(path)
    _drop_damaged_graph(path)
    removed = _remove_ripe(path, job, progress)
    chosen = choose(_sizes(path, _read_retired(path)), limits)
    if chosen:
        _join(path, chosen, job.now, progress)
        removed += _remove_ripe(path, job, progress)
    size, git = sum(_sizes(path, _read_retired(path)).values()), cgit.find()
    if git is None or size < limits.graph or (_has_graph(path) and not chosen):
        return MaintenanceResult(len(chosen), removed)
    progress("writing the graph of commits")
    cgit.run(git, path, "commit-graph", "write", "--reachable", "--no-progress")
    return MaintenanceResult(len(chosen), removed, graph=True)


def _was_interrupted(path: Path) -> bool:
    """Whether there is anything that only an interrupted writer leaves."""
    folder = path / "objects" / "pack"
    return (
        _graph(path).with_suffix(".lock").exists()
        or any(folder.glob("tmp_*"))
        or bool(packs_without_index(folder))
        or any(path.glob(f"{RETIRED}.*"))
    )


def _packs(path: Path) -> list[Path]:
    """The packs that have an index and that nobody holds on to."""
    return [
        pack
        for pack in packs_in(path / "objects" / "pack")
        if pack.name.startswith("pack-")
        and not any(pack.with_suffix(suffix).exists() for suffix in (".keep", ".promisor"))
    ]


def _sizes(path: Path, retired: Collection[str]) -> dict[Path, int]:
    """The packs that were not joined, with their sizes."""
    return {pack: pack.stat().st_size for pack in _packs(path) if pack.stem not in retired}


def choose(sizes: Mapping[Path, int], limits: Limits) -> list[Path]:
    """The packs that are to be joined: all but those of which each is at least twice as large as all
    smaller ones together."""
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


def _join(path: Path, chosen: Sequence[Path], now: float, progress: OnProgress) -> None:
    """Join packs, the oldest first: what came later is made from what was there before."""
    stats = {pack: pack.stat() for pack in chosen}
    needed = sum(one.st_size for one in stats.values())
    if (free := shutil.disk_usage(path).free) < 2 * needed:
        raise GitFailed(
            f"{path.name}: {len(chosen)} packs were not joined: that takes {needed >> 20} MiB for a while,"
            f" and {free >> 20} are free",
            hint="make room",
        )
    joined = join(sorted(chosen, key=lambda pack: (stats[pack].st_mtime_ns, pack)), tell=progress)
    retired = {pack.stem: int(now) for pack in chosen if pack.stem != joined.name}
    _write_retired(path, {**_read_retired(path), **retired})


def _read_retired(path: Path) -> dict[str, int]:
    """The packs that were joined, and when."""
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


def _is_ripe(since: int, job: MaintenanceJob) -> bool:
    """Whether a pack was joined long enough ago. A clock that went back tells nothing, and stops nothing."""
    return not 0 <= job.now - since < job.limits.grace


def _remove_ripe(path: Path, job: MaintenanceJob, progress: OnProgress) -> int:
    """Remove the packs that were joined long enough ago; returns how many.

    Those that hold something that no pack has which stays are packs like any other again.
    """
    retired, folder = _read_retired(path), path / "objects" / "pack"
    ripe = [name for name, since in retired.items() if _is_ripe(since, job)]
    if not ripe:
        return 0
    there = {pack.stem: pack for pack in _packs(path)}
    staying = [pack for name, pack in there.items() if name not in retired]
    going = _covered([there[name] for name in ripe if name in there], staying, progress)
    # C git's index over all packs would point to those that go; git works without it.
    (folder / "multi-pack-index").unlink(missing_ok=True)
    halves = [folder / f"{name}.pack" for name in ripe if name not in there]
    for pack in (*going, *(half for half in halves if not half.exists())):
        # The index last: alone it holds nothing, while a pack alone would be indexed again.
        for suffix in (".pack", *_BESIDE[1:], _BESIDE[0]):
            pack.with_suffix(suffix).unlink(missing_ok=True)
    sync_folder(folder)
    _write_retired(path, {name: since for name, since in retired.items() if name not in ripe})
    return len(going)


def _covered(packs: Sequence[Path], staying: Sequence[Path], progress: OnProgress) -> list[Path]:
    """Those of `packs` whose every object is in one of `staying`. What holds them is read again, to the
    byte: raises GitFailed where it is damaged, because then these packs may be needed."""
    found: list[Path] = []
    holders: set[int] = set()
    with ExitStack() as stack:
        try:
            newest = sorted(staying, key=lambda pack: pack.stat().st_mtime_ns, reverse=True)
            opened = [(pack, stack.enter_context(closing(_index(pack)))) for pack in newest]
            for number, pack in enumerate(packs, start=1):
                progress(f"looking whether joined pack {number} of {len(packs)} can go")
                with closing(_index(pack)) as index:
                    names = (index.name(at) for at in range(index.count))
                    held = [next((at for at, (_, one) in enumerate(opened) if n in one), None) for n in names]
                if None in held:
                    _log.warning(
                        "git.joined_pack_stays", file=pack.name, problem="not all of it is elsewhere"
                    )
                    continue
                found.append(pack)
                holders.update(at for at in held if at is not None)
            for at in sorted(holders):
                _check(*opened[at])
        except PackDamaged as error:
            raise GitFailed(f"{error}; packs that were joined stay", hint="run mirror verify") from error
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
    """The checksum at the end of a file of git's, where its content has that; else None."""
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
    """A damaged graph misleads C git's readers, and can be made again."""
    graph = _graph(path)
    graph.with_suffix(".lock").unlink(missing_ok=True)
    if graph.exists() and _checksum(graph) is None:
        _log.warning("git.commit_graph_dropped", file=str(graph), problem="its checksum is another")
        graph.unlink()
