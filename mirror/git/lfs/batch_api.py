"""The batch API of Git LFS: the actions by which objects are downloaded or uploaded, and when they expire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import urllib3

from mirror.git.failures import GitFailed, GitUnreachable
from mirror.git.lfs.session import Body, Session, action_headers
from mirror.git.wire import http
from mirror.git.wire.client import GitLogin
from mirror.git.workers.clock import Watch
from mirror.http.messages import after_colon, plain, server_message
from mirror.http.network import Network
from mirror.http.origins import authority, origin
from mirror.http.rates import RateMeter
from mirror.http.retries import WAIT_MAX, is_retryable, retry_delay

MEDIA_TYPE = "application/vnd.git-lfs+json"
# The most objects in a batch; servers accept no more.
BATCH_MAX = 100
_RESPONSE_BYTES_MAX = 8 << 20
_CHUNK = 1 << 16
# An action that expires within so many seconds is renewed first.
_MARGIN = 10.0
# The longest lifetime of an action, in seconds; a server may send a number too large to compute with.
_LIFETIME_MAX = 1e9

Operation = Literal["download", "upload"]


class LfsFailed(Exception):
    """A request failed. `status`: of the response, 0 where there was none. `retryable`: it may succeed later,
    after `asked` seconds where the server said so."""

    def __init__(
        self, text: str, *, status: int = 0, retryable: bool = False, asked: float | None = None
    ) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.retryable = retryable
        self.asked = asked


@dataclass(frozen=True)
class Action:
    """A request to `href` with `headers`, valid until `expires` (monotonic seconds; None: for ever)."""

    href: str
    headers: dict[str, str] = field(repr=False)
    expires: float | None = None

    def is_expired(self, watch: Watch) -> bool:
        """Whether the action has expired or is about to."""
        return self.expires is not None and watch.monotonic() > self.expires - _MARGIN


@dataclass(frozen=True)
class ObjectResponse:
    """What the server says about one object: its actions by name (`download`, `upload`, `verify`), which are
    empty where there is nothing to do; or `fault`, why there are none."""

    actions: dict[str, Action] = field(default_factory=dict)
    fault: LfsFailed | None = None


class LfsServer:
    """The LFS server of the repository at `url` (which ends in `.git`). Threads may share it.

    `silence_timeout`: seconds without a byte. `pause`: the first delay before a retry, in seconds.
    """

    def __init__(
        self,
        url: str,
        login: GitLogin | None,
        *,
        silence_timeout: float,
        connections: int,
        pause: float,
        watch: Watch,
        network: Network | None = None,
    ) -> None:
        self._url = f"{url.rstrip('/')}/info/lfs/objects/batch"
        self._login = login
        self._pause = pause
        self.watch = watch
        self.session = Session(url, silence_timeout, connections, network)

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def batch(self, operation: Operation, objects: Sequence[tuple[str, int]]) -> dict[str, ObjectResponse]:
        """Request the actions for up to BATCH_MAX objects, given as sha256 and size. The result lacks objects
        that the server does not mention. Raises LfsFailed where it does not answer as an LFS server."""
        content = {
            "operation": operation,
            "transfers": ["basic"],
            "objects": [{"oid": oid, "size": size} for oid, size in objects],
            "hash_algo": "sha256",
        }
        requested = self.watch.monotonic()
        data = self._post(json.dumps(content).encode("ascii"))
        # The specification's defaults are "basic" and "sha256".
        if (data.get("transfer") or "basic", data.get("hash_algo") or "sha256") != ("basic", "sha256"):
            raise LfsFailed("the LFS server offers no supported transfer adapter (basic)")
        listed = data.get("objects")
        if not isinstance(listed, list):
            raise LfsFailed("the LFS server's response is invalid: it lists no objects")
        wanted = {oid for oid, _ in objects}
        return {
            one["oid"]: self._object_response(one, requested)
            for one in listed
            if isinstance(one, dict) and isinstance(one.get("oid"), str) and one["oid"] in wanted
        }

    def _post(self, body: bytes) -> dict[str, Any]:
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}
        if self._login is not None:
            headers["Authorization"] = self._login.authorization
        data = self.request("POST", self._url, headers, body)
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise LfsFailed(
                f"{authority(self._url)} does not answer with JSON: it may not support LFS", status=404
            )
        return content

    def request(self, method: str, url: str, headers: dict[str, str], body: Body) -> bytes:
        """Send a request, again where that may help; returns the body of the response, which must be short.

        Raises LfsFailed for anything but success.
        """
        attempts = unauthorized = 0
        while True:
            attempts += 1
            asked: float | None = None
            try:
                response = self.session.send(method, url, headers, body)
                asked = http.delay_asked(response, self.watch)
                kind, status = response.headers.get("Content-Type"), response.status
                data = self._read_short(response, url)
                if 200 <= status < 300:
                    return data
                if status == 401 and not unauthorized:
                    unauthorized += 1  # sometimes a valid credential is refused once
                    continue
                text = _refusal_text(status, url) + after_colon(server_message(kind, data))
                failure = LfsFailed(text, status=status, retryable=is_retryable(status))
            except GitUnreachable as error:
                failure = LfsFailed(error.message, retryable=True)
            except GitFailed as error:
                raise LfsFailed(error.message) from error
            self.wait(attempts, asked, failure)

    def wait(self, attempts: int, asked: float | None, failure: LfsFailed) -> None:
        """Wait before the next attempt. Raises `failure` where there is none."""
        delay = retry_delay(attempts, asked, first=self._pause) if failure.retryable else None
        if delay is None or delay > WAIT_MAX:
            raise failure
        self.watch.sleep(delay)

    def _read_short(self, response: urllib3.BaseHTTPResponse, url: str) -> bytes:
        """The whole body of a response. Raises GitUnreachable where it ends early or is too slow, and
        GitFailed where it is too large."""
        rate = self.session.pools.network.minimum_rate
        meter = RateMeter(self.watch.monotonic, rate, rate.short_window)
        data = bytearray()
        try:
            with http.reading(url):
                while chunk := response.read1(_CHUNK):
                    if not data:
                        meter.begin()
                    elif meter.is_too_slow(len(chunk)):
                        raise GitUnreachable(f"{authority(url)} {rate.violation}")
                    data += chunk
                    if len(data) > _RESPONSE_BYTES_MAX:
                        raise GitFailed(f"{authority(url)} sends a response of more than 8 MiB")
        finally:
            response.close()
        return bytes(data)

    def _object_response(self, data: dict[str, Any], requested: float) -> ObjectResponse:
        error = data.get("error")
        if error is not None:
            return ObjectResponse(fault=_object_error(error))
        actions = data.get("actions")
        if actions is None:
            return ObjectResponse()
        try:
            is_signed = data.get("authenticated") is True
            listed = actions.items() if isinstance(actions, dict) else []
            found = {str(name): self._action(one, requested, is_signed=is_signed) for name, one in listed}
        except ValueError as fault:
            return ObjectResponse(fault=LfsFailed(f"the server's action for it is invalid: {fault}"))
        return ObjectResponse(found)

    def _action(self, data: Any, requested: float, *, is_signed: bool) -> Action:
        href = str(data.get("href")) if isinstance(data, dict) else ""
        fault = self.session.url_fault(href)
        if fault is not None:
            raise ValueError(fault)
        headers = action_headers(data.get("header"))
        is_home = origin(href) == self.session.home
        is_unsigned = not is_signed and not any(name.lower() == "authorization" for name in headers)
        if is_home and is_unsigned and self._login is not None:
            headers["Authorization"] = self._login.authorization
        return Action(href, headers, self._expiry(data, requested))

    def _expiry(self, data: dict[str, Any], requested: float) -> float | None:
        """When an action expires (monotonic). `expires_in` comes first: it does not depend on the server's
        clock."""
        seconds = data.get("expires_in")
        if isinstance(seconds, int | float) and seconds > 0:
            return requested + float(min(seconds, _LIFETIME_MAX))
        text = data.get("expires_at")
        try:
            when = datetime.fromisoformat(text) if isinstance(text, str) else None
        except ValueError:
            return None
        if when is None or when.year <= 1970:  # some servers mean "never"
            return None
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        return self.watch.monotonic() + when.timestamp() - self.watch.now()


def _refusal_text(status: int, url: str) -> str:
    where = authority(url)
    if status in (401, 403):
        return f"{where} denies this credential access to LFS objects ({status})"
    if status in (404, 410, 501):
        return f"{where} knows no LFS objects of this repository, or hides them ({status})"
    if status in (507, 509):
        return f"{where} has used up its LFS quota ({status})"
    return f"{where} answered {status}"


def _object_error(error: Any) -> LfsFailed:
    """The error of one object in a batch response."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if type(code) is int else 0
    texts = {
        404: "the server does not have it (404)",
        410: "the server says it is gone (410)",
        422: "the server rejects what its pointer says (422)",
    }
    text = texts.get(status, f"the server refuses it ({status or 'no code'})")
    text += after_colon(plain(error.get("message") or "") if isinstance(error, dict) else "")
    return LfsFailed(text, status=status, retryable=is_retryable(status))


def probe(
    url: str, login: GitLogin | None, *, silence_timeout: float = 30.0, network: Network | None = None
) -> None:
    """Ask the LFS server of the repository at `url` for an object that nobody has. Raises LfsFailed where it
    does not answer as an LFS server."""
    server = LfsServer(
        url, login, silence_timeout=silence_timeout, connections=1, pause=1.0, watch=Watch(), network=network
    )
    try:
        server.batch("download", [("0" * 64, 1)])
    finally:
        server.close()
