"""Archives of repositories and workspaces, written to a folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirror import extract
from mirror.archive import search
from mirror.archive.pages import Pages
from mirror.archive.render import FORMS, HTML, TEMPLATES, Renderer
from mirror.errors import MirrorError
from mirror.extract import EXPORTING
from mirror.extract.choice import snapshot_at
from mirror.extract.consistency import TRIES
from mirror.extract.destination import Destination
from mirror.model import JsonObject, Selector, time_text
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, Store, StoreDamaged, WorkspaceFolder

# What a workspace has besides its repositories; no repository's folder begins so.
WORKSPACE = "_workspace"
_SAFE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
# Names that Windows takes for devices.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


@dataclass(frozen=True)
class Archived:
    """One repository's (or workspace's) part of an archive; `when` is None where it had no snapshot then.
    `counts` are of documents by kind. Each problem has an exit code."""

    name: str
    when: At | None
    target: str
    place: str = ""
    about: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    pages: int = 0
    files: int = 0
    is_there: bool = False
    problems: tuple[tuple[int, str], ...] = ()

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {
            "repository": self.name,
            "snapshot": self.when.snapshot.id if self.when else None,
            "taken": time_text(self.when.taken) if self.when else None,
            "target": self.target,
            "pages": self.pages,
            "files": self.files,
            "is_there": self.is_there,
            "problems": [{"code": code, "text": text} for code, text in self.problems],
        }


def archive(
    path: Path,
    selector: Selector,
    target: Path,
    form: str,
    *,
    at: str = "latest",
    report: Callable[[str, str], None] = lambda *_: None,
) -> list[Archived]:
    """Write pages of what `selector` means, as it was `at`, to the folder `target`; `form` is `html` or
    `markdown`.

    Raises UsageError where the folder is not empty, and OSError where its disk fails; then nothing is
    written. What happens to one of several repositories is in its own result.
    """
    extract.check_place(target, hint="name an empty folder, or a new one")
    with Store.open(path) as store:
        folders, homes, damages = extract.readable(store, selector)
        several: list[AnyFolder] = [*(one for one in homes if one.metadata.tags()), *folders]
        chosen = extract.choose(several, at)
        destination = Destination(target, EXPORTING)
        try:
            job = _Job(destination.begin(), Renderer(FORMS[form]), at, target, report)
            done = [_unreadable(damage) for damage in damages]
            places = _places(several)
            done += [job.do(*one) for one in zip(several, chosen, places, strict=True)]
            job.finish(done)
            left = destination.publish()
        finally:
            left_over = destination.discard()
    if left or left_over:
        done.append(Archived(str(selector), None, str(target), problems=tuple(left + left_over)))
    return done


def _unreadable(damage: StoreDamaged) -> Archived:
    """A folder of which nobody knows the owner."""
    name, problems = extract.unreadable(damage)
    return Archived(name, None, "", problems=problems)


def _places(several: Sequence[AnyFolder]) -> list[str]:
    """Where the pages of each go: `workspace/repository`. Names that another disk may not take, or that two
    of them have, are those of the store's folders."""
    taken: set[str] = set()
    found = []
    for one in several:
        if isinstance(one, WorkspaceFolder):
            names = (one.slug, one.folder), (WORKSPACE, WORKSPACE)
        else:
            names = (one.workspace_slug, one.workspace_folder), (one.slug, one.folder)
        place = "/".join(_name(*pair) for pair in names)
        if place in taken:
            place = f"{place.partition('/')[0]}/{one.folder}"
        taken.add(place)
        found.append(place)
    return found


def _name(slug: str, folder: str) -> str:
    is_safe = _SAFE.fullmatch(slug) and not slug.endswith(".") and not _DEVICES.fullmatch(slug)
    return slug if is_safe else folder


class _Job:
    """Writes an archive to the folder `top`, which becomes `target`."""

    def __init__(
        self, top: Path, renderer: Renderer, at: str, target: Path, report: Callable[[str, str], None]
    ) -> None:
        self._top = top
        self._renderer = renderer
        self._at = at
        self._target = target
        self._report = report

    def do(self, folder: AnyFolder, when: At | MirrorError, place: str) -> Archived:
        """Write the pages of one folder. Done again where a prune or an erasure changed it meanwhile."""
        name, target = folder.full_name, str(self._target / place)
        if isinstance(when, MirrorError):
            return Archived(name, None, target, problems=(extract.problem_of(when),))
        for _ in range(TRIES):
            before = extract.version_of(folder)
            done = self._write(folder, when, place)
            if extract.version_of(folder) == before or not any(code == 4 for code, _ in done.problems):
                break
            shutil.rmtree(self._top / place, ignore_errors=True)
            try:
                when = snapshot_at(folder, self._at)
            except MirrorError as error:
                return Archived(name, None, target, problems=(extract.problem_of(error),))
        self._report(name, "done")
        return done

    def _write(self, folder: AnyFolder, when: At, place: str) -> Archived:
        name = folder.full_name
        index = self._top / place / search.FILE if self._renderer.form is HTML else None
        problems: list[tuple[int, str]] = []
        with search.SearchIndex(index, name) as found:
            pages = Pages(
                folder, when, self._top, place, self._renderer, found, lambda text: self._report(name, text)
            )
            try:
                pages.write()
            except MirrorError as error:
                problems.append((error.exit_code, f"{name}: {error.message}"))
        problems += [*pages.problems, *pages.files.problems]
        return Archived(
            name, when, str(self._target / place), place, pages.about, pages.counts, pages.count,
            pages.files.count, pages.count > 0, tuple(problems),
        )  # fmt: skip

    def finish(self, done: Sequence[Archived]) -> None:
        """Write what leads to all the pages."""
        form = self._renderer.form
        there = [one for one in done if one.is_there]
        workspaces: dict[str, list[Archived]] = {}
        for one in there:
            workspaces.setdefault(one.place.partition("/")[0], []).append(one)
        self._put(form.index, self._renderer.page("index", form.index, workspaces=workspaces, done=done))
        for name in form.assets:
            self._put(name, (TEMPLATES / name).read_bytes())
        if form is HTML:
            self._put("search.html", self._renderer.page("search", "search.html"))
            places = [(one.name, f"{one.place}/{search.FILE}") for one in there]
            self._put("search-list.js", search.script_of(places))

    def _put(self, name: str, data: bytes) -> None:
        (self._top / name).write_bytes(data)
