"""What the templates show of each kind of document. The archive and the web page share it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirror.archive.code import code_of, places_of
from mirror.archive.files import SHOWN_BYTES_MAX, ShownFiles
from mirror.archive.text import one_line
from mirror.bitbucket.readable import builds, discussions, tables
from mirror.bitbucket.readable.parts import get, objects, string
from mirror.bitbucket.readable.values import Pointer, Table
from mirror.git.comparison import Comparer
from mirror.model import Json, JsonObject, dumps

# The variables of a template, by name.
View = dict[str, Any]
_JSON_MAX = 200_000


@dataclass(frozen=True)
class Section:
    """A document as a table, and as it is. `lacking` says why there may be less than upstream has."""

    id: str
    title: str
    table: Table
    json: str
    lacking: str = ""


def pull_request(
    document: JsonObject, number: str, pin: str | None, comparer: Comparer | None, files: ShownFiles
) -> View:
    """The view of a pull request; `pin` is the head that the mirror keeps, `comparer` reads the mirror."""
    pull = discussions.pull_request(document)
    code = code_of(pull, comparer, pin)
    patch = patch_text = None
    if pull.patch is not None:
        patch = files.copy(pull.patch)
        patch_text = files.log("", pull.patch).text if pull.patch.size <= SHOWN_BYTES_MAX else ""
    return {
        "number": number, "pull": pull, "code": code, "places": places_of(pull, code, comparer),
        "patch": patch, "patch_text": patch_text,
    }  # fmt: skip


def issue(document: JsonObject, number: str, files: ShownFiles) -> View:
    """The view of an issue."""
    found = discussions.issue(document)
    return {"number": number, "issue": found, "attachments": [files.copy(one) for one in found.attachments]}


def commit(document: JsonObject, name: str, comparer: Comparer | None) -> View:
    """The view of what is said and reported about the commit `name`."""
    remarks = discussions.commit_remarks(document)
    reports = [section(string(one, "title") or "Report", one) for one in remarks.reports]
    annotations = [tables.table_of(objects(one, "annotations")) for one in remarks.reports]
    return {
        "hash": name, "commit": comparer.commit(name) if comparer is not None else None, "remarks": remarks,
        "reports": list(zip(reports, annotations, strict=True)),
    }  # fmt: skip


def snippet(document: JsonObject, files: ShownFiles) -> View:
    """The view of a snippet."""
    found = discussions.snippet(document)
    return {"snippet": found, "files": [(files.copy(one), _text_of(one, files)) for one in found.files]}


def _text_of(pointer: Pointer, files: ShownFiles) -> str | None:
    """A file's text; None where it is none, or too long to show."""
    if pointer.size > SHOWN_BYTES_MAX:
        return None
    found = files.log("", pointer).text
    return None if "\ufffd" in found else found


def pipeline(document: JsonObject, number: str, files: ShownFiles) -> View:
    """The view of a pipeline with its steps and their logs."""
    found = builds.pipeline(document)
    logs = [[files.log(name, pointer) for name, pointer in step.logs] for step in found.steps]
    return {"number": number, "pipeline": found, "steps": list(zip(found.steps, logs, strict=True))}


def deployments(environments: Iterable[JsonObject], deployed: Iterable[JsonObject]) -> View:
    """The view of all environments and deployments."""
    several, names, variables = [], {}, []
    for document in environments:
        environment = get(document, "environment")
        name = string(environment, "name") or "Environment"
        names[string(environment, "uuid")] = name
        several.append(environment)
        if objects(document, "variables"):
            variables.append(section(f"Variables of {name}", objects(document, "variables")))
    deployments_ = [get(one, "deployment") for one in deployed]
    for one in deployments_:
        place = get(one, "environment")
        if isinstance(place, dict):
            place.setdefault("name", names.get(string(place, "uuid"), ""))
    sections = [section("Deployments", deployments_), section("Environments", several), *variables]
    return {"title": "Deployments", "sections": sections}


def downloads(document: Json, files: ShownFiles) -> View:
    """The view of the downloads."""
    copies = []
    for one in objects(document):
        content = get(one, "_content")
        name = string(one, "name") or string(content, "name")
        found = Pointer(name, string(content, "sha256") or None, get(content, "size") or 0)
        copies.append((files.copy(found), discussions.created(one)))
    return {"title": "Downloads", "copies": copies}


def settings(documents: Sequence[tuple[str, Json]]) -> View:
    """The view of settings and projects: path and content of each document."""
    parts: Mapping[str, Json] = {}
    sections = []
    for path, document in documents:
        if path == "settings/_parts.json" and isinstance(document, dict):
            parts = document
    for path, document in documents:
        if path == "settings/_parts.json":
            continue
        name = path.rpartition("/")[2].removesuffix(".json")
        mark = get(dict(parts), name.replace("-", "_"))
        title = name.replace("-", " ").capitalize()
        prefix = "Project: " if path.startswith("projects/") else ""
        sections.append(section(prefix + title, document, string(mark, "state")))
    missing = [
        (name.replace("_", " "), string(mark, "state"), string(mark, "reason"))
        for name, mark in parts.items()
    ]
    return {"title": "Settings", "sections": sections, "missing": missing}


def section(title: str, document: Json, lacking: str = "") -> Section:
    """A document as a section of a page."""
    text = dumps(document).decode("utf-8")
    if len(text) > _JSON_MAX:
        text = text[:_JSON_MAX] + "\n…"
    name = re.sub(r"[^a-z0-9]+", "-", one_line(title).lower()).strip("-") or "section"
    return Section(name, title, tables.table_of(document), text, lacking)
