"""The storage origin, which serves long files. Its URLs are signed; it refuses credentials."""

from __future__ import annotations

import re

from starlette.responses import Response

from mirror.simulator.world.world import World

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def stored(world: World, path: str, headers: dict[str, str]) -> Response:
    """The response to a GET of `path`. A request with a credential is refused, as S3 does."""
    if "authorization" in headers:
        return _xml("InvalidArgument", 400, "Only one auth mechanism allowed")
    content = _find(world, path.split("/"))
    if content is None:
        return _xml("NoSuchKey", 404, "The specified key does not exist.")
    return ranged(content, headers)


def ranged(content: bytes, headers: dict[str, str]) -> Response:
    """`content`, or the range of it that the headers request."""
    found = _RANGE.fullmatch(headers.get("range", ""))
    if found is None:
        return Response(content, media_type="application/octet-stream")
    first = int(found[1])
    last = min(int(found[2] or len(content)), len(content) - 1)
    if first >= len(content):
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(content)}"})
    return Response(
        content[first : last + 1],
        206,
        {"Content-Range": f"bytes {first}-{last}/{len(content)}"},
        media_type="application/octet-stream",
    )


def _find(world: World, parts: list[str]) -> bytes | None:
    match parts:
        case ["", "storage", "logs", pipeline, step]:
            return _log(world, f"{{{pipeline}}}", f"{{{step}}}", f"{{{step}}}")
        case ["", "storage", "logs", pipeline, step, log]:
            return _log(world, f"{{{pipeline}}}", f"{{{step}}}", f"{{{log}}}")
        case ["", "storage", "attachments", key, name]:
            return _attachment(world, key, name)
        case ["", "storage", "downloads", uuid, name]:
            found = world.repository("{}", f"{{{uuid}}}")
            files = found.downloads if found is not None else []
            return next((one.content for one in files if one.name == name), None)
    return None


def _log(world: World, pipeline: str, step: str, log: str) -> bytes | None:
    for workspace in world.workspaces.values():
        for repository in workspace.repositories.values():
            found = repository.pipeline(pipeline)
            if found is not None:
                return next((one.log_of(log) for one in found.steps if one.uuid == step), None)
    return None


def _attachment(world: World, key: str, name: str) -> bytes | None:
    for workspace in world.workspaces.values():
        for repository in workspace.repositories.values():
            for issue in repository.issues.values():
                if issue.key == key:
                    return next((one.content for one in issue.attachments if one.name == name), None)
    return None


def denied(message: str) -> Response:
    """The response to a request whose signature is missing or expired."""
    return _xml("AccessDenied", 403, message)


def _xml(code: str, status: int, message: str) -> Response:
    content = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(content, status, media_type="application/xml")
