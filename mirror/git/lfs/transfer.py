"""The basic transfer adapter of Git LFS: downloads one object, resuming a partial file, or uploads one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mirror.fs.durable import make_folders, move, sync_stream
from mirror.git.failures import GitFailed, GitUnreachable
from mirror.git.lfs.batch_api import MEDIA_TYPE, Action, LfsFailed, LfsServer, ObjectResponse
from mirror.git.wire import http
from mirror.http.headers import content_length, content_range
from mirror.http.messages import after_colon
from mirror.http.origins import authority
from mirror.http.rates import RateMeter
from mirror.http.retries import is_retryable

_CHUNK = 256 << 10
# Statuses that an expired action may get. It is renewed so often.
_EXPIRED = (400, 401, 403)
_RENEWALS = 3
# A download is given up after so many requests, even if each of them brings something.
REQUESTS_MAX = 1000


class DiskFailed(Exception):
    """The local disk failed; the text says how."""


def object_path(lfs: Path, oid: str) -> Path:
    """The path of an object, as git-lfs has it."""
    return lfs / "objects" / oid[:2] / oid[2:4] / oid


def part_path(lfs: Path, oid: str) -> Path:
    """The path of a partial download."""
    return lfs / "incomplete" / f"{oid}.part"


class TooSlow(LfsFailed):
    """The transfer is below the minimum rate."""


class Download:
    """The download of one object into the folder `lfs` of a repository. `size` is in bytes; `on_bytes` is
    called with the number of those that arrive.

    A partial file is resumed. The object gets its name once its size and sha256 are right and it is durable.
    """

    def __init__(
        self,
        server: LfsServer,
        lfs: Path,
        oid: str,
        size: int,
        *,
        requests_max: int = REQUESTS_MAX,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._server = server
        self._lfs = lfs
        self.oid = oid
        self.size = size
        self._part = part_path(lfs, oid)
        self._digest = hashlib.sha256()
        self._have = 0
        self._resumed = False
        self._content_length: int | None = None
        self._requests_max = requests_max
        self._on_bytes = on_bytes
        self.received = 0

    def run(self, response: ObjectResponse) -> None:
        """Download the object as the server's batch `response` says. Raises LfsFailed and DiskFailed."""
        try:
            with _open_part(self._part) as stream:
                self._resume(stream)
                if not self._is_complete():
                    self._fetch_all(response, stream)
                sync_stream(stream)
            self._publish()
        except OSError as error:
            raise DiskFailed(f"{error.strerror or error}: {self._part.name}") from error
        finally:
            if not self._have:
                self._part.unlink(missing_ok=True)

    def _resume(self, stream: BinaryIO) -> None:
        """Read what an earlier attempt left."""
        stream.seek(0)
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            self._digest.update(chunk)
            self._have += len(chunk)
        self._resumed = self._have > 0
        if self._have > self.size or (self._have == self.size and not self._is_complete()):
            self._start_over(stream)

    def _start_over(self, stream: BinaryIO) -> None:
        stream.seek(0)
        stream.truncate()
        self._digest, self._have, self._resumed = hashlib.sha256(), 0, False

    def _is_complete(self) -> bool:
        return self._have == self.size and self._digest.hexdigest() == self.oid

    def _fetch_all(self, response: ObjectResponse, stream: BinaryIO) -> None:
        action, tried, renewed, wrong = _action_of(response, "download"), 0, 0, 0
        most = self._have
        for _ in range(self._requests_max):
            try:
                if action.is_expired(self._server.watch):
                    action = self._renewed()
                self._fetch(action, stream)
                if self._is_complete():
                    return
                if self._have < self.size:
                    raise self._too_short(action)
                # The partial file may have been wrong. A full download that is wrong is the server's fault.
                wrong += not self._resumed
                self._start_over(stream)
                if wrong > 1:
                    raise LfsFailed(f"{authority(action.href)} sends different content under this object id")
            except LfsFailed as failure:
                if isinstance(failure, TooSlow):
                    raise
                if failure.status in _EXPIRED and renewed < _RENEWALS:
                    renewed += 1
                    action = self._renewed()
                    continue
                # It is progress only if more bytes are there than ever before.
                tried = 1 if self._have > most else tried + 1
                most = max(most, self._have)
                self._server.wait(tried, failure.asked, failure)
        raise LfsFailed(f"gave up after {self._requests_max:,} partial responses", retryable=True)

    def _too_short(self, action: Action) -> LfsFailed:
        """The failure for a response that ended early. Where the server has no more, the size in the pointer
        is wrong, and a retry does not help."""
        where = authority(action.href)
        if self._digest.hexdigest() == self.oid:
            text = f"its pointer is wrong: it says {self.size} bytes, and {where} has {self._have}"
            return LfsFailed(text)
        if self._content_length == self._have:
            return LfsFailed(f"{where} has {self._have} bytes, and its pointer says {self.size}")
        return LfsFailed(f"{where} sends less than its Content-Length", retryable=True)

    def _renewed(self) -> Action:
        """The action from a new batch request."""
        responses = self._server.batch("download", [(self.oid, self.size)])
        if self.oid not in responses:
            raise LfsFailed("the server does not mention it")
        return _action_of(responses[self.oid], "download")

    def _fetch(self, action: Action, stream: BinaryIO) -> None:
        """Send one request, for the missing bytes."""
        headers = dict(action.headers)
        if self._have:
            headers["Range"] = f"bytes={self._have}-"
        try:
            response = self._server.session.send("GET", action.href, headers, None)
        except GitUnreachable as error:
            raise LfsFailed(error.message, retryable=True) from error
        except GitFailed as error:
            raise LfsFailed(error.message) from error
        try:
            self._check(response, action, stream)
            self._read(response, action, stream)
        finally:
            response.close()

    def _check(self, response: Any, action: Action, stream: BinaryIO) -> None:
        """Check that the response has the missing bytes. Raises LfsFailed."""
        status = response.status
        if status == 206:
            part = content_range(response.headers)
            if part is not None and part.start == self._have and part.size in (None, self.size):
                return
            self._start_over(stream)
            raise LfsFailed(f"{authority(action.href)} sends another range than requested", retryable=True)
        if status == 200:
            if self._have:  # the server does not support ranges
                self._start_over(stream)
            self._content_length = content_length(response.headers)
            return
        if status == 416 and self._have:
            self._start_over(stream)
            raise LfsFailed(f"{authority(action.href)} refuses to resume (416)", retryable=True)
        asked = http.delay_asked(response, self._server.watch)
        message = http.message_in(response, self._server.session.pools, self._server.watch)
        raise refusal(status, action.href, asked, message)

    def _read(self, response: Any, action: Action, stream: BinaryIO) -> None:
        rate = self._server.session.pools.network.minimum_rate
        meter = RateMeter(self._server.watch.monotonic, rate)
        while True:
            try:
                with http.reading(action.href):
                    # Without waiting for a full chunk: bytes that arrived must survive a broken connection.
                    chunk = response.read1(_CHUNK)
            except GitUnreachable as error:
                raise LfsFailed(error.message, retryable=True) from error
            if not chunk:
                return
            if self._have + len(chunk) > self.size:
                self._start_over(stream)
                raise LfsFailed(f"{authority(action.href)} sends more than the pointer says")
            stream.write(chunk)
            self._digest.update(chunk)
            self._have += len(chunk)
            self.received += len(chunk)
            self._on_bytes(len(chunk))
            if meter.is_too_slow(len(chunk)):
                raise TooSlow(f"{authority(action.href)} {rate.violation}", retryable=True)

    def _publish(self) -> None:
        """Give the object its name, durably."""
        target = object_path(self._lfs, self.oid)
        make_folders(target.parent, self._lfs)
        move(self._part, target)


def upload(
    server: LfsServer, oid: str, size: int, response: ObjectResponse, open_object: Callable[[], BinaryIO]
) -> bool:
    """Upload one object as the server's batch `response` says; returns whether the server lacked it.

    `open_object` opens the object's content. Raises LfsFailed.
    """
    if response.fault is not None:
        raise response.fault
    if "upload" not in response.actions:
        return False
    action = response.actions["upload"]
    if action.is_expired(server.watch):
        renewed = server.batch("upload", [(oid, size)]).get(oid, ObjectResponse())
        if renewed.fault is not None or "upload" not in renewed.actions:
            raise renewed.fault or LfsFailed("the server sent no upload action for it")
        response, action = renewed, renewed.actions["upload"]
    headers = {"Content-Length": str(size), **action.headers}
    if not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/octet-stream"
    server.request("PUT", action.href, headers, open_object)
    verify = response.actions.get("verify")
    if verify is not None:
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, **verify.headers}
        server.request("POST", verify.href, headers, json.dumps({"oid": oid, "size": size}).encode("ascii"))
    return True


def refusal(status: int, url: str, asked: float | None, message: str) -> LfsFailed:
    """The failure for an error response of the storage, which asks to wait `asked` seconds and gives a
    `message`."""
    text = after_colon(message)
    if status in (404, 410):
        return LfsFailed(f"{authority(url)} no longer has it ({status}){text}", status=status)
    return LfsFailed(
        f"{authority(url)} answered {status}{text}",
        status=status,
        retryable=is_retryable(status),
        asked=asked,
    )


def _action_of(response: ObjectResponse, name: str) -> Action:
    if response.fault is not None:
        raise response.fault
    if name not in response.actions:
        raise LfsFailed(f"the server sent no {name} action for it")
    return response.actions[name]


def _open_part(part: Path) -> BinaryIO:
    make_folders(part.parent, part.parent.parent)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "r+b")
