"""Copies of a mirror with the refs of a snapshot: a bare repository, or a clone with its worktree.

Every copy is checked. Objects are copied, never hard-linked: damage to the copy must not reach the store.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.fs.durable import sync_folder, write_file
from mirror.git.failures import GitFailed
from mirror.git.mirrors.fsck import CheckJob, ObjectProblem, check
from mirror.git.mirrors.salvage import salvage
from mirror.git.mirrors.worktree import LeftOut, check_out
from mirror.git.pack.limits import PackLimits
from mirror.git.pack.names import pack_stems
from mirror.git.refs import (
    KEEP,
    OURS,
    closed_after,
    open_objects,
    peeled_tag,
    pin_name,
    read_packed,
    write_head,
    write_packed,
)
from mirror.git.workers.job import Clock, OnProgress, no_progress
from mirror.model import Head, Refs

# How often a copy is started again where packs change meanwhile.
TRIES = 10
_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = %s\n"
_LOOSE = re.compile(r"[0-9a-f]{38,62}")
GIT_FOLDER = ".git"


@dataclass(frozen=True)
class CopyJob:
    """Create at `target`, which is absent or empty, a repository with the objects of `mirror`, with `refs`
    and their HEAD, and with the pull request heads `pinned`, by number.

    With `work_tree` it is a clone with the files of HEAD checked out, else a bare repository.
    """

    mirror: str
    target: str
    refs: Refs
    pinned: Mapping[int, str] = field(default_factory=dict)
    work_tree: bool = False

    def do(self, progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> CopyResult:
        """See `copy`."""
        return copy(self, progress=progress)

    @property
    def git_folder(self) -> Path:
        """The git directory of the copy."""
        return Path(self.target) / GIT_FOLDER if self.work_tree else Path(self.target)

    @property
    def values(self) -> dict[bytes, str]:
        """Every ref of the copy. Names below `refs/mirror/` are reserved: an upstream ref there is restored
        under `refs/mirror/keep/`, as in the mirror."""
        values = {}
        for name, value in self.refs.refs.items():
            values[KEEP + value.encode("ascii") if name.startswith(OURS) else name] = value
        return values | {pin_name(number): value for number, value in self.pinned.items()}

    @property
    def tips(self) -> tuple[str, ...]:
        """The hashes that the copy must have, with everything that they reach."""
        tips = set(self.values.values())
        if self.refs.head is not None and self.refs.head.kind == "detached":
            tips.add(self.refs.head.value.decode("ascii"))
        return tuple(sorted(tips))


@dataclass(frozen=True)
class CopyResult:
    """`damage`: what is wrong with the mirror. `lacking`: the refs that the copy does not have because of it,
    each with the object that it needs. `made`: the job with the refs that the copy has; None where no ref is
    whole, and there is no copy. `left_out`: files of HEAD that cannot be checked out; the repository has
    them."""

    made: CopyJob | None
    damage: tuple[ObjectProblem, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    lacking: Mapping[bytes, str] = field(default_factory=dict)


def copy(job: CopyJob, *, progress: OnProgress = no_progress) -> CopyResult:
    """Do `job`: copy, then read back every object, link and ref. Of a damaged mirror come the refs whose
    objects are all there.

    Raises GitFailed where the mirror changes faster than it can be copied, and OSError where the target's
    disk fails.
    """
    mirror, target = Path(job.mirror), job.git_folder
    for _ in range(TRIES):
        before = _listing(mirror)
        _make(target, job)
        problems = _copy_objects(mirror, target, before, progress)
        if problems is None:
            continue  # a listed pack was merged or removed meanwhile
        if not problems:
            progress("checking")
            found = check(CheckJob(str(target), job.tips, in_store=False), progress=progress).problems
            problems = [one for one in found if one.severity == "damage"]
            if problems:
                problems = [*_halves(before), *problems]
        if not problems:
            _write_refs(target, job)
            return CopyResult(job, left_out=_files(job, progress))
        if _listing(mirror) == before:
            return _salvage(job, tuple(problems), progress)
    _remove(Path(job.target))
    raise GitFailed(
        f"{mirror.name}: its packs change faster than they can be copied",
        hint="try again when no prune or backup is running",
    )


def _salvage(job: CopyJob, damage: tuple[ObjectProblem, ...], progress: OnProgress) -> CopyResult:
    """Copy the refs whose objects are all there."""
    _make(job.git_folder, job)
    lacks = salvage(Path(job.mirror), job.git_folder, job.tips, progress=progress)
    lacking = {name: lacks[value] for name, value in job.values.items() if value in lacks}
    head = job.refs.head
    if head is not None and head.kind == "detached" and head.value.decode("ascii") in lacks:
        head = None
    refs = {name: value for name, value in job.refs.refs.items() if value not in lacks}
    pinned = {number: value for number, value in job.pinned.items() if value not in lacks}
    made = replace(job, refs=Refs(refs, head), pinned=pinned)
    whole = check(CheckJob(str(job.git_folder), made.tips, in_store=False), progress=progress)
    again = tuple(one for one in whole.problems if one.severity == "damage")
    if again or not made.values:
        _remove(Path(job.target))
        return CopyResult(None, (*damage, *again))
    write_head(job.git_folder, head or Head("unborn", b"refs/heads/main"))
    _write_refs(job.git_folder, made)
    return CopyResult(made, damage, _files(made, progress), lacking)


def copy_at(mirror: Path, target: Path, refs: Refs, *, progress: OnProgress = no_progress) -> None:
    """Create the bare repository `target` with exactly `refs` and their HEAD; see `copy`.

    Also raises GitFailed where the mirror is damaged.
    """
    result = copy(CopyJob(str(mirror), str(target), refs), progress=progress)
    if result.damage:
        first = result.damage[0]
        raise GitFailed(f"{mirror.name}: {first.object or first.file} {first.problem}")


def _make(target: Path, job: CopyJob) -> None:
    """Create an empty repository. Remove what an earlier attempt left."""
    _remove(target)
    for folder in ("", "objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    write_file(target / "config", _CONFIG % (b"false" if job.work_tree else b"true"))
    head = job.refs.head if job.refs.head is not None else Head("unborn", b"refs/heads/main")
    write_head(target, head)


def _remove(target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(target)


def _listing(mirror: Path) -> frozenset[str]:
    """The packs, indexes and loose objects of the mirror, relative to its `objects`."""
    objects = mirror / "objects"
    stems = pack_stems(objects / "pack")
    halves = [objects / "pack" / f"{stem}{suffix}" for stem in stems for suffix in (".pack", ".idx")]
    packs = {f"pack/{half.name}" for half in halves if half.exists()}
    loose = {
        f"{one.parent.name}/{one.name}"
        for one in objects.glob("[0-9a-f][0-9a-f]/*")
        if _LOOSE.fullmatch(one.name)
    }
    return frozenset(packs | loose)


def _partner(name: str) -> str:
    """The index of a pack, or the pack of an index."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{'idx' if suffix == 'pack' else 'pack'}"


def _halves(listing: frozenset[str]) -> list[ObjectProblem]:
    """A problem for each pack without an index, and each index without a pack."""
    return [
        ObjectProblem("is not there, though the other half of the pack is", f"objects/{_partner(name)}")
        for name in sorted(listing)
        if name.startswith("pack/") and _partner(name) not in listing
    ]


def _copy_objects(
    mirror: Path, target: Path, listing: frozenset[str], progress: OnProgress
) -> list[ObjectProblem] | None:
    """Copy the listed files, without packs that lack their index and vice versa; returns those that cannot be
    read. None where one has gone since: maintenance and prune remove packs whose objects are in another."""
    names = [name for name in sorted(listing) if not name.startswith("pack/") or _partner(name) in listing]
    problems = []
    for number, name in enumerate(names, start=1):
        progress("copying files", number, len(names))
        place = target / "objects" / name
        place.parent.mkdir(exist_ok=True)
        try:
            source = (mirror / "objects" / name).open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            problems.append(ObjectProblem(f"cannot be read: {error.strerror}", f"objects/{name}"))
            continue
        with source, place.open("xb") as out:
            while True:
                try:
                    chunk = source.read(1 << 20)
                except OSError as error:
                    text = f"cannot be read: {error.strerror}"
                    problems.append(ObjectProblem(text, f"objects/{name}"))
                    break
                if not chunk:
                    break
                out.write(chunk)
    sync_folder(target / "objects" / "pack")
    return problems


def _write_refs(target: Path, job: CopyJob) -> None:
    """Write the refs, and read them back. Raises GitFailed where they differ."""
    values, tops = job.values, {}
    with closed_after(open_objects(target)) as store:
        for name, value in values.items():
            # Peeled values are optional: git computes those that are missing.
            with contextlib.suppress(Exception):
                top = peeled_tag(store, value)
                if top is not None:
                    tops[name] = top
    write_packed(target, values, tops)
    if read_packed(target)[0] != values:
        raise GitFailed(f"the refs at {target} are not what was written there")


def _files(job: CopyJob, progress: OnProgress) -> tuple[LeftOut, ...]:
    """Check out the files of HEAD, where the copy has a worktree and HEAD is not unborn."""
    head = job.refs.head
    if not job.work_tree or head is None:
        return ()
    value = head.value.decode("ascii") if head.kind == "detached" else job.refs.refs.get(head.value)
    if value is None:
        return ()
    progress("files")
    return check_out(job.git_folder, Path(job.target), value)
