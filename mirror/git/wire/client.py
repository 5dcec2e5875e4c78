"""Smart HTTP to one git server: sign-in, redirects, retries and errors.

dulwich speaks the git protocol; this client sends its requests. The credential goes to the origin that it
was given for and to no other. A redirect to another origin is refused: a repository that "moved" to another
host is not the one that was to be mirrored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import urllib3
from dulwich.client import AbstractHttpGitClient
from dulwich.protocol import pkt_line

from mirror.git.failures import (
    GitFailed,
    GitForbidden,
    GitNotFound,
    GitTooLarge,
    GitUnauthorized,
    GitUnreachable,
)
from mirror.git.wire import http, ls_refs
from mirror.git.wire.limits import DEFAULT_FETCH_LIMITS, FetchLimits
from mirror.git.workers.clock import Watch
from mirror.http import pools
from mirror.http.headers import basic
from mirror.http.messages import after_colon, media_type, plain
from mirror.http.network import Network
from mirror.http.origins import Origin, authority, origin
from mirror.http.rates import RateMeter
from mirror.http.retries import WAIT_MAX, is_retryable, retry_delay
from mirror.model import Refs

# The capabilities of every server that understood an ls-refs request of protocol version 2.
_VERSION_2 = frozenset({b"ls-refs", b"fetch=shallow", b"object-format=sha1"})
_FETCH = pkt_line(b"command=fetch\n")
_LIST = pkt_line(b"command=ls-refs\n")
# Refusals of an ls-refs request by a server that does not understand it.
_NOT_UNDERSTOOD = (400, 405, 415, 501)


@dataclass(frozen=True)
class GitLogin:
    """User name and password for git and LFS over HTTPS. Its text form hides the password."""

    username: str
    password: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """The Authorization header. Sent unasked: Bitbucket answers 403 to anonymous requests, not 401."""
        return basic(self.username, self.password)


class _DirectListing:
    """Whether the servers of one origin answer an ls-refs request without a handshake before it.

    An odd response for one repository says nothing about the others. The whole origin is asked in the old
    way only after several odd responses and not one good one.
    """

    _ODD_MAX = 3

    def __init__(self) -> None:
        self._works = False
        self._odd: set[str] = set()

    def should_try(self, url: str) -> bool:
        """Whether to list the refs of the repository at `url` directly."""
        return url not in self._odd and (self._works or len(self._odd) < self._ODD_MAX)

    def succeeded(self, url: str) -> None:
        """Record a good response."""
        self._works = True
        self._odd.discard(url)

    def failed(self, url: str) -> None:
        """Record a server that did not understand the request, or an odd response."""
        self._odd.add(url)


_DIRECT_LISTINGS: defaultdict[Origin, _DirectListing] = defaultdict(_DirectListing)


class HttpClient(AbstractHttpGitClient):
    """dulwich's smart HTTP client with our own requests, for the repository at `url`.

    `silence_timeout`: seconds without a byte. `clock`: monotonic seconds, to give up transfers that are too
    slow (None: never). `network`: None for the settings of this process. `watch`: the clock for delays.

    Attributes: `is_preparing` is set while the server prepares a pack, when it may send very little.
    `is_patient`: whether failed requests are sent again. `advertised`: the refs that the server listed.
    `answer`: the response that they were read from, where a single request was enough.
    """

    def __init__(
        self,
        url: str,
        *,
        login: GitLogin | None,
        silence_timeout: float,
        thin_packs: bool = True,
        clock: Callable[[], float] | None = None,
        network: Network | None = None,
        watch: Watch | None = None,
        limits: FetchLimits = DEFAULT_FETCH_LIMITS,
    ) -> None:
        super().__init__(url, thin_packs=thin_packs, quiet=True)
        self._origin = origin(url)
        self._pools = pools.shared() if network is None else pools.Pools(network)
        self._authorization = login.authorization if login is not None else None
        self._silence = silence_timeout
        self._clock = clock
        self._watch = watch or Watch()
        self._was_unauthorized = False
        self._moved_to: str | None = None
        self._open: urllib3.BaseHTTPResponse | None = None  # a response that may not be closed yet
        self.limits = limits
        self.is_preparing = False
        self.is_patient = True
        self.advertised: Refs | None = None
        self.answer: bytes | None = None
        self.received_bytes = 0

    def list_refs(self, is_known: Callable[[bytes], bool] = lambda _: False) -> Refs | None:
        """List the server's refs, with a single request where it understands that; also in `advertised`.
        None where `is_known` is true for the response to that request, which is not parsed then.

        Raises the errors of `mirror.git.failures`, and dulwich's where the server breaks the protocol.
        """
        direct = _DIRECT_LISTINGS[self._origin]
        if direct.should_try(self._base_url) and (answer := self._list_directly()) is not None:
            if is_known(answer):
                return None
            try:
                found = ls_refs.parse(answer)
            except ls_refs.NotUnderstood:
                direct.failed(self._base_url)
            else:
                direct.succeeded(self._base_url)
                if found.head is not None:
                    self.answer, self.advertised, self.protocol_version = answer, found, 2
                    return found
        self._discover_references(b"git-upload-pack", self._base_url)
        assert self.advertised is not None
        return self.advertised

    def _list_directly(self) -> bytes | None:
        """The response to an ls-refs request without a handshake; None where the server does not understand
        it, or has moved."""
        headers = {
            "Content-Type": "application/x-git-upload-pack-request",
            "Accept": "application/x-git-upload-pack-result",
            "Git-Protocol": "version=2",
        }
        url = self._base_url + "git-upload-pack"
        request = ls_refs.request(self._agent)
        response = self._send(url, self._request_headers(headers), request, has_fallback=True)
        try:
            kind = media_type(response.headers.get("Content-Type"))
            if response.status != 200 or kind != headers["Accept"]:
                if response.status in _NOT_UNDERSTOOD:
                    _DIRECT_LISTINGS[self._origin].failed(self._base_url)
                return None
            body = bytearray()
            read = self._reader(response, self.limits.advertisement_bytes)
            while chunk := read(1 << 18):
                body += chunk
            return bytes(body)
        finally:
            http.release(response)

    def _get_url(self, path: str | bytes) -> str:  # noqa: ARG002 - the URL names the repository
        return self._base_url

    @property
    def _agent(self) -> str:
        return self._pools.network.git_agent

    @property
    def _server(self) -> str:
        return authority(self._base_url)

    def _request_headers(self, headers: dict[str, str] | None) -> dict[str, str]:
        result = {"User-Agent": self._agent, "Pragma": "no-cache", **(headers or {})}
        result.pop("Content-Length", None)  # `_with_ofs_delta` changes the body
        if self._authorization is not None:
            result["Authorization"] = self._authorization
        return result

    def _send(
        self, url: str, headers: dict[str, str], data: Any, *, has_fallback: bool = False
    ) -> urllib3.BaseHTTPResponse:
        """Send one request; send it again where the failure may pass and its body can be repeated.

        With `has_fallback` a refusal is returned after the delay that it asks for: the caller tries another
        kind of request next.
        """
        self._close_open()
        method = "GET" if data is None else "POST"
        is_repeatable = data is None or isinstance(data, bytes)
        attempts = 0
        while True:
            attempts += 1
            asked: float | None = None
            try:
                response = http.send(
                    self._pools, method, url, headers=headers, body=data, silence=self._silence
                )
            except http.Silent:
                raise
            except GitUnreachable as error:
                failure = error
                # The server may have closed a connection that was kept: try at least twice.
                is_final = error.hint is not None or (attempts > 1 and not self.is_patient)
            else:
                self._open = response
                if response.status == 401 and is_repeatable and not self._was_unauthorized:
                    self._was_unauthorized = True  # sometimes a valid credential is refused once
                    if not has_fallback:
                        http.release(response)
                        continue
                if not is_retryable(response.status):
                    return response
                asked = http.delay_asked(response, self._watch)
                if has_fallback and (asked or 0.0) <= WAIT_MAX:
                    self._watch.sleep(asked or 0.0)
                    return response
                failure = self._temporary_refusal(response, asked)
                is_final = not self.is_patient
            delay = retry_delay(attempts, asked, first=self._pools.network.pause)
            if delay is None or delay > WAIT_MAX or is_final or not is_repeatable:
                raise failure
            self._watch.sleep(delay)

    def _close_open(self) -> None:
        """Close the last response. dulwich does not where it raises early, nor where it lists refs after it;
        left to the garbage collector, the socket would stay open for long."""
        response, self._open = self._open, None
        if response is not None and not response.closed:
            http.release(response)

    def _temporary_refusal(self, response: urllib3.BaseHTTPResponse, asked: float | None) -> GitUnreachable:
        later = f", and asks to come back in {asked:.0f} s" if asked else ""
        return GitUnreachable(f"{self._server} answered {response.status}{later}{self._message(response)}")

    def _message(self, response: urllib3.BaseHTTPResponse) -> str:
        """The server's message after a colon. The response is released."""
        return after_colon(http.message_in(response, self._pools, self._watch))

    # dulwich calls this for every request.
    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,
    ) -> Any:
        def send_to(url: str) -> urllib3.BaseHTTPResponse:
            return self._send(url, self._request_headers(headers), _with_ofs_delta(data))

        def check_origin(_url: str, target: str) -> None:
            if origin(target) != self._origin:
                raise GitFailed(f"{self._server} redirects to another host; not followed")

        check_origin(url, url)
        response, reached = http.follow_redirects(url, send_to, check_origin, has_body=data is not None)
        if raise_for_status:
            self._check(response)
        is_list = data is None or (isinstance(data, bytes) and data.startswith(_LIST))
        read = self._reader(response, self.limits.advertisement_bytes if is_list else None)
        if not is_list and reached.endswith("/git-upload-pack"):
            read = _ErrorReader(read, self._server).read
        return _Response(response, reached if reached != url else ""), read

    def _check(self, response: urllib3.BaseHTTPResponse) -> None:
        """Raise an error of `mirror.git.failures` unless the response is one of git's."""
        status, server = response.status, self._server
        if status == 200:
            kind = media_type(response.headers.get("Content-Type"))
            if kind.startswith("application/x-git-"):
                return
            # For example a login page. dulwich would take it for the dumb protocol.
            message = self._message(response)
            raise GitFailed(f"{server} answered with {kind or 'no content type'}, not with git{message}")
        message = self._message(response)
        if status == 401:
            raise GitUnauthorized(
                f"{server} refused the credential for git{message}",
                hint="run `mirror doctor` to see which credential, and whether it has expired",
            )
        if status == 403:
            raise GitForbidden(f"{server} refuses this credential access to the repository (403){message}")
        if status in (404, 410):
            raise GitNotFound(f"{server} has no such repository, or hides it ({status}){message}")
        if status == 413:
            raise GitTooLarge(f"{server} refuses a request of this size (413){message}")
        if status >= 500:
            raise GitUnreachable(f"{server} answered {status}{message}")
        raise GitFailed(f"{server} answered {status}{message}")

    def _reader(self, response: urllib3.BaseHTTPResponse, size_max: int | None) -> Callable[[int], bytes]:
        """A function that reads so many bytes of a response, of which at most `size_max` may come."""
        rate = self._pools.network.minimum_rate
        meter, before = RateMeter(self._clock, rate), self.received_bytes
        start = self._clock() if self._clock is not None else 0.0

        def read_chunk(size: int) -> bytes:
            with http.reading(self._base_url):
                data = response.read(size)
            self.received_bytes += len(data)
            failure: GitFailed | GitUnreachable | None = None
            if size_max is not None and self.received_bytes - before > size_max:
                failure = GitFailed(f"{self._server} advertises more refs than any repository has")
            elif self.is_preparing:
                meter.begin()
                if self._clock is not None and self._clock() - start > self.limits.preparing_seconds:
                    failure = GitUnreachable(f"{self._server} takes too long to prepare a pack; given up")
            elif meter.is_too_slow(len(data)):
                failure = GitUnreachable(f"{self._server} {rate.violation}")
            if failure is not None:
                response.close()
                raise failure
            return data

        def read(size: int) -> bytes:
            # In small chunks: a large one would hide for long that the transfer is too slow.
            chunks = []
            while size > 0 and (data := read_chunk(min(size, self.limits.read_bytes))):
                chunks.append(data)
                size -= len(data)
            return b"".join(chunks)

        return read

    def _smart_request(self, service: str, url: str, data: bytes | Iterator[bytes] | None) -> Any:
        try:
            return super()._smart_request(service, url, data)
        except BaseException:
            self._close_open()
            raise

    def _discover_references(
        self,
        service: bytes,
        base_url: str,
        protocol_version: int | None = None,
        ref_prefix: Sequence[bytes] | None = None,
    ) -> Any:
        known = self.advertised
        if known is not None and service == b"git-upload-pack" and self.protocol_version == 2:
            # Listed a moment ago; a fetch needs only the values.
            values = {name: value.encode() for name, value in known.refs.items()}
            return values, _VERSION_2, self._moved_to or base_url, {}, {}
        try:
            found = super()._discover_references(service, base_url, protocol_version, ref_prefix)
        finally:
            self._close_open()
        # dulwich's fetch_pack drops the peeled values, which a mirror keeps in packed-refs.
        refs, _, self._moved_to, symrefs, peeled = found
        self.advertised = ls_refs.refs_of(refs, symrefs, peeled)
        return found


class _Response:
    """What dulwich needs of a response. Closing it keeps the connection where little is left to read."""

    def __init__(self, response: urllib3.BaseHTTPResponse, redirect_location: str) -> None:
        self._response = response
        self.content_type = response.headers.get("Content-Type")
        self.redirect_location = redirect_location

    def close(self) -> None:
        """Give up the rest of the response."""
        http.release(self._response)


class _ErrorReader:
    """Reads the response to a fetch. dulwich ignores a refusal (`ERR …`) where it expects another packet;
    this raises it as GitFailed with the server's message."""

    def __init__(self, read: Callable[[int], bytes], server: str) -> None:
        self._read = read
        self._server = server
        self._is_start = True
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """Read so many bytes of the response."""
        if self._is_start:
            self._is_start = False
            self._ahead = self._read(8)
            if self._ahead[4:] == b"ERR ":
                rest = self._read(max(0, int(self._ahead[:4], 16) - 8))
                raise GitFailed(f"{self._server} refuses: {plain(rest.decode('utf-8', 'replace'))}")
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data + self._read(size - len(data)) if len(data) < size else data


def _with_ofs_delta(data: bytes | Iterator[bytes] | None) -> bytes | Iterator[bytes] | None:
    """Add `ofs-delta` to a fetch request of protocol version 2, which dulwich leaves out: deltas by offset
    are smaller and quicker to read than those by object id."""
    if not isinstance(data, bytes) or not data.startswith(_FETCH):
        return data
    at = 0
    while at + 4 <= len(data):
        size = int(data[at : at + 4], 16)
        if size == 1:  # the delimiter before the arguments
            return data[: at + 4] + pkt_line(b"ofs-delta\n") + data[at + 4 :]
        if size < 4:
            break
        at += size
    return data
