"""The steps of settings: of a workspace, its projects and a repository. The catalogue's rows say how.

What stays behind, as its row says, is one loss for each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mirror.collect.catalogue import Level, Row, rows
from mirror.collect.marks import SETTINGS, Marks
from mirror.collect.put_back import Sent, Stays
from mirror.model import Json, JsonObject
from mirror.restore.plan import pipelines, uploads
from mirror.restore.plan.repository import project_key
from mirror.restore.plan.source import Options, Source, Target, was_gone
from mirror.restore.plan.steps import Loss, Step, Why
from mirror.restore.plan.things import Place, steps_of_thing

Steps = Iterator[Step | Loss]


def steps_of_workspace(source: Source, target: Target, options: Options) -> Steps:
    """The settings of a workspace itself and of its projects, and its snippets."""
    place = Place(source, target, options, {"workspace": target.workspace})
    yield from _steps("workspace", place)
    for path in source.paths("projects"):
        document = source.object(path)
        project = document.get("project")
        key = project.get("key") if isinstance(project, dict) else None
        if isinstance(key, str) and not was_gone(document, "project"):
            inside = place.inside("project", key, after=project_key(key), project=key)
            yield from _of_project(document, inside)


def steps_of_settings(source: Source, target: Target, options: Options) -> Steps:
    """The settings of a repository, and its downloads."""
    place = Place(source, target, options, target.parts, (source.key("repository"),))
    yield from _steps("repository", place)


def _steps(level: Level, place: Place) -> Steps:
    marks = Marks(place.source.object(SETTINGS))
    for row in rows(level=level):
        if marks.is_gone(row.name):
            continue
        if isinstance(row.put_back, Stays) and row.upkeep == "slowly":
            yield from _what_stays(row, row.put_back, place)
        elif isinstance(row.put_back, Sent):
            yield from _PLANNERS.get(row.kind, _things)(row, place)


def _things(row: Row, place: Place) -> Steps:
    """What one document has of a kind."""
    yield from _several(row, place.source.document(row.document), place)


def _several(row: Row, document: Json, place: Place) -> Steps:
    for one in document if isinstance(document, list) else [document]:
        if isinstance(one, dict):
            yield from steps_of_thing(row, one, place)


def _of_project(document: JsonObject, place: Place) -> Steps:
    marks = Marks.of(document)
    for row in rows(level="project"):
        name = row.name.removeprefix("project_")
        if isinstance(row.put_back, Sent) and not marks.is_gone(name):
            yield from _several(row, document.get(name), place)


def _hooks(row: Row, place: Place) -> Steps:
    """Hooks are inactive at first: what a restore does must not call anybody."""
    for hook in place.source.entries(row.document):
        is_silenced = hook.get("active") is True and not place.options.activate_hooks
        at_first = {"active": False} if is_silenced else None
        for one in steps_of_thing(row, hook, place, at_first=at_first):
            yield one
            if isinstance(one, Step) and is_silenced:
                text = "--activate-hooks makes it active"
                yield Loss(f"{one.key}/active", row.kind, f"that it is active, {one.label}", Why.CHOSEN, text)


def _what_stays(row: Row, stays: Stays, place: Place) -> Steps:
    count = _count(row, place.source)
    if not count:
        return
    label = row.kind if count == 1 else f"{row.kind} ({count})"
    why = Why.LACKING if stays.is_lacking else Why.NEVER
    yield Loss(place.key(row, ""), row.kind, f"{label} of {place.owner}", why, stays.reason)


def _count(row: Row, source: Source) -> int:
    """How many there are of a kind; 0 for what is inside another document."""
    folder, found, _ = row.document.partition("<")
    if found:
        return len(source.paths(folder.rstrip("/")))
    if not row.document.endswith(".json"):
        return 0
    document = source.document(row.document)
    return len(document) if isinstance(document, list) else int(bool(document))


_PLANNERS: Mapping[str, Callable[[Row, Place], Steps]] = {
    "webhooks": _hooks,
    "workspace webhooks": _hooks,
    **pipelines.PLANNERS,
    **uploads.PLANNERS,
}
