"""Stored files, Git LFS objects and files of git, sent so that no browser runs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mirror.archive.files import Copy, ShownFiles, file_name
from mirror.bitbucket.readable.values import Pointer
from mirror.errors import DamageFound, UsageError
from mirror.logs import get_logger
from mirror.store.reading.reader import StoredFile
from mirror.web.repository.here import At

_CHUNK = 1 << 18
# Files up to this size are read whole before they are sent.
_WHOLE_MAX = 1 << 20
_OTHER = "application/octet-stream"
# What a browser shows as a picture and does nothing else with, by how it begins.
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)  # fmt: skip
_WEBP = (b"RIFF", b"WEBP", "image/webp")

_log = get_logger("web")


class LinkedFiles(ShownFiles):
    """Stored files as links to this page."""

    def place(self, stored: StoredFile, pointer: Pointer) -> Copy:
        """A link, with a name whose ending no browser runs."""
        name = file_name("", pointer.name).lstrip("-")
        return Copy(pointer.name, pointer.size, f"files/{stored.sha256}/{quote(name)}")


def picture_type(head: bytes) -> str | None:
    """The type of a picture that a page may show; None for everything else, SVG included: it is a program."""
    for begin, kind in _PICTURES:
        if head.startswith(begin):
            return kind
    return _WEBP[2] if head[:4] == _WEBP[0] and head[8:12] == _WEBP[1] else None


def stored_file(at: At) -> Response:
    """A file that documents point to: a picture as one, everything else to be saved."""
    sha256, name = at.request.path_params["sha256"], at.request.path_params["name"]
    found = at.folder.find_file(sha256)
    if found is None:
        if sha256 in at.folder.dropped():
            raise UsageError(
                "Retention has let this file go", hint="The log of the pipeline was older than is kept."
            )
        raise UsageError(f"The store has no file {sha256[:80]}")
    return _sent(found, name)


def _sent(found: StoredFile, name: str) -> Response:
    """A stored file; a small one is checked before anything is sent. Raises StoreDamaged."""
    with found.open() as stream:
        content = stream.read(_WHOLE_MAX + 1)
    if len(content) <= _WHOLE_MAX:
        return plain_bytes(content, name)
    size = None if found.compressed else found.path.stat().st_size
    return Checked(_pieces(found), name, size, picture_type(content[:16]))


def lfs_object(at: At, oid: str, name: str) -> Response:
    """A Git LFS object. Raises UsageError where the store does not have it."""
    path = at.folder.lfs_object(oid)
    if path is None:
        raise UsageError(f"The store does not hold the Git LFS object {oid}")
    return _sent(StoredFile(oid, at.folder.relative(path), path), name)


def plain_bytes(content: bytes, name: str) -> Response:
    """Bytes that were checked."""
    return Checked(iter([content]), name, len(content), picture_type(content[:16]))


def _pieces(found: StoredFile) -> Iterator[bytes]:
    with found.open() as stream:
        while piece := stream.read(_CHUNK):
            yield piece


class Checked(Response):
    """Sends pieces, the last of them only after all were checked: a damaged file ends too early, so that the
    browser says that it is not whole."""

    def __init__(self, pieces: Iterator[bytes], name: str, size: int | None, kind: str | None) -> None:
        super().__init__(media_type=kind or _OTHER)
        del self.headers["content-length"]
        if size is not None:
            self.headers["content-length"] = str(size)
        how = "inline" if kind is not None else "attachment"
        self.headers["content-disposition"] = f"{how}; filename*=UTF-8''{quote(name, safe='')}"
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Damage is logged, and ends the response without its last piece. Nothing more is read once
        nobody takes it."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.ensure_future(_gone(receive))
        try:
            if scope["method"] != "HEAD":
                async for piece in _held_back(self._pieces):
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (DamageFound, OSError) as error:
            reason = error.message if isinstance(error, DamageFound) else str(error)
            _log.error("web.file_damaged", path=scope["path"], reason=reason)
            return
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    """Wait until the other end hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _held_back(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, each only once the next one was read."""
    last: bytes | None = None
    async for piece in iterate_in_threadpool(pieces):
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last
