"""Checking everything in a repository of ours: every byte, every object, every link, every ref.

Nothing is trusted: every object is hashed again. Damage of any kind becomes a problem that names the file
and the object, never an exception.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID

from mirror.git.bare import config_fault
from mirror.git.objects import hash_object, read_loose
from mirror.git.pack.format import PackDamaged, checksums
from mirror.git.pack.fsck import LinkChecker, PackChecker
from mirror.git.pack.index import PackIndex
from mirror.git.pack.limits import PackLimits
from mirror.git.pack.names import misnamed_packs_in, pack_stems
from mirror.git.refs import KEEP, closed_after, name_fault, open_objects, read_all, read_packed
from mirror.git.walk import all_links, raw, walk
from mirror.git.workers.job import Clock, OnProgress, no_progress
from mirror.model import is_hash

# Enough to see what is wrong; a failing disk would otherwise name every object.
PROBLEMS_MAX = 1000
# How often a check is started again where packs change while they are read.
_TRIES = 5
# What git derives from the objects, below their folder, and can rebuild.
_DERIVED = ("info/commit-graph", "info/commit-graphs/*.graph", "pack/multi-pack-index")


@dataclass(frozen=True)
class CheckJob:
    """Check the repository at `path`; `named` are hashes that must be there with everything they reach.

    `in_store`: it must also have the settings that repositories of a store have. `finished`: something relies
    on it, so an interrupted creation is no excuse.
    """

    path: str
    named: tuple[str, ...] = ()
    in_store: bool = True
    finished: bool = True

    def do(self, progress: OnProgress, _clock: Clock, _limits: PackLimits, /) -> CheckResult:
        """See `check`."""
        return check(self, progress=progress)


@dataclass(frozen=True)
class ObjectProblem:
    """One problem: the file (relative to the repository) and the object, where known."""

    problem: str
    file: str | None = None
    object: str | None = None
    # The named hashes that are incomplete because of it, where that is known.
    named: tuple[str, ...] = ()
    severity: Literal["damage", "warning"] = "damage"


@dataclass(frozen=True)
class CheckResult:
    """How many objects were read, and the problems."""

    objects: int
    problems: tuple[ObjectProblem, ...] = ()


def direct_values(path: Path) -> set[str]:
    """The direct values of all refs of the repository."""
    return set(read_all(path).values())


def check(job: CheckJob, *, progress: OnProgress = no_progress) -> CheckResult:
    """Do `job`. Never raises for damage."""
    for _ in range(_TRIES):
        packs = _pack_files(Path(job.path))
        result = _check(job, progress)
        # A pack that maintenance removed meanwhile has its objects in another one, and a pack that has just
        # arrived may lack its index: no damage, so check again.
        if not result.problems or _pack_files(Path(job.path)) == packs:
            break
    return result


def _pack_files(path: Path) -> set[str]:
    folder = path / "objects" / "pack"
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def _check(job: CheckJob, progress: OnProgress) -> CheckResult:
    path = Path(job.path)
    problems: list[ObjectProblem] = []
    objects = 0
    if not job.finished and not (path / "config").exists():
        text = "its creation was interrupted; the next backup completes it"
        return CheckResult(0, (ObjectProblem(text, severity="warning"),))
    _check_files(path, problems, in_store=job.in_store)
    halves: list[ObjectProblem] = []
    links = LinkChecker()
    loose = list(_loose(path / "objects"))
    for name, _ in loose:
        links.add_loose(bytes.fromhex(name))
    with ExitStack() as stack:
        packs = [
            (pack, stack.enter_context(closing(index)))
            for pack, index in _indexes(path / "objects" / "pack", links, problems, halves)
        ]
        for number, (pack, index) in enumerate(packs):
            progress("checking packs", number, len(packs))
            size = _size_of(pack)
            checked = _check_pack(pack, index, links, problems)
            objects += checked
            progress.received(checked, size)
        objects += _check_loose(loose, links, problems)
        # Without problems and missing links, everything named is complete.
        complete = not links.missing and all(bytes.fromhex(value) in links for value in job.named)
    before = len(problems)
    # Otherwise a walk from what is named shows what matters: the rest may need what is missing.
    if problems or halves or not complete:
        progress("links")
        _check_links(path, job.named, problems)
    derived = [*_check_derived(path / "objects"), *_misnamed(path / "objects" / "pack")]
    # A killed writer leaves half a pack: a warning, unless something lacks its objects.
    if len(problems) == before:
        halves = [replace(half, severity="warning") for half in halves]
    return CheckResult(objects, tuple([*halves, *problems, *derived][:PROBLEMS_MAX]))


def _check_files(path: Path, problems: list[ObjectProblem], *, in_store: bool) -> None:
    for name in ("HEAD", "config"):
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            problems.append(ObjectProblem(f"cannot be read: {error.strerror}", name))
            continue
        if name == "config" and in_store and (fault := config_fault(content)) is not None:
            problems.append(ObjectProblem(fault, name))
        if name == "HEAD":
            text = content.decode("utf-8", "surrogateescape").removesuffix("\n")
            target = text.removeprefix("ref: ")
            is_valid = len(text) == 40 if target == text else name_fault(content.strip()[5:]) is None
            if not is_valid or not content.endswith(b"\n"):
                problems.append(ObjectProblem("does not name a ref or a commit", name))
    try:
        refs, _ = read_packed(path)
    except (OSError, ValueError) as error:
        problems.append(ObjectProblem(f"cannot be read: {error}", "packed-refs"))
        return
    problems.extend(
        ObjectProblem(f"names an invalid ref {ref!r}", "packed-refs")
        for ref in refs
        if name_fault(ref) is not None
    )
    problems.extend(
        ObjectProblem("a keep ref has another value than its name says", "packed-refs", value)
        for ref, value in refs.items()
        if ref.startswith(KEEP) and ref[len(KEEP) :] != value.encode("ascii")
    )


def _check_derived(objects: Path) -> Iterator[ObjectProblem]:
    """Damage in what git derived: nothing is lost, but C git is misled."""
    for file in (file for pattern in _DERIVED for file in objects.glob(pattern)):
        try:
            computed, stated = checksums(file)
        except OSError:
            continue  # it has just been rebuilt
        if computed != stated:
            text = "its content does not match its checksum; remove it, git can rebuild it"
            yield ObjectProblem(text, f"objects/{file.relative_to(objects)}", severity="warning")


def _misnamed(folder: Path) -> Iterator[ObjectProblem]:
    """Files among the packs that nothing reads, because of their names."""
    for file in misnamed_packs_in(folder):
        text = "does not have the name of a pack, and is ignored; remove it if you know what it is"
        yield ObjectProblem(text, _label(file), severity="warning")


def _indexes(
    folder: Path, links: LinkChecker, problems: list[ObjectProblem], halves: list[ObjectProblem]
) -> Iterator[tuple[Path, PackIndex]]:
    """The packs that can be read, each with its index, which is added to `links`. A checksum that does not
    match becomes a problem; a pack without index, or an index without pack, goes to `halves`."""
    for name in pack_stems(folder):
        pack, index = folder / f"{name}.pack", folder / f"{name}.idx"
        sums = [_checksum(file, problems, halves) for file in (pack, index)]
        if None in sums:
            continue
        try:
            opened = PackIndex(index)
            links.add_index(opened)
        except (PackDamaged, OSError) as error:
            problems.append(ObjectProblem(f"cannot be read: {error}", _label(index)))
            continue
        if sums[0] != opened.pack_checksum:
            problems.append(ObjectProblem("pack and index do not belong together", _label(pack)))
        yield pack, opened


def _label(file: Path) -> str:
    return f"objects/pack/{file.name}"


def _checksum(file: Path, problems: list[ObjectProblem], halves: list[ObjectProblem]) -> bytes | None:
    """The checksum that a pack or index states, compared with its content; None where it cannot be read."""
    label = _label(file)
    try:
        computed, stated = checksums(file)
    except FileNotFoundError:
        halves.append(ObjectProblem("is not there, though the other half of the pack is", label))
        return None
    except OSError as error:
        problems.append(ObjectProblem(f"cannot be read: {error.strerror}", label))
        return None
    if computed != stated:
        problems.append(ObjectProblem("its content does not match its checksum", label))
    return stated


def _check_pack(pack: Path, index: PackIndex, links: LinkChecker, problems: list[ObjectProblem]) -> int:
    """Check every object of a pack; returns how many there are."""
    label = _label(pack)

    def report(text: str, oid: str | None) -> None:
        if len(problems) < PROBLEMS_MAX:
            problems.append(ObjectProblem(text, label, oid))

    try:
        with closing(PackChecker(pack, index, links, report)) as checker:
            return checker.check(processes=len(os.sched_getaffinity(0)))
    except (PackDamaged, OSError) as error:
        problems.append(ObjectProblem(f"its objects cannot be read: {error}", label))
        return 0


def _size_of(pack: Path) -> int:
    """The bytes of a pack; 0 where maintenance has just removed it."""
    try:
        return pack.stat().st_size
    except OSError:
        return 0


def _loose(objects: Path) -> Iterator[tuple[str, Path]]:
    """Object id and file of the loose objects."""
    for folder in sorted(objects.glob("[0-9a-f][0-9a-f]")):
        try:
            files = sorted(folder.iterdir())
        except FileNotFoundError:
            continue  # another program has just packed its objects
        for file in files:
            if is_hash(name := folder.name + file.name):
                yield name, file


def _check_loose(loose: list[tuple[str, Path]], links: LinkChecker, problems: list[ObjectProblem]) -> int:
    """Check every loose object; returns how many there are."""
    for name, file in loose:
        label = f"objects/{file.parent.name}/{file.name}"
        try:
            kind, data = read_loose(file)
        except Exception as error:  # noqa: BLE001 - damage raises anything
            problems.append(ObjectProblem(f"cannot be read: {error}", label, name))
            continue
        if hash_object(kind, data).hex() != name:
            problems.append(ObjectProblem("its content has another hash", label, name))
        else:
            links.check(kind, data)
    return len(loose)


def _check_links(path: Path, named: Iterable[str], problems: list[ObjectProblem]) -> None:
    """Walk from every named hash; every object on the way must be there."""
    try:
        store = open_objects(path)
    except Exception as error:  # noqa: BLE001 - damage raises anything
        problems.append(ObjectProblem(f"objects cannot be opened: {error}", "objects"))
        return
    seen: set[bytes] = set()
    with closed_after(store):
        for start in named:
            for name, text in _walk(store, start, seen):
                problems.append(ObjectProblem(text, None, name, (start,)))
            if len(problems) > PROBLEMS_MAX:
                return


def _walk(store: DiskObjectStore, start: str, seen: set[bytes]) -> list[tuple[str, str]]:
    """The objects that `start` needs and that cannot be read, each with why not."""
    missing: list[tuple[str, str]] = []

    def absent(name: bytes, error: Exception) -> None:
        text = "is missing" if isinstance(error, KeyError) else f"cannot be read: {type(error).__name__}"
        missing.append((name.hex(), text))

    def links(kind: int, data: bytes) -> list[bytes]:
        blobs, others = all_links(kind, data)
        for blob in blobs:
            # The content was hashed with its pack; here it only has to exist.
            if blob not in seen:
                seen.add(blob)
                fault = _absence(store, blob)
                if fault is not None:
                    missing.append((blob.hex(), fault))
        return others

    for _ in walk(store, raw([start]), links, seen=seen, on_error=absent):
        pass
    return missing


def _absence(store: DiskObjectStore, name: bytes) -> str | None:
    """Why an object cannot be found; None where it exists."""
    try:
        return None if ObjectID(name.hex().encode("ascii")) in store else "is missing"
    except Exception as error:  # noqa: BLE001 - damage raises anything
        return f"cannot be looked for: {type(error).__name__}"
