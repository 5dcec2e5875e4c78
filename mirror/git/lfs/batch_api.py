"""The batch API of Git LFS: where each object is to be had from, or brought to, and for how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from urllib3.exceptions import HTTPError, ReadTimeoutError

from mirror.git.failures import GitFailed, GitUnreachable
from mirror.git.lfs.http import Body, Session, authorization, headers_given, seconds_asked
from mirror.git.wire.client import GitLogin
from mirror.git.workers.clock import Watch
from mirror.http.messages import after_colon, plain, server_message
from mirror.http.network import Network
from mirror.http.origins import authority, origin
from mirror.http.rates import MinimumRate, RateMeter
from mirror.http.retries import WAIT_MAX, is_retryable, retry_delay

MEDIA_TYPE = "application/vnd.git-lfs+json"
# So many objects are asked about at a time; servers take no more.
BATCH_MAX = 100
_ANSWER_MAX = 8 << 20
_PIECE = 1 << 16
# An action that lapses within so many seconds is asked for anew.
_MARGIN = 10.0
_LASTS_MAX = 1e9  # no number that a server may write is too large to be added

Operation = Literal["download", "upload"]


class LfsFailed(Exception):
    """A request went wrong. `status` 0: not by the server's answer. `retryable`: it may go better later,
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
    """One thing to do: a request to `href` with `headers`, until `ends` (monotonic)."""

    href: str
    headers: dict[str, str] = field(repr=False)
    ends: float | None = None

    def is_over(self, watch: Watch) -> bool:
        """Whether it has lapsed, or is about to."""
        return self.ends is not None and watch.monotonic() > self.ends - _MARGIN


@dataclass(frozen=True)
class Answer:
    """What the server says of one object: what to do by name (`download`, `upload`, `verify`), or
    nothing where there is nothing to be done; else why not."""

    actions: dict[str, Action] = field(default_factory=dict)
    fault: LfsFailed | None = None


class LfsServer:
    """The LFS server of the repository at `url` (which ends in `.git`). Threads may share it.

    `pause` is the first wait before a request is tried again, in seconds.
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

    def batch(self, operation: Operation, objects: Sequence[tuple[str, int]]) -> dict[str, Answer]:
        """Ask about up to BATCH_MAX objects, each with its size; what the server is silent about is not
        in the answer. Raises LfsFailed where the server does not answer as an LFS server."""
        content = {
            "operation": operation,
            "transfers": ["basic"],
            "objects": [{"oid": oid, "size": size} for oid, size in objects],
            "hash_algo": "sha256",
        }
        asked = self.watch.monotonic()
        data = self._ask(json.dumps(content).encode("ascii"))
        # What is left blank is what everybody speaks.
        if (data.get("transfer") or "basic", data.get("hash_algo") or "sha256") != ("basic", "sha256"):
            raise LfsFailed("the LFS server speaks no transfer that we do")
        listed = data.get("objects")
        if not isinstance(listed, list):
            raise LfsFailed("the LFS server's answer is not one: it lists no objects")
        wanted = {oid for oid, _ in objects}
        return {
            one["oid"]: self._answer(one, asked)
            for one in listed
            if isinstance(one, dict) and isinstance(one.get("oid"), str) and one["oid"] in wanted
        }

    def _ask(self, body: bytes) -> dict[str, Any]:
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}
        if self._login is not None:
            # Before it is asked for: Bitbucket answers 403, not 401, to the unknown.
            headers["Authorization"] = authorization(self._login)
        data = self.request("POST", self._url, headers, body)
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise LfsFailed(
                f"{authority(self._url)} does not answer with JSON: it may not speak LFS", status=404
            )
        return content

    def request(self, method: str, url: str, headers: dict[str, str], body: Body) -> bytes:
        """A request that is answered in short, tried again where that may help; returns the answer.

        Raises LfsFailed for anything but success.
        """
        tried = strays = 0
        while True:
            tried += 1
            wait: float | None = None
            try:
                response = self.session.send(method, url, headers, body)
                wait = seconds_asked(response, self.watch.now())
                kind, status = response.headers.get("Content-Type"), response.status
                data = short(response, url, self.watch, self.session.minimum_rate)
                if 200 <= status < 300:
                    return data
                if status == 401 and not strays:
                    strays += 1  # now and then a good credential is refused for nothing
                    continue
                text = self._words(status, url) + after_colon(server_message(kind, data))
                failure = LfsFailed(text, status=status, retryable=is_retryable(status))
            except GitUnreachable as error:
                failure = LfsFailed(error.message, retryable=True)
            except GitFailed as error:
                raise LfsFailed(error.message) from error
            self.wait(tried, wait, failure)

    def wait(self, tried: int, asked: float | None, failure: LfsFailed) -> None:
        """Wait before the next try; raises `failure` where there is to be none."""
        pause = retry_delay(tried, asked, first=self._pause) if failure.retryable else None
        if pause is None or pause > WAIT_MAX:
            raise failure
        self.watch.sleep(pause)

    def _words(self, status: int, url: str) -> str:
        where = authority(url)
        if status in (401, 403):
            return f"{where} does not let this credential at LFS objects ({status})"
        if status in (404, 410, 501):
            return f"{where} knows no LFS objects of this repository, or hides them ({status})"
        if status in (507, 509):
            return f"{where} has used up its LFS allowance ({status})"
        return f"{where} answered {status}"

    def _answer(self, data: dict[str, Any], asked: float) -> Answer:
        error = data.get("error")
        if error is not None:
            code = error.get("code") if isinstance(error, dict) else None
            status = code if type(code) is int else 0
            told = {
                404: "the server has it not (404)",
                410: "the server says it is gone (410)",
                422: "the server refuses what its pointer says (422)",
            }
            words = plain(error.get("message") or "") if isinstance(error, dict) else ""
            text = told.get(status, f"the server will not give it ({status or 'no code'})")
            text += after_colon(words)
            return Answer(fault=LfsFailed(text, status=status, retryable=is_retryable(status)))
        actions = data.get("actions")
        if actions is None:
            return Answer()
        try:
            signed = data.get("authenticated") is True
            listed = actions.items() if isinstance(actions, dict) else []
            found = {str(name): self._action(one, asked, signed=signed) for name, one in listed}
        except ValueError as fault:
            return Answer(fault=LfsFailed(f"the server's word on it is not followed: {fault}"))
        return Answer(found)

    def _action(self, data: Any, asked: float, *, signed: bool) -> Action:
        href = str(data.get("href")) if isinstance(data, dict) else ""
        fault = self.session.fault_of(href)
        if fault is not None:
            raise ValueError(fault)
        headers = headers_given(data.get("header"))
        is_home = origin(href) == self.session.home
        is_unsigned = not signed and not any(name.lower() == "authorization" for name in headers)
        if is_home and is_unsigned and self._login is not None:
            headers["Authorization"] = authorization(self._login)
        return Action(href, headers, self._end(data, asked))

    def _end(self, data: dict[str, Any], asked: float) -> float | None:
        """When an action lapses; `expires_in` is preferred, because it needs no two clocks to agree."""
        seconds = data.get("expires_in")
        if isinstance(seconds, int | float) and seconds > 0:
            return asked + float(min(seconds, _LASTS_MAX))
        text = data.get("expires_at")
        try:
            when = datetime.fromisoformat(text) if isinstance(text, str) else None
        except ValueError:
            return None
        if when is None or when.year <= 1970:  # that is how some servers write "never"
            return None
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        return self.watch.monotonic() + when.timestamp() - self.watch.now()


def probe(
    url: str, login: GitLogin | None, *, silence_timeout: float = 30.0, network: Network | None = None
) -> None:
    """Ask the LFS server of the repository at `url` about an object that nobody has. Raises LfsFailed
    where it does not answer as one."""
    server = LfsServer(
        url, login, silence_timeout=silence_timeout, connections=1, pause=1.0, watch=Watch(), network=network
    )
    try:
        server.batch("download", [("0" * 64, 1)])
    finally:
        server.close()


def short(response: Any, url: str, watch: Watch, rate: MinimumRate) -> bytes:
    """The whole of a short answer. Raises GitUnreachable where it breaks off or trickles, and GitFailed
    where it is not short."""
    data = bytearray()
    pace = RateMeter(watch.monotonic, rate, rate.short_window)
    try:
        while piece := response.read1(_PIECE):
            if not data:
                pace.begin()
            elif pace.is_too_slow(len(piece)):
                raise GitUnreachable(f"{authority(url)} {rate.violation}")
            data += piece
            if len(data) > _ANSWER_MAX:
                raise GitFailed(f"{authority(url)} answers with more than anybody asked for")
    except ReadTimeoutError as error:
        raise GitUnreachable(f"{authority(url)} fell silent") from error
    except (HTTPError, OSError) as error:
        raise GitUnreachable(f"{authority(url)} broke off its answer") from error
    finally:
        response.close()
    return bytes(data)
