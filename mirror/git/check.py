"""Re-reading everything that a repository of ours holds: every byte, every object, every link.

It reads with its own eyes: what was written is hashed again, and damage of any kind ends in a
problem that names the file and object, never in an exception.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dulwich.object_format import SHA1
from dulwich.object_store import DiskObjectStore
from dulwich.objects import Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.pack import PackData, PackIndexer, load_pack_index

from mirror.git.bare import config_fault
from mirror.git.refs import KEEP, closed_after, name_fault, read_all, read_packed

# Enough to tell what is wrong; a disk that is gone would otherwise name every object.
PROBLEMS_MAX = 1000
_GITLINK = 0o160000


@dataclass(frozen=True)
class CheckJob:
    """Check the repository at `path`; `named` are hashes that must be there with all they reach.

    `in_store`: it must have the settings that repositories of a store have, too. `finished`: something
    relies on it, so that its making cannot just have been interrupted.
    """

    path: str
    named: tuple[str, ...] = ()
    in_store: bool = True
    finished: bool = True


@dataclass(frozen=True)
class ObjectProblem:
    """One problem: the file (relative to the repository) and the object, where known."""

    problem: str
    file: str | None = None
    object: str | None = None
    # Which of the named hashes cannot be had in full because of it, where that is known.
    named: tuple[str, ...] = ()
    severity: Literal["damage", "warning"] = "damage"


@dataclass(frozen=True)
class CheckResult:
    """How many objects were read, and what is wrong."""

    objects: int
    problems: tuple[ObjectProblem, ...] = ()


def direct_values(path: Path) -> set[str]:
    """The hashes that some ref of the repository has as its direct value."""
    return set(read_all(path).values())


def check(job: CheckJob, *, tell: Callable[[str], None] = lambda _: None) -> CheckResult:
    """Do `job`. Never raises for damage."""
    path = Path(job.path)
    problems: list[ObjectProblem] = []
    objects = 0
    if not job.finished and not (path / "config").exists():
        text = "its making was interrupted; the next backup goes on with it"
        return CheckResult(0, (ObjectProblem(text, severity="warning"),))
    _check_files(path, problems, in_store=job.in_store)
    packs = path / "objects" / "pack"
    names = sorted({file.stem for file in packs.glob("pack-*") if file.suffix in (".pack", ".idx")})
    halves: list[ObjectProblem] = []
    for number, name in enumerate(names, start=1):
        tell(f"pack {number} of {len(names)}")
        objects += _check_pack(packs / name, problems, halves)
    objects += _check_loose(path / "objects", problems)
    tell("links")
    before = len(problems)
    _check_links(path, job.named, problems)
    # Half a pack is what a writer that was killed leaves, unless something now lacks its objects.
    if len(problems) == before:
        halves = [replace(half, severity="warning") for half in halves]
    return CheckResult(objects, tuple([*halves, *problems][:PROBLEMS_MAX]))


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
            sound = len(text) == 40 if target == text else name_fault(content.strip()[5:]) is None
            if not sound or not content.endswith(b"\n"):
                problems.append(ObjectProblem("does not name a ref or a commit", name))
    try:
        refs, _ = read_packed(path)
    except (OSError, ValueError) as error:
        problems.append(ObjectProblem(f"cannot be read: {error}", "packed-refs"))
        return
    problems.extend(
        ObjectProblem(f"names an impossible ref {ref!r}", "packed-refs")
        for ref in refs
        if name_fault(ref) is not None
    )
    problems.extend(
        ObjectProblem("a kept hash stands under the name of another", "packed-refs", value)
        for ref, value in refs.items()
        if ref.startswith(KEEP) and ref[len(KEEP) :] != value.encode("ascii")
    )


def _hash_file(path: Path) -> tuple[bytes, bytes]:
    """The SHA-1 of all but the last 20 bytes, and those 20 bytes."""
    digest = hashlib.sha1(usedforsecurity=False)
    left = path.stat().st_size - 20
    with path.open("rb") as stream:
        while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        return digest.digest(), stream.read(20)


def _check_pack(base: Path, problems: list[ObjectProblem], halves: list[ObjectProblem]) -> int:
    """Check one pack and its index; returns how many objects were read.

    Where one of the two is not there, that goes to `halves`.
    """
    sound = True
    for suffix in (".pack", ".idx"):
        file = base.with_suffix(suffix)
        label = f"objects/pack/{file.name}"
        try:
            computed, stated = _hash_file(file)
        except FileNotFoundError:
            halves.append(ObjectProblem("is not there, though the other half of the pack is", label))
            sound = False
            continue
        except OSError as error:
            problems.append(ObjectProblem(f"cannot be read: {error.strerror}", label))
            sound = False
            continue
        if computed != stated:
            problems.append(ObjectProblem("its content does not match its checksum", label))
            sound = False
        elif suffix == ".pack" and base.name != f"pack-{stated.hex()}" and len(base.name) != 45:
            problems.append(ObjectProblem("its name is not a pack's", label))
    if not base.with_suffix(".pack").is_file():
        return 0
    label = f"objects/pack/{base.name}.pack"
    try:
        with closed_after(PackData(str(base.with_suffix(".pack")), SHA1)) as data:
            found = {bytes(name): offset for name, offset, _ in PackIndexer.for_pack_data(data)}
        if not sound:
            return len(found)
        with closed_after(load_pack_index(str(base.with_suffix(".idx")), SHA1)) as index:
            listed = {bytes(name): offset for name, offset, _ in index.iterentries()}
    except Exception as error:  # noqa: BLE001 - damage raises anything
        problems.append(ObjectProblem(f"its objects cannot be read: {type(error).__name__}: {error}", label))
        return 0
    different = found.keys() ^ listed.keys() | {n for n in found if n in listed and found[n] != listed[n]}
    problems.extend(
        ObjectProblem("pack and index disagree about an object", label, name.hex())
        for name in sorted(different)
    )
    return len(found)


def _check_loose(objects: Path, problems: list[ObjectProblem]) -> int:
    count = 0
    for folder in sorted(objects.glob("[0-9a-f][0-9a-f]")):
        for file in sorted(folder.iterdir()):
            identifier = folder.name + file.name
            label = f"objects/{folder.name}/{file.name}"
            if len(identifier) != 40:
                continue
            count += 1
            try:
                with file.open("rb") as stream:
                    actual = ShaFile.from_file(stream).id.decode("ascii")
            except Exception as error:  # noqa: BLE001 - damage raises anything
                problems.append(ObjectProblem(f"cannot be read: {error}", label, identifier))
                continue
            if actual != identifier:
                problems.append(ObjectProblem("its content has another hash", label, identifier))
    return count


def _check_links(path: Path, named: Iterable[str], problems: list[ObjectProblem]) -> None:
    """Walk from every named hash; each object on the way must be there."""
    try:
        store = DiskObjectStore(str(path / "objects"))
    except Exception as error:  # noqa: BLE001 - damage raises anything
        problems.append(ObjectProblem(f"objects cannot be opened: {error}", "objects"))
        return
    seen: set[bytes] = set()
    with closed_after(store):
        for start in named:
            missing = _walk(store, start.encode("ascii"), seen)
            for identifier, text in missing:
                problems.append(ObjectProblem(text, None, identifier.decode("ascii"), (start,)))
            if len(problems) > PROBLEMS_MAX:
                return


def _walk(store: DiskObjectStore, start: bytes, seen: set[bytes]) -> list[tuple[bytes, str]]:
    missing: list[tuple[bytes, str]] = []
    todo = [start]
    while todo:
        identifier = todo.pop()
        if identifier in seen:
            continue
        seen.add(identifier)
        try:
            kind, data = store.get_raw(ObjectID(identifier))
            links, blobs = _links(kind, data)
        except KeyError:
            missing.append((identifier, "is missing"))
            continue
        except Exception as error:  # noqa: BLE001 - damage raises anything
            missing.append((identifier, f"cannot be read: {type(error).__name__}"))
            continue
        todo.extend(link for link in links if link not in seen)
        for blob in blobs:
            # Content was hashed with its pack; here it only has to be there.
            if blob not in seen:
                seen.add(blob)
                if ObjectID(blob) not in store:
                    missing.append((blob, "is missing"))
    return missing


def _links(kind: int, data: bytes) -> tuple[list[bytes], list[bytes]]:
    """What an object names: to be walked, and to be looked for only."""
    found = ShaFile.from_raw_string(kind, data)
    if isinstance(found, Commit):
        return [found.tree, *found.parents], []
    if isinstance(found, Tag):
        return [found.object[1]], []
    if isinstance(found, Tree):
        entries = list(found.iteritems())
        folders = [entry.sha for entry in entries if entry.mode & 0o170000 == 0o040000]
        files = [entry.sha for entry in entries if entry.mode & 0o170000 not in (0o040000, _GITLINK)]
        return [*folders], [*files]
    return [], []
