"""One LFS object over the wire: downloaded beside its place and resumed, or uploaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from urllib3.exceptions import HTTPError

from mirror.fs.durable import make_folders, move, sync_stream
from mirror.git.failures import GitFailed, GitUnreachable
from mirror.git.lfs.batch_api import MEDIA_TYPE, Action, Answer, LfsFailed, LfsServer, short
from mirror.git.lfs.http import seconds_asked
from mirror.http.headers import content_length, content_range
from mirror.http.messages import after_colon, server_message
from mirror.http.origins import authority
from mirror.http.rates import RateMeter
from mirror.http.retries import is_retryable

_CHUNK = 256 << 10
# Refusals that an action which has lapsed may earn; it is asked for anew so often.
_LAPSED = (400, 401, 403)
_RENEWALS = 3
# More requests than this for one object are no progress, however little each of them brings.
_REQUESTS_MAX = 1000


class DiskFailed(Exception):
    """Nothing can be written any more; the text says why."""


def object_path(lfs: Path, oid: str) -> Path:
    """Where git-lfs keeps an object."""
    return lfs / "objects" / oid[:2] / oid[2:4] / oid


def part_path(lfs: Path, oid: str) -> Path:
    """Where an object stands that is not whole yet."""
    return lfs / "incomplete" / f"{oid}.part"


class TooSlow(LfsFailed):
    """What is left would take for ever."""


class Download:
    """The download of one object, into the folder `lfs` of a repository.

    What a part file has is not asked for again; the object gets its name when its size and sha256 are
    right and it is durable.
    """

    def __init__(self, server: LfsServer, lfs: Path, oid: str, size: int) -> None:
        self._server = server
        self._lfs = lfs
        self.oid = oid
        self.size = size
        self._part = part_path(lfs, oid)
        self._digest = hashlib.sha256()
        self._have = 0
        self._resumed = False
        # How many bytes the server says that there are.
        self._promised: int | None = None
        self.received = 0

    def run(self, answer: Answer) -> None:
        """Do it, by what the server said of the object. Raises LfsFailed, and DiskFailed."""
        try:
            with _open_part(self._part) as stream:
                self._resume(stream)
                if not self._is_right():
                    self._fetch_all(answer, stream)
                sync_stream(stream)
            self._publish()
        except OSError as error:
            raise DiskFailed(f"{error.strerror or error}: {self._part.name}") from error
        finally:
            if not self._have:
                self._part.unlink(missing_ok=True)

    def _resume(self, stream: BinaryIO) -> None:
        """Take up what an earlier try left."""
        stream.seek(0)
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            self._digest.update(chunk)
            self._have += len(chunk)
        self._resumed = self._have > 0
        if self._have > self.size or (self._have == self.size and not self._is_right()):
            self._start_over(stream)

    def _start_over(self, stream: BinaryIO) -> None:
        stream.seek(0)
        stream.truncate()
        self._digest, self._have, self._resumed = hashlib.sha256(), 0, False

    def _is_right(self) -> bool:
        return self._have == self.size and self._digest.hexdigest() == self.oid

    def _fetch_all(self, answer: Answer, stream: BinaryIO) -> None:
        action, tried, renewed, wrong = _action_of(answer, "download"), 0, 0, 0
        most = self._have
        for _ in range(_REQUESTS_MAX):
            try:
                if action.is_over(self._server.watch):
                    action = self._renewed()
                self._fetch(action, stream)
                if self._is_right():
                    return
                if self._have < self.size:
                    raise self._too_short(action)
                # What was resumed may have been of another kind; after that the server is to blame.
                wrong += not self._resumed
                self._start_over(stream)
                if wrong > 1:
                    raise LfsFailed(f"{authority(action.href)} sends other bytes than those of this object")
            except LfsFailed as failure:
                if isinstance(failure, TooSlow):
                    raise
                if failure.status in _LAPSED and renewed < _RENEWALS:
                    renewed += 1
                    action = self._renewed()
                    continue
                # Coming no farther than ever before is no progress, however much it was.
                tried = 1 if self._have > most else tried + 1
                most = max(most, self._have)
                self._server.wait(tried, failure.asked, failure)
        raise LfsFailed("it comes in pieces too small ever to end", retryable=True)

    def _too_short(self, action: Action) -> LfsFailed:
        """What it means that an answer ended early. Where that was all there is, it is the pointer's size
        that is wrong, and no later try mends it."""
        where = authority(action.href)
        if self._digest.hexdigest() == self.oid:
            text = f"its pointer is wrong: it says {self.size} bytes, and {where} has {self._have}"
            return LfsFailed(text)
        if self._promised == self._have:
            return LfsFailed(f"{where} has {self._have} bytes, and its pointer says {self.size}")
        return LfsFailed(f"{where} sends less than it has promised", retryable=True)

    def _renewed(self) -> Action:
        """The action, asked for anew."""
        answers = self._server.batch("download", [(self.oid, self.size)])
        if self.oid not in answers:
            raise LfsFailed("the server is silent about it")
        return _action_of(answers[self.oid], "download")

    def _fetch(self, action: Action, stream: BinaryIO) -> None:
        """One request, for what is lacking."""
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
        """See that what follows is what was asked for."""
        status = response.status
        if status == 206:
            part = content_range(response.headers)
            if part is not None and part.start == self._have and part.size in (None, self.size):
                return
            self._start_over(stream)
            raise LfsFailed(
                f"{authority(action.href)} resumes elsewhere than it was asked to", retryable=True
            )
        if status == 200:
            if self._have:  # it knows no ranges
                self._start_over(stream)
            self._promised = content_length(response.headers)
            return
        if status == 416 and self._have:
            self._start_over(stream)
            raise LfsFailed(f"{authority(action.href)} will not resume (416)", retryable=True)
        asked, kind = seconds_asked(response, self._server.watch.now()), response.headers.get("Content-Type")
        try:
            rate = self._server.session.minimum_rate
            words = server_message(kind, short(response, action.href, self._server.watch, rate))
        except (GitFailed, GitUnreachable):
            words = ""
        raise refusal(status, action.href, asked, words)

    def _read(self, response: Any, action: Action, stream: BinaryIO) -> None:
        rate = self._server.session.minimum_rate
        pace = RateMeter(self._server.watch.monotonic, rate)
        while True:
            try:
                # What has come is taken at once: it must outlive a connection that breaks off.
                chunk = response.read1(_CHUNK)
            except (HTTPError, OSError) as error:
                raise LfsFailed(f"{authority(action.href)} broke off the transfer", retryable=True) from error
            if not chunk:
                return
            if self._have + len(chunk) > self.size:
                self._start_over(stream)
                raise LfsFailed(f"{authority(action.href)} sends more than the pointer says")
            stream.write(chunk)
            self._digest.update(chunk)
            self._have += len(chunk)
            self.received += len(chunk)
            if pace.is_too_slow(len(chunk)):
                raise TooSlow(f"{authority(action.href)} {rate.violation}", retryable=True)

    def _publish(self) -> None:
        """Give it its name, durably."""
        target = object_path(self._lfs, self.oid)
        make_folders(target.parent, self._lfs)
        move(self._part, target)


def upload(
    server: LfsServer, oid: str, size: int, answer: Answer, open_object: Callable[[], BinaryIO]
) -> bool:
    """Bring one object to a server, by what it said of it; returns whether it lacked the object.

    `open_object` opens the object's bytes. Raises LfsFailed.
    """
    if answer.fault is not None:
        raise answer.fault
    if "upload" not in answer.actions:
        return False
    action = answer.actions["upload"]
    if action.is_over(server.watch):
        renewed = server.batch("upload", [(oid, size)]).get(oid, Answer())
        if renewed.fault is not None or "upload" not in renewed.actions:
            raise renewed.fault or LfsFailed("the server does not say where to bring it")
        answer, action = renewed, renewed.actions["upload"]
    headers = {"Content-Length": str(size), **action.headers}
    if not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/octet-stream"
    server.request("PUT", action.href, headers, open_object)
    verify = answer.actions.get("verify")
    if verify is not None:
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, **verify.headers}
        server.request("POST", verify.href, headers, json.dumps({"oid": oid, "size": size}).encode("ascii"))
    return True


def refusal(status: int, url: str, asked: float | None, words: str) -> LfsFailed:
    """What a refusal of the storage means; `asked` is how long it wants to be left alone, `words` are its
    own."""
    told = after_colon(words)
    if status in (404, 410):
        return LfsFailed(f"{authority(url)} has it no more ({status}){told}", status=status)
    return LfsFailed(
        f"{authority(url)} answered {status}{told}",
        status=status,
        retryable=is_retryable(status),
        asked=asked,
    )


def _action_of(answer: Answer, name: str) -> Action:
    if answer.fault is not None:
        raise answer.fault
    if name not in answer.actions:
        raise LfsFailed(f"the server does not say where to {name} it")
    return answer.actions[name]


def _open_part(part: Path) -> BinaryIO:
    make_folders(part.parent, part.parent.parent)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "r+b")
