"""The steps of what is uploaded as files: downloads, and snippets with their comments.

A snippet comes back with its files as they were last, not with their history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from mirror.bitbucket import endpoints
from mirror.collect.catalogue import Row
from mirror.model import Json, JsonObject
from mirror.restore.plan.discussion import Discussion, Where
from mirror.restore.plan.source import Source, was_gone
from mirror.restore.plan.steps import Call, Loss, Made, Step, Upload, Why
from mirror.restore.plan.things import Place, steps_of_thing

Steps = Iterator[Step | Loss]
COMMENTS = "snippet comments"


def _downloads(row: Row, place: Place) -> Steps:
    """Each download with its bytes. An upload replaces the one of its name: so that is looked for first."""
    for shown in place.source.entries(row.document):
        for one in steps_of_thing(row, shown, place):
            name = str(shown.get("name"))
            upload = _upload("files", name, shown.get("_content"), place.source)
            if isinstance(one, Loss):
                yield one
            elif upload is None:
                yield Loss(one.key, row.kind, one.label, Why.LACKING, "its bytes")
            else:
                assert isinstance(one.action, Call)
                call = replace(one.action, files=(upload,))
                yield replace(one, action=call, change=call, wanted={"size": shown["_content"].get("size")})


def _upload(field: str, name: str, content: Json, source: Source) -> Upload | None:
    """The stored file that a pointer names; None where the store does not have it."""
    sha256 = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(sha256, str) or source.stored(sha256) is None:
        return None
    return Upload(field, name, sha256)


def _snippets(row: Row, place: Place) -> Steps:
    for path in place.source.paths("snippets"):
        document = place.source.object(path)
        shown = document.get("snippet")
        if isinstance(shown, dict) and not was_gone(document, "snippet"):
            yield from _snippet(row, shown, document, place)


def _snippet(row: Row, shown: JsonObject, document: JsonObject, place: Place) -> Steps:
    named = {**shown, "title": shown.get("title") or ""}
    for one in steps_of_thing(row, named, place):
        if not isinstance(one, Step):
            yield one
            continue
        assert isinstance(one.action, Call)
        files: list[Upload] = []
        for name, content in (document.get("files") or {}).items():
            upload = _upload("file", name, content, place.source)
            if upload is None:
                key = f"{one.key}/files/{name}"
                yield Loss(key, row.kind, f"file {name} of {one.label}", Why.LACKING, "its bytes")
            else:
                files.append(upload)
        yield replace(one, action=replace(one.action, files=tuple(files)))
        where = Where(
            COMMENTS, one.label, one.key, {**place.parts, "snippet": Made(one.key, "id")},
            endpoints.SNIPPET_COMMENTS, endpoints.SNIPPET_COMMENT, (one.key,),
        )  # fmt: skip
        yield from Discussion.of(where, document).steps()
        commits = document.get("commits")
        if isinstance(commits, list) and len(commits) > 1:
            key, label = f"{one.key}/commits", f"{len(commits)} commits of {one.label}"
            text = "its git repository is in the backup"
            yield Loss(key, "snippet commits", label, Why.NEVER, text)


PLANNERS: Mapping[str, Callable[[Row, Place], Steps]] = {"downloads": _downloads, "snippets": _snippets}
