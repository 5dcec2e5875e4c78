"""The pages of one repository, or of what a workspace has besides: each is written as soon as it is made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mirror.archive import views
from mirror.archive.files import Files
from mirror.archive.render import Renderer, duration
from mirror.archive.search import SearchIndex
from mirror.archive.text import one_line
from mirror.bitbucket.readable import discussions
from mirror.bitbucket.readable.values import Comment
from mirror.errors import DamageFound, MirrorError
from mirror.git.comparison import Comparer
from mirror.model import Json, JsonObject, name_to_json, time_text
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import At, RepositoryFolder

ROWS_PER_PAGE = 200
_NUMBERED = re.compile(r"/(\d{1,18})\.json$")


@dataclass(frozen=True)
class Row:
    """A line of a list."""

    href: str
    number: str
    title: str
    state: str
    cells: Sequence[str] = ()
    times: Sequence[str | int] = ()


@dataclass(frozen=True)
class Link:
    """An entry of a repository's navigation. `count` is empty where there is nothing to count."""

    href: str
    title: str
    count: str = ""


@dataclass
class Pages:
    """Writes the pages of `folder` as of the snapshot `when` below `top`/`place` (two names)."""

    folder: AnyFolder
    when: At
    top: Path
    place: str
    renderer: Renderer
    search: SearchIndex
    report: Callable[[str], None]
    files: Files = field(init=False)
    count: int = 0
    about: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    _nav: list[Link] = field(default_factory=list)
    _base: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = Files(self.folder, self.top / self.place)

    def write(self) -> None:
        """Write all pages. Raises OSError where the disk fails, and StoreDamaged where nobody can say
        what there is."""
        documents = self._documents()
        self.counts = {kind: len(several) for kind, several in documents.items()}
        self._base = {
            "name": self.folder.full_name, "snapshot": self.when.snapshot.id,
            "taken": time_text(self.when.taken), "nav": self._nav,
        }  # fmt: skip
        self._nav += self._links(documents)
        states = self._pull_requests(documents)
        self._issues(documents)
        self._pipelines(documents)
        self._commits(documents)
        self._snippets(documents)
        self._deployments(documents)
        self._refs()
        self._downloads(documents)
        self._settings(documents)
        self._snapshots()
        self._overview(states)

    # -- what there is

    def _documents(self) -> dict[str, list[str]]:
        """The paths of the documents, by the folder or file that they are in; numbered ones newest first."""
        found: dict[str, list[str]] = {}
        for path in self.folder.metadata.paths(self.when.snapshot):
            found.setdefault(path.partition("/")[0], []).append(path)
        for several in found.values():
            several.sort(key=_order)
        return found

    def _links(self, documents: dict[str, list[str]]) -> list[Link]:
        index, suffix = self.renderer.form.index, self.renderer.form.suffix
        wanted = [
            ("pull-requests", "Pull requests", f"pull-requests/{index}"),
            ("issues", "Issues", f"issues/{index}"),
            ("pipelines", "Pipelines", f"pipelines/{index}"),
            ("commit-comments", "Commits", f"commits/{index}"),
            ("snippets", "Snippets", f"snippets/{index}"),
            ("deployments", "Deployments", f"deployments{suffix}"),
            ("downloads.json", "Downloads", f"downloads{suffix}"),
            ("settings", "Settings", f"settings{suffix}"),
        ]
        links = [
            Link(
                href,
                title,
                ""
                if kind in ("settings", "downloads.json", "commit-comments")
                else str(len(documents[kind])),
            )
            for kind, title, href in wanted
            if kind in documents
        ]
        if isinstance(self.folder, RepositoryFolder):
            refs = self._of_refs()
            count = "" if refs is None else str(len(refs[0]))
            links.insert(0, Link(f"refs{suffix}", "Branches and tags", count))
        taken = str(len(self.folder.metadata.tags()))
        return [Link(index, "Overview"), *links, Link(f"snapshots{suffix}", "Snapshots", taken)]

    def _read(self, path: str) -> Json | None:
        """A document; None where it is damaged, which becomes a problem."""
        try:
            return self.folder.metadata.read(self.when.snapshot, path)
        except DamageFound as damage:
            self.problems.append((damage.exit_code, f"{self.folder.full_name}: {damage.message}"))
            return None

    def _objects(self, paths: Iterable[str]) -> Iterator[tuple[str, JsonObject]]:
        for path in paths:
            document = self._read(path)
            if isinstance(document, dict):
                yield path, document

    def _page(self, template: str, path: str, **context: Any) -> None:
        place = f"{self.place}/{path}"
        target = self.top / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.renderer.page(template, place, here=path, **self._base, **context))
        self.count += 1
        if self.count % 50 == 0:
            self.report(f"{self.count} pages")

    def _list(self, folder: str, title: str, columns: Sequence[str], rows: Iterator[Row]) -> None:
        """A list of rows in pages, each written as soon as it is full."""
        number, some = 1, list(islice(rows, ROWS_PER_PAGE))
        while some or number == 1:
            following = list(islice(rows, ROWS_PER_PAGE))
            self._page(
                "list", self._list_page(folder, number), title=title, columns=columns, rows=some,
                number=number,
                before=self._list_page("", number - 1) if number > 1 else None,
                after=self._list_page("", number + 1) if following else None,
            )  # fmt: skip
            number, some = number + 1, following

    def _list_page(self, folder: str, number: int) -> str:
        form = self.renderer.form
        name = form.index if number == 1 else f"page-{number}{form.suffix}"
        return f"{folder}/{name}" if folder else name

    # -- discussions

    def _pull_requests(self, documents: dict[str, list[str]]) -> Counter[str]:
        """A page for each pull request; returns how many are in each state."""
        paths, states = documents.get("pull-requests", []), Counter[str]()
        if paths:
            columns = ("#", "Title", "State", "Author", "Comments", "Updated")
            with self._comparer() as comparer:
                rows = self._pull_request_rows(paths, comparer, states)
                self._list("pull-requests", "Pull requests", columns, rows)
        return states

    def _pull_request_rows(
        self, paths: Sequence[str], comparer: Comparer | None, states: Counter[str]
    ) -> Iterator[Row]:
        pins = self._pins()
        for path, document in self._objects(paths):
            number = _number(path)
            pin = pins.get(int(number))
            if pin is not None and comparer is not None and comparer.commit(pin) is None:
                text = f"{self.folder.full_name}: the head of pull request {number} is missing or damaged"
                self.problems.append((4, text))
            view = views.pull_request(document, number, pin, comparer, self.files)
            pull = view["pull"]
            page = f"{number}{self.renderer.form.suffix}"
            self._page("pull-request", f"pull-requests/{page}", **view)
            self.search.add(
                f"{self.place}/pull-requests/{page}", f"Pull request #{number}", pull.title,
                [pull.description.raw, pull.source.branch, *_texts(pull.threads),
                 *(one.text.raw for one in pull.tasks)],
            )  # fmt: skip
            states[pull.state] += 1
            yield Row(
                page, number, pull.title, pull.state, (pull.author, str(pull.comment_count)), (pull.updated,)
            )

    def _comparer(self) -> AbstractContextManager[Comparer | None]:
        """What compares commits, where there is a mirror."""
        path = self.folder.mirrors().get("code")
        try:
            return nullcontext() if path is None else Comparer(path)
        except MirrorError as error:
            self.problems.append((4, f"{self.folder.full_name}: its code cannot be read: {error.message}"))
            return nullcontext()

    def _pins(self) -> dict[int, str]:
        """The head that the mirror keeps of each pull request."""
        found = self._of_refs()
        return found[1] if found is not None else {}

    def _of_refs(self) -> tuple[list[tuple[str, str]], dict[int, str]] | None:
        try:
            found = self.folder.metadata.code_refs(self.when.snapshot)
        except DamageFound as damage:
            self.problems.append((damage.exit_code, f"{self.folder.full_name}: {damage.message}"))
            return None
        if found is None:
            return None
        refs, pins = found
        return [(name_to_json(name), value) for name, value in sorted(refs.refs.items())], pins

    def _issues(self, documents: dict[str, list[str]]) -> None:
        paths = documents.get("issues", [])
        columns = ("#", "Title", "State", "Reporter", "Updated")
        if paths:
            self._list("issues", "Issues", columns, self._issue_rows(paths))

    def _issue_rows(self, paths: Sequence[str]) -> Iterator[Row]:
        for path, document in self._objects(paths):
            number = _number(path)
            view = views.issue(document, number, self.files)
            issue = view["issue"]
            page = f"{number}{self.renderer.form.suffix}"
            self._page("issue", f"issues/{page}", **view)
            self.search.add(
                f"{self.place}/issues/{page}", f"Issue #{number}", issue.title,
                [issue.content.raw, *_texts(issue.comments)],
            )  # fmt: skip
            yield Row(page, number, issue.title, issue.state, (issue.author,), (issue.updated,))

    def _commits(self, documents: dict[str, list[str]]) -> None:
        paths = documents.get("commit-comments", [])
        columns = ("Commit", "Subject", "", "Comments", "Statuses", "Date")
        if paths:
            with self._comparer() as comparer:
                rows = self._commit_rows(paths, comparer)
                self._list("commits", "Commits with comments, builds or reports", columns, rows)

    def _commit_rows(self, paths: Sequence[str], comparer: Comparer | None) -> Iterator[Row]:
        for path, document in self._objects(paths):
            name = _stem(path)
            view = views.commit(document, name, comparer)
            remarks, commit = view["remarks"], view["commit"]
            if not remarks:
                continue
            subject = commit.message.partition("\n")[0] if commit is not None else ""
            page = f"{name}{self.renderer.form.suffix}"
            self._page("commit", f"commits/{page}", **view)
            if remarks.comments:
                self.search.add(
                    f"{self.place}/commits/{page}", f"Commit {name[:12]}", subject, _texts(remarks.comments)
                )
            date = commit.time if commit is not None else ""
            cells = (str(len(remarks.comments)), str(len(remarks.statuses)))
            yield Row(page, name[:12], subject or name, "", cells, (date,))

    def _snippets(self, documents: dict[str, list[str]]) -> None:
        paths = documents.get("snippets", [])
        if paths:
            rows = self._snippet_rows(paths)
            self._list("snippets", "Snippets", ("Id", "Title", "", "Owner", "Updated"), rows)

    def _snippet_rows(self, paths: Sequence[str]) -> Iterator[Row]:
        for path, document in self._objects(paths):
            view, name = views.snippet(document, self.files), _stem(path)
            snippet = view["snippet"]
            page = f"{name}{self.renderer.form.suffix}"
            self._page("snippet", f"snippets/{page}", **view)
            texts = [*_texts(snippet.comments), *(one.name for one in snippet.files)]
            self.search.add(f"{self.place}/snippets/{page}", "Snippet", snippet.title, texts)
            yield Row(page, snippet.id, snippet.title, "", (snippet.owner,), (snippet.updated,))

    # -- builds

    def _pipelines(self, documents: dict[str, list[str]]) -> None:
        paths = documents.get("pipelines", [])
        columns = ("#", "Branch", "Result", "Trigger", "Duration", "Started")
        if paths:
            self._list("pipelines", "Pipelines", columns, self._pipeline_rows(paths))

    def _pipeline_rows(self, paths: Sequence[str]) -> Iterator[Row]:
        for path, document in self._objects(paths):
            number = _number(path)
            view = views.pipeline(document, number, self.files)
            pipeline = view["pipeline"]
            page = f"{number}{self.renderer.form.suffix}"
            self._page("pipeline", f"pipelines/{page}", **view)
            failed = [case.name for step in pipeline.steps for case in step.cases if case.reasons]
            self.search.add(
                f"{self.place}/pipelines/{page}", f"Pipeline #{number}", pipeline.branch,
                [pipeline.state, pipeline.commit[:12], *(one.name for one in pipeline.steps), *failed],
            )  # fmt: skip
            cells = (pipeline.trigger.capitalize(), duration(pipeline.seconds))
            name = pipeline.branch or pipeline.commit[:12]
            yield Row(page, number, name, pipeline.state, cells, (pipeline.created,))

    def _deployments(self, documents: dict[str, list[str]]) -> None:
        environments, deployed = documents.get("environments", []), documents.get("deployments", [])
        if environments or deployed:
            found = (
                [one for _, one in self._objects(environments)],
                [one for _, one in self._objects(deployed)],
            )
            self._page("sections", f"deployments{self.renderer.form.suffix}", **views.deployments(*found))

    # -- the rest

    def _refs(self) -> None:
        if not isinstance(self.folder, RepositoryFolder):
            return
        found = self._of_refs()
        refs = found[0] if found is not None else None
        self._page("refs", f"refs{self.renderer.form.suffix}", title="Branches and tags", refs=refs)

    def _downloads(self, documents: dict[str, list[str]]) -> None:
        if "downloads.json" not in documents:
            return
        view = views.downloads(self._read("downloads.json"), self.files)
        copies = view["copies"]
        page = f"downloads{self.renderer.form.suffix}"
        self._page("downloads", page, **view)
        if copies:
            names = [one.name for one, _ in copies]
            self.search.add(f"{self.place}/{page}", "Downloads", ", ".join(names[:3]), names)

    def _settings(self, documents: dict[str, list[str]]) -> None:
        paths = [*documents.get("settings", []), *documents.get("projects", [])]
        if not paths:
            return
        read = [(path, self._read(path)) for path in paths]
        view = views.settings([(path, document) for path, document in read if document is not None])
        sections = view["sections"]
        page = f"settings{self.renderer.form.suffix}"
        self._page("sections", page, **view)
        cells = (cell for one in sections for row in one.table.rows for cell in row)
        titles = [one.title for one in sections]
        self.search.add(f"{self.place}/{page}", "Settings", "Settings", [*titles, *cells])

    def _snapshots(self) -> None:
        damages: list[DamageFound] = []
        found = self.folder.metadata.snapshots(damages.append)
        self.problems += [(one.exit_code, f"{self.folder.full_name}: {one.message}") for one in damages]
        self._page(
            "snapshots", f"snapshots{self.renderer.form.suffix}", title="Snapshots",
            snapshots=list(reversed(found)),
        )  # fmt: skip

    def _overview(self, states: Counter[str]) -> None:
        home = "repository.json" if isinstance(self.folder, RepositoryFolder) else "workspace.json"
        title, description, facts = discussions.repository_facts(self._read(home))
        self.about = one_line(description.raw, 200)
        if isinstance(self.folder, RepositoryFolder) and self.folder.gone_since is not None:
            facts.append(("Gone upstream since", time_text(self.folder.gone_since)[:10]))
        self._page(
            "overview", self.renderer.form.index, title=title or self.folder.full_name,
            description=description, facts=facts, states=sorted(states.items()),
            parts=self.when.snapshot.parts.items(), when=self.when,
            problems=[text for _, text in (*self.problems, *self.files.problems)],
        )  # fmt: skip


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json")


def _order(path: str) -> tuple[int, str]:
    found = _NUMBERED.search(path)
    return (-int(found[1]) if found else 0), path


def _number(path: str) -> str:
    found = _NUMBERED.search(path)
    return found[1] if found else "0"


def _texts(comments: Sequence[Comment]) -> list[str]:
    """What is said in comments and their replies."""
    found: list[str] = []
    waiting = list(reversed(comments))
    while waiting:
        one = waiting.pop()
        found.append(one.text.raw)
        waiting += reversed(one.replies)
    return found
