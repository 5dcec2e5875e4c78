"""Exporting a snapshot as plain files: documents as JSON, stored files, and git clones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mirror import extract
from mirror.git.pack.limits import DEFAULT_LIMITS
from mirror.git.workers.job import Job, OnProgress, Tell
from mirror.model import JsonObject, Selector, time_text
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, RepositoryFolder, Store, StoreDamaged

T = TypeVar("T")
_PARTS = frozenset({"code", "wiki", "snippets", "metadata"})
_FORM = extract.Form(extract.EXPORTING, work_trees=True, named_files=True)


@dataclass(frozen=True)
class Exported:
    """The export of one repository; `when` is None where it has no snapshot then. `is_there`: the target has
    content, perhaps incomplete."""

    name: str
    when: At | None
    target: str
    documents: int = 0
    files: int = 0
    refs: int = 0
    is_there: bool = False
    problems: tuple[tuple[int, str], ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "repository": self.name,
            "snapshot": self.when.snapshot.id if self.when else None,
            "taken": time_text(self.when.taken) if self.when else None,
            "target": self.target,
            "documents": self.documents,
            "files": self.files,
            "refs": self.refs,
            "is_there": self.is_there,
            "problems": [{"code": code, "text": text} for code, text in self.problems],
        }


def export(
    path: Path,
    selector: Selector,
    target: Path,
    *,
    at: str = "latest",
    report: extract.Report = lambda *_: None,
) -> list[Exported]:
    """Write the folders that `selector` matches to `target`, at the snapshot `at`.

    One repository gives `code`, `wiki` if there is one, `metadata` and `files`; several give the same in
    `workspace/repository` each, and a whole workspace its own content in `workspace/~workspace`. Raises
    UsageError where `target` is not empty. The problems of one of several are in its own result.
    """
    extract.check_place(target, hint="name an empty folder, or a new one")
    with Store.open(path) as store:
        folders, homes, damages = extract.readable(store, selector)
        places: list[tuple[AnyFolder, Path]] = [
            (one, target / one.slug / extract.WORKSPACE) for one in homes if one.metadata.tags()
        ]
        places += [
            (one, target if selector.is_exact else target / place)
            for one, place in zip(folders, extract.places_of(folders), strict=True)
        ]
        chosen = extract.choose([one for one, _ in places], at)
        return [_unreadable(one) for one in damages] + [
            _export(folder, when, at, place, report)
            if isinstance(when, At)
            else Exported(folder.full_name, None, str(place), problems=(extract.problem_of(when),))
            for (folder, place), when in zip(places, chosen, strict=True)
        ]


def _unreadable(damage: StoreDamaged) -> Exported:
    """The result for a folder that cannot be identified."""
    name, problems = extract.unreadable(damage)
    return Exported(name, None, "", problems=problems)


def _export(folder: AnyFolder, when: At, at: str, place: Path, report: extract.Report) -> Exported:
    needed = frozenset({"code"} if isinstance(folder, RepositoryFolder) else ())
    options = extract.ExtractOptions(_FORM, _PARTS, _do, report, needed=needed)
    done = extract.extract(folder, when, at, place, options)
    counts = (done.documents, done.files, sum(done.refs.values())) if done.is_there else (0, 0, 0)
    return Exported(
        folder.full_name,
        done.when,
        str(place),
        *counts,
        is_there=done.is_there,
        problems=tuple(done.problems),
    )


def _do(job: Job[T], report: Tell) -> T:
    """Run the job in this process."""
    return job.do(OnProgress(report), lambda: 0.0, DEFAULT_LIMITS)
