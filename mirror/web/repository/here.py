"""What an address of these pages means: a folder of the store, and often one of its snapshots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mirror.browse.repository.changes import KnownChanges, KnownDifferences
from mirror.browse.repository.directory import Directory, Name, open_folder
from mirror.browse.repository.documents import no_lines
from mirror.browse.repository.history import Histories
from mirror.browse.repository.keeping import Keeping, keeping
from mirror.browse.repository.timeline import Timeline, Timelines
from mirror.errors import UsageError
from mirror.extract import read_consistently
from mirror.model import Snapshot, is_snapshot_id, snapshot_time, time_text
from mirror.store.reading.folders import AnyFolder
from mirror.store.reading.reader import RepositoryFolder, Store, StoreDamaged
from mirror.web.context import page_of
from mirror.web.render import render
from mirror.web.repository.links import Link, links

QUERY_MAX = 2000


class Reading:
    """What is kept from one request to the next of a store. Threads share it."""

    def __init__(self, path: Path) -> None:
        self.directory = Directory(path)
        self.timelines = Timelines()
        self.changes = KnownChanges()
        self.differences = KnownDifferences()
        self.lines = no_lines()
        self.histories = Histories()


@lru_cache(maxsize=8)
def reading_of(path: Path) -> Reading:
    """What is kept of the store at `path`."""
    return Reading(path)


@dataclass(frozen=True)
class Here:
    """A request, and the folder that its address means. `base` is the address of the folder's page."""

    request: Request
    store: Store
    reading: Reading
    name: Name
    folder: AnyFolder
    base: str

    @property
    def is_repository(self) -> bool:
        """Whether it is a repository, not a workspace."""
        return isinstance(self.folder, RepositoryFolder)

    @property
    def line(self) -> Timeline:
        """The folder's snapshots. Raises StoreDamaged."""
        return self.reading.timelines.of(self.folder)

    def keeping(self) -> Keeping:
        """Why its snapshots are kept. Raises StoreDamaged."""
        page = page_of(self.request)
        return keeping(self.store, self.folder, self.line.kept, page.config, page.clock.now())

    def copies(self) -> list[str]:
        """The addresses of the copies that are configured."""
        config = page_of(self.request).config
        return [one.to for one in config.copies] if config is not None else []

    def query(self, name: str) -> str:
        """A value of the query; empty where there is none. Raises UsageError where it is too long."""
        value = self.request.query_params.get(name, "")
        if len(value) > QUERY_MAX:
            raise UsageError(f"The value of {name} is longer than any that this page gives")
        return value

    def number(self, name: str) -> int | None:
        """A whole number of the query. Raises UsageError."""
        text = self.query(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise UsageError(f"{name}={text[:40]} is not a number")
        return int(text)

    def render(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """The page of a template, below the crumbs of this folder."""
        known: dict[str, Any] = {
            "name": self.folder.full_name,
            "base": self.base,
            "is_repository": self.is_repository,
        }
        return render(self.request, template, status=status, **known | _NO_SNAPSHOT | context)


_NO_SNAPSHOT: dict[str, Any] = {"snapshot": None, "nav": ()}


@dataclass(frozen=True)
class At(Here):
    """A request about one snapshot. `older` and `newer` are the ids of its neighbours, `rest` is the part of
    the address behind the snapshot."""

    snapshot: Snapshot
    older: str | None
    newer: str | None
    latest: str
    rest: str

    @property
    def home(self) -> str:
        """The address of the snapshot, with a slash at its end."""
        return f"{self.base}/{self.snapshot.id}/"

    def nav(self) -> list[Link]:
        """What there is at this snapshot."""
        return links(self.folder, self.snapshot)

    def render(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """The page of a template, below what leads to the other pages of this snapshot."""
        known: dict[str, Any] = {
            "snapshot": self.snapshot.id, "taken": time_text(self.snapshot.time), "home": self.home,
            "here": self.rest, "nav": self.nav(), "older": self.older, "newer": self.newer,
            "latest": self.latest, "query": self.request.url.query, "suffix": "", "index": "",
        }  # fmt: skip
        return super().render(template, status=status, **known, **context)  # a name given twice is an error


def of_folder(show: Callable[[Here], Response]) -> Callable[[Request], Response]:
    """The handler that shows something of a folder."""
    return lambda request: _answer(request, show)


def of_snapshot(show: Callable[[At], Response]) -> Callable[[Request], Response]:
    """The handler that shows something of a snapshot."""
    return lambda request: _answer(request, lambda here: _at(here, show))


def _answer(request: Request, show: Callable[[Here], Response]) -> Response:
    page, params = page_of(request), request.path_params
    words = [params[key] for key in ("workspace", "repository") if key in params]
    kind = "repositories" if len(words) == 2 else "workspaces"
    reading = reading_of(page.store)
    with Store.open(page.store) as store:
        found = reading.directory.find(store, *words)
        if not found.names and (elsewhere := _elsewhere(request, "/".join(words))) is not None:
            return elsewhere
        if not found.names:
            raise UsageError(
                f"This store has no {'/'.join(words)[:200]}", hint="The overview lists all that it has."
            )
        if len(found.names) > 1:
            several = [(one, _address(kind, reading.directory.address(store, one))) for one in found.names]
            return render(request, "several.html", name="/".join(words), several=several)
        [name] = found.names
        if found.moved:
            new = _address(kind, reading.directory.address(store, name))
            return redirect(new + _rest(request, len(words) + 1), request.url.query)
        folder = open_folder(store, name)
        here = Here(request, store, reading, name, folder, _address(kind, "/".join(words)))
        return read_consistently(folder, lambda: show(here))


def _elsewhere(request: Request, name: str) -> Response | None:
    """The page of a repository that is in another shard's store; None where no other one has it."""
    page = page_of(request)
    seen = page.cluster() if page.cluster is not None else None
    if seen is None:
        return None
    shard = seen.shard_of(name)
    if shard is None:
        if seen.trouble is None:
            return None
        raise UsageError(
            f"The store of this shard has no {name[:200]}",
            hint=f"Whether another shard has it is not known: {seen.trouble}.",
        )
    row = next((one for one in seen.rows if one.name == name), None)
    return render(request, "elsewhere.html", name=name, shard=shard, row=row, seen=seen)


def _at(here: Here, show: Callable[[At], Response]) -> Response:
    words = here.request.path_params["snapshot"]
    kept = [one.id for one in reversed(here.line.kept)]
    rest = _rest(here.request, 4 if here.is_repository else 3)
    if words == "latest" and kept:
        return redirect(f"{here.base}/{kept[-1]}{rest}", here.request.url.query)
    if not is_snapshot_id(words):
        raise UsageError(
            f"{words[:60]!r} is not the id of a snapshot", hint="An id is like 20261123T020000Z."
        )
    if words not in kept:
        return _not_kept(here, words, kept)
    place = kept.index(words)
    snapshot = here.folder.metadata.get(words)
    if snapshot is None:
        raise StoreDamaged(here.folder.metadata.file, f"the tag {words} is gone")
    older = kept[place - 1] if place else None
    newer = kept[place + 1] if place + 1 < len(kept) else None
    return show(
        At(here.request, here.store, here.reading, here.name, here.folder, here.base, snapshot, older, newer,
           kept[-1], rest.lstrip("/"))
    )  # fmt: skip


def _not_kept(here: Here, identifier: str, kept: list[str]) -> Response:
    """The page of a snapshot that is not there: it was let go, it was lost, or it never was."""
    moment = here.line.find(identifier)
    if moment is not None and moment.damage:
        raise StoreDamaged(here.folder.metadata.file, moment.damage)
    older = max((one for one in kept if one < identifier), default=None)
    newer = min((one for one in kept if one > identifier), default=None)
    is_known = moment is not None
    return here.render(
        "no-snapshot.html", status=410 if is_known else 404, wanted=identifier, moment=moment, older=older,
        newer=newer, time=_time(identifier),
    )  # fmt: skip


def _time(identifier: str) -> str:
    try:
        return time_text(snapshot_time(identifier))
    except ValueError:  # such as a thirteenth month
        return ""


def _address(kind: str, name: str) -> str:
    return f"/{kind}/" + "/".join(quote(part, safe="~{}") for part in name.split("/"))


def _rest(request: Request, parts: int) -> str:
    """What follows the first `parts` parts of an address, with its slash."""
    behind = request.url.path.lstrip("/").split("/")[parts:]
    return "".join("/" + quote(part, safe="~{}") for part in behind)


def redirect(path: str, query: str = "", **values: str) -> Response:
    """A redirection to another page here: not for ever, as what it leads to may move again."""
    query = urlencode(values) if values else query
    return RedirectResponse(path + (f"?{query}" if query else ""), 303)
