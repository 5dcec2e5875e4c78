"""Writing routes of downloads, snippets, and commits over the API."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.routes_settings import named_snippet
from mirror.simulator.api.routing import Hidden
from mirror.simulator.responses import json_response
from mirror.simulator.world.discussions import Comment, Snippet
from mirror.simulator.world.git_repository import NOBODY
from mirror.simulator.writes.multipart import Part
from mirror.simulator.writes.pull_requests import CONTENT, own_comment, parent_of, raw_of
from mirror.simulator.writes.repositories import R
from mirror.simulator.writes.routing import Document, Malformed, Write, WriteRoute, created, nothing
from mirror.simulator.writes.schemas import Boolean, Integer, Object, String

FORM = "multipart/form-data"
SNIPPET = Object({"title": String(), "is_private": Boolean(), "scm": String(("git",))})
_MEDIA = ("application/json", "multipart/related", FORM)


# -- downloads


def _upload(call: Write) -> Response:
    repository = call.repository()
    files = [one for one in call.parts if one.name == "files" and one.filename]
    if not files:
        raise BadRequest("files: required key not provided")
    for one in files:
        repository.upload(one.filename, one.content)
    return Response(status_code=201)


def _delete_download(call: Write) -> Response:
    repository = call.repository()
    others = [one for one in repository.downloads if one.name != call.names["filename"]]
    if len(others) == len(repository.downloads):
        raise Hidden("File not found")
    repository.downloads = others
    return nothing()


# -- commits


def _commit(call: Write) -> Response:
    """Commit the files of the body: each part is named by its path; `files` names those to remove."""
    repository = call.repository()
    said = {one.name: one.content.decode() for one in call.parts if not one.filename and one.name in _SAID}
    files: dict[str, bytes | None] = {
        one.name.lstrip("/"): one.content for one in call.parts if one.name not in (*_SAID, "files")
    }
    files.update({one.content.decode(): None for one in call.parts if one.name == "files"})
    if not files:
        raise BadRequest("No files were given")
    name, _, address = said.get("author", "").partition(" <")
    author = (name, address.rstrip(">")) if name else NOBODY
    branch = said.get("branch") or repository.main_branch() or "main"
    message = said.get("message") or "Edited online with Bitbucket"
    parents = [said["parents"]] if said.get("parents") else None
    value = repository.commit(branch, files, message, author=author, parents=parents)
    response = Response(status_code=201)
    response.headers["Location"] = f"{call.render.api}/repositories/{repository.full_name}/commit/{value}"
    return response


_SAID = ("message", "author", "branch", "parents")


# -- snippets


def _described(call: Write) -> tuple[Document, list[Part]]:
    """The fields and files of a snippet, from any of the three accepted media types."""
    if not call.parts:
        return call.body, []
    first, *rest = call.parts
    if first.media == "application/json" and not first.filename:
        try:
            body = json.loads(first.content)
        except ValueError:
            raise BadRequest("Invalid JSON") from None
        faults = dict(SNIPPET.errors(body, ""))
        if faults:
            raise Malformed({path: [text] for path, text in faults.items()})
        return body, rest
    fields = {one.name: one.content.decode() for one in call.parts if not one.filename}
    said: Document = dict(fields)
    if "is_private" in said:
        said["is_private"] = fields["is_private"].lower() == "true"
    return said, [one for one in call.parts if one.filename]


def _contents(parts: Sequence[Part]) -> dict[str, bytes]:
    return {one.filename or one.name: one.content for one in parts}


def _create_snippet(call: Write) -> Response:
    workspace = call.workspace()
    said, parts = _described(call)
    made = workspace.add_snippet(said.get("title") or "", _contents(parts), author=call.actor)
    private = said.get("is_private")
    made.private = True if private is None else private
    return created(call.render.snippet(made, workspace.slug, listed=False))


def _update_snippet(call: Write) -> Response:
    """Files that are not named stay. A named file without content is removed."""
    snippet = named_snippet(call)
    said, parts = _described(call)
    if "title" in said:
        snippet.title = said["title"] or ""
    if said.get("is_private") is not None:
        snippet.private = said["is_private"]
    given = _contents(parts)
    gone = set(said.get("files") or {}) - set(given)
    if given or gone:
        kept = {name: content for name, content in snippet.files.items() if name not in gone}
        snippet.edit({**kept, **given})
    snippet.updated = call.world.now()
    return json_response(call.render.snippet(snippet, call.workspace().slug, listed=False))


def _delete_snippet(call: Write) -> Response:
    snippet = named_snippet(call)
    del call.workspace().snippets[snippet.id]
    return nothing()


def _create_comment(call: Write) -> Response:
    snippet, text = named_snippet(call), raw_of(call)
    parent = parent_of(call, snippet.comments)
    made = Comment(call.world.number(), text, call.actor, call.world.now())
    made.parent = parent.id if parent is not None else None
    snippet.comments.append(made)
    return created(call.render.snippet_comment(made, snippet))


def _own(call: Write) -> tuple[Snippet, Comment]:
    snippet = named_snippet(call)
    return snippet, own_comment(call, snippet.comments)


def _update_comment(call: Write) -> Response:
    snippet, found = _own(call)
    found.text, found.edited = raw_of(call), call.world.now()
    return json_response(call.render.snippet_comment(found, snippet))


def _delete_comment(call: Write) -> Response:
    snippet, found = _own(call)
    snippet.comments.remove(found)
    return nothing()


_WRITE = ("repository:write",), ("write:repository:bitbucket",)
_SNIPPETS = ("snippet:write",), ("read:snippet:bitbucket", "write:snippet:bitbucket")
_NO_SNIPPET = ("snippet:write",), ("delete:snippet:bitbucket",)
_TALK = ("snippet",), ("read:snippet:bitbucket", "write:snippet:bitbucket")
_S = "/snippets/{workspace}"
_COMMENT = Object({"content": CONTENT, "parent": Object({"id": Integer()})}, ("content",))
FILES: tuple[WriteRoute, ...] = (
    WriteRoute("POST", R + "/downloads", *_WRITE, _upload, media=(FORM,)),
    WriteRoute("DELETE", R + "/downloads/{filename}", *_WRITE, _delete_download),
    WriteRoute("POST", R + "/src", *_WRITE, _commit, media=(FORM,)),
    WriteRoute("POST", _S, *_SNIPPETS, _create_snippet, SNIPPET, media=_MEDIA),
    WriteRoute("PUT", _S + "/{snippet}", *_SNIPPETS, _update_snippet, SNIPPET, media=_MEDIA),
    WriteRoute("DELETE", _S + "/{snippet}", *_NO_SNIPPET, _delete_snippet),
    WriteRoute("POST", _S + "/{snippet}/comments", *_TALK, _create_comment, _COMMENT),
    WriteRoute("PUT", _S + "/{snippet}/comments/{comment}", *_TALK, _update_comment, _COMMENT),
    WriteRoute(
        "DELETE", _S + "/{snippet}/comments/{comment}", ("snippet",), ("write:snippet:bitbucket",),
        _delete_comment,
    ),
)  # fmt: skip
