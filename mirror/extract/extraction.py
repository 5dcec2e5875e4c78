"""Extracting one folder of the store at one snapshot. See `extract`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mirror.errors import DamageFound, MirrorError
from mirror.extract.choice import problem_of, snapshot_at
from mirror.extract.consistency import TRIES, version_of
from mirror.extract.destination import Destination
from mirror.extract.files import FILES, METADATA, Problems, copy_objects, lfs_reached, write_documents
from mirror.git.failures import GitFailed
from mirror.git.mirrors.clone import CopyJob, CopyResult
from mirror.git.workers.job import Job, Tell
from mirror.model import name_to_json
from mirror.store.format.layout import mirror_place
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, MirrorRefs, RepositoryFolder

CODE = "code"
# The first part of the names that an extraction writes.
_OURS = (CODE, "wiki", "snippets")
_LEFT_OUT_TOLD = 20
# Called with a subject, its stage, and how much is done of how much, where that is known.
Report = Callable[..., None]
T = TypeVar("T")


@dataclass(frozen=True)
class Form:
    """The layout of the target. `word` marks the name of the unfinished folder. `work_trees`: clones with
    work trees instead of bare repositories. `named_files`: readable names instead of hashes for stored
    files."""

    word: str
    work_trees: bool = False
    named_files: bool = False


@dataclass(frozen=True)
class ExtractOptions:
    """What to extract: `parts` are of `code`, `wiki`, `snippets` and `metadata`. `do` runs a git job and
    passes its progress on. `report` receives the progress, and may raise to stop."""

    form: Form
    parts: frozenset[str]
    do: Callable[[Job[Any], Tell], Any]
    report: Report = lambda *_: None
    overwrite: bool = False
    # Mirrors that the snapshot must have.
    needed: frozenset[str] = frozenset()
    # Which refs of a mirror: by its name, from all of the snapshot. May raise UsageError.
    choose: Callable[[str, MirrorRefs], MirrorRefs] = lambda _, recorded: recorded


@dataclass
class Extracted:
    """The result for one folder: the snapshot, and counts. `refs` is by mirror. `is_there`: the target has
    content, perhaps incomplete. Each problem has an exit code."""

    when: At
    is_there: bool = False
    refs: dict[str, int] = field(default_factory=dict)
    documents: int = 0
    files: int = 0
    logs_let_go: int = 0
    lfs_objects: int = 0
    lfs_absent: int = 0
    problems: Problems = field(default_factory=list)


class _NoMirror(Exception):
    """A mirror is damaged and was not copied. Its problems are in the result."""


def extract(folder: AnyFolder, when: At, at: str, place: Path, options: ExtractOptions) -> Extracted:
    """Extract the parts in `options` from `folder` at the snapshot `when`, to `place`.

    If there is damage and prune or erase changed the folder meanwhile, it starts again with the snapshot that
    `at` selects then. Errors of the folder or the target are problems in the result, not raised.
    """
    done = Extracted(when)
    destination: Destination | None = None
    try:
        destination = _destination(place, options)
        for turn in range(TRIES):
            before, done = version_of(folder), Extracted(when)
            if not _is_current(folder, when):
                when = snapshot_at(folder, at)
            done = _make(folder, when, destination.begin(again=turn > 0), options)
            if version_of(folder) == before or not _is_damaged(done):
                break
        _publish(folder, place, destination, done)
    except MirrorError as error:
        done.problems.append(problem_of(error))
    except OSError as error:
        done.problems.append((1, f"{error.strerror or error}: {error.filename}"))
    finally:
        if destination is not None:
            done.problems += destination.discard()
        options.report(folder.full_name, "done")
    return done


def _destination(place: Path, options: ExtractOptions) -> Destination:
    suffix = "" if options.form.work_trees else ".git"
    ours = [*(one if one == "snippets" else f"{one}{suffix}" for one in _OURS), METADATA, FILES]
    return Destination(place, options.form.word, overwrite=options.overwrite, ours=ours)


def _is_current(folder: AnyFolder, when: At) -> bool:
    """Whether the tag still names this snapshot: prune or erase may have run since."""
    try:
        return folder.metadata.get(when.snapshot.id) == when.snapshot
    except DamageFound:
        return False


def _is_damaged(done: Extracted) -> bool:
    return any(code == 4 for code, _ in done.problems)


def _publish(folder: AnyFolder, place: Path, destination: Destination, done: Extracted) -> None:
    """Publish the extraction. A damaged one never replaces existing content."""
    if not any(destination.unfinished.iterdir()):
        return
    if _is_damaged(done) and destination.replaces:
        text = f"{folder.full_name}: {place} was not changed, because of the damage"
        done.problems.append((4, f"{text}; restore the undamaged rest to an empty folder"))
        return
    done.problems += destination.publish()
    done.is_there = True


def _make(folder: AnyFolder, when: At, target: Path, options: ExtractOptions) -> Extracted:
    """Write all parts to the folder `target`. Raises MirrorError and OSError where that is impossible."""
    done, name, snapshot = Extracted(when), folder.full_name, when.snapshot
    if METADATA in options.parts:
        options.report(name, "documents")
        try:
            written = write_documents(
                folder,
                snapshot,
                target,
                lambda text, *counts: options.report(name, text, *counts),
                by_name=options.form.named_files,
            )
            done.documents, done.files = written.documents, written.files
            done.logs_let_go, done.problems = written.logs_let_go, written.problems
        except DamageFound as damage:
            done.problems.append((damage.exit_code, f"{name}: {damage.message}"))
    for mirror, one in _wanted(folder, when, options, done).items():
        options.report(name, mirror)
        place = target / (mirror if options.form.work_trees else mirror_place(mirror))
        try:
            job = _copy(folder, mirror, one, place, options, done)
            if mirror == CODE and isinstance(folder, RepositoryFolder):
                _add_objects(folder, when, job, options, done)
        except _NoMirror:
            continue
        done.refs[mirror] = len(job.refs.refs)
    return done


def _wanted(
    folder: AnyFolder, when: At, options: ExtractOptions, done: Extracted
) -> Mapping[str, MirrorRefs]:
    """The refs of each wanted mirror at the snapshot, by the mirror's name."""
    try:
        refs = folder.metadata.mirrors(when.snapshot)
    except DamageFound as damage:
        done.problems.append((damage.exit_code, f"{folder.full_name}: {damage.message}"))
        return {}
    for lacking in sorted(options.needed - refs.keys()):
        text = f"the snapshot {when.snapshot.id} has no {lacking}, which could not be read then"
        done.problems.append((3, f"{folder.full_name}: {text}"))
    return {
        mirror: options.choose(mirror, one)
        for mirror, one in refs.items()
        if mirror.partition("/")[0] in options.parts
    }


def _copy(
    folder: AnyFolder,
    mirror: str,
    recorded: MirrorRefs,
    place: Path,
    options: ExtractOptions,
    done: Extracted,
) -> CopyJob:
    """Copy a mirror; returns the job with the refs that came. Raises _NoMirror where it is so damaged that
    none did."""
    source = folder.mirror(mirror)
    job = CopyJob(str(source), str(place), recorded.refs, dict(recorded.pins), options.form.work_trees)
    result: CopyResult = options.do(
        job, lambda text, *counts: options.report(folder.full_name, f"{mirror}: {text}", *counts)
    )
    texts = (*_damage(mirror, folder.relative(source), result), *_not_laid_out(mirror, place.name, result))
    done.problems += [(code, f"{folder.full_name}: {text}") for code, text in texts]
    if result.made is None:
        raise _NoMirror
    return result.made


def _damage(mirror: str, where: str, result: CopyResult) -> Iterator[tuple[int, str]]:
    """What is damaged in a mirror, which is at `where` in the store, and which refs do not come for it."""
    for problem in result.damage:
        file = f"{where}/{problem.file}" if problem.file else where
        what = f" {problem.object}" if problem.object else ""
        yield 4, f"{file} is damaged:{what} {problem.problem}"
    for ref, lack in sorted(result.lacking.items())[:_LEFT_OUT_TOLD]:
        yield 4, f"{mirror} comes without {name_to_json(ref)}, because {lack}"
    more = len(result.lacking) - _LEFT_OUT_TOLD
    if more > 0:
        yield 4, f"{mirror} comes without {more} more refs"


def _not_laid_out(mirror: str, name: str, result: CopyResult) -> Iterator[tuple[int, str]]:
    """The files that the clone called `name` has and its work tree cannot have."""
    for one in result.left_out[:_LEFT_OUT_TOLD]:
        path = name_to_json(one.path) or "the top folder"
        yield 3, f"{mirror}/{path} is not laid out: {one.reason}"
    more = len(result.left_out) - _LEFT_OUT_TOLD
    if more > 0:
        yield 3, f"{more} more files of {mirror} are not laid out"
    if result.left_out:
        yield 3, f"git has them all the same: clone {name}, or list them there with git ls-tree -r HEAD"


def _add_objects(
    folder: RepositoryFolder, when: At, job: CopyJob, options: ExtractOptions, done: Extracted
) -> None:
    """Copy the LFS objects that the refs of the copy reach."""
    name = folder.full_name

    def report(text: str, *counts: int | None) -> None:
        options.report(name, text, *counts)

    try:
        oids = lfs_reached(
            folder, when.snapshot, job.git_folder, job.tips, lambda find: options.do(find, report)
        )
        objects = copy_objects(folder, when.snapshot, oids, job.git_folder, report)
    except (DamageFound, GitFailed) as error:  # the code is complete all the same
        done.problems.append((4, f"{name}: its LFS objects are not there: {error.message}"))
        return
    done.lfs_objects, done.lfs_absent = objects.restored, objects.absent
    done.problems += objects.problems
