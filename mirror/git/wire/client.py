"""Smart HTTP to one git server: sign-in, redirects, silence and errors as we want them.

dulwich speaks the protocol; the requests are ours. The credential goes to the origin it was given
for and nowhere else, and a redirect to another origin is refused outright: a repository that
"moved" to another host is not the repository that we were told to copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import urllib3
from dulwich.client import AbstractHttpGitClient
from dulwich.protocol import pkt_line
from urllib3.exceptions import HTTPError, ReadTimeoutError

from mirror.errors import UsageError
from mirror.git.failures import (
    GitFailed,
    GitForbidden,
    GitNotFound,
    GitTooLarge,
    GitUnauthorized,
    GitUnreachable,
)
from mirror.git.wire import ls_refs
from mirror.git.workers.clock import Watch
from mirror.http import pools, retries
from mirror.http.failures import failure_reason
from mirror.http.headers import basic, wait_from_headers
from mirror.http.messages import BODY_MAX, after_colon, media_type, plain, server_message
from mirror.http.network import Network
from mirror.http.origins import REDIRECTS_MAX, Origin, RedirectRefused, origin, redirect_target
from mirror.http.rates import RateMeter
from mirror.model import Refs

# For so many seconds a server may get a pack ready, telling of it all the while.
PREPARING_MAX = 4 * 3600.0
# So much of an answer is waited for at a time.
_READ_MAX = 1 << 16
# What a server that understood our request for refs can do for certain.
_VERSION_2 = frozenset({b"ls-refs", b"fetch=shallow", b"object-format=sha1"})
_FETCH = pkt_line(b"command=fetch\n")
_LIST = pkt_line(b"command=ls-refs\n")
# What is left of an answer that is not wanted is read, in so few pieces, so that its connection can be kept.
_LEFT_PIECES_MAX = 4


@dataclass(frozen=True)
class GitLogin:
    """User name and password for git over HTTPS. Its text form hides the password."""

    username: str
    password: str = field(repr=False)


class _Direct:
    """Whether the servers of one origin answer a request for refs that comes out of the blue.

    That one repository is answered oddly says nothing of the others: the whole origin is asked in the
    old way only after several were, and none ever was answered.
    """

    _ODD_MAX = 3

    def __init__(self) -> None:
        self._works = False
        self._odd: set[str] = set()

    def is_worth(self, url: str) -> bool:
        """Whether to ask for this repository so."""
        return url not in self._odd and (self._works or len(self._odd) < self._ODD_MAX)

    def worked(self, url: str) -> None:
        """It was answered."""
        self._works = True
        self._odd.discard(url)

    def failed(self, url: str) -> None:
        """It was not understood, or the answer was not."""
        self._odd.add(url)


_DIRECT: defaultdict[Origin, _Direct] = defaultdict(_Direct)


class HttpClient(AbstractHttpGitClient):
    """dulwich's smart HTTP client over our own requests, for one repository URL.

    `silence_timeout` is in seconds without a byte. `clock` (monotonic seconds) serves to give up a
    transfer that does not end because it is too slow. `network`: None uses this process's settings.
    `watch` is what it waits by.
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
    ) -> None:
        super().__init__(url, thin_packs=thin_packs, quiet=True)
        self._origin = origin(url)
        self._pools = pools.shared() if network is None else pools.Pools(network)
        self._authorization = basic(login.username, login.password) if login is not None else None
        self._silence = silence_timeout
        self._clock = clock
        self._watch = watch or Watch()
        self._doubted = False
        self._moved_to: str | None = None
        self._open: urllib3.BaseHTTPResponse | None = None  # the answer that may not be done with
        # Set while a server gets a pack ready, which of a giant takes long; what it tells of that meanwhile
        # is little.
        self.is_preparing = False
        # Whether a request that fails is sent again; whoever asks in ever smaller groups need not be.
        self.is_patient = True
        self.advertised: Refs | None = None
        self.answer: bytes | None = None  # the one it was read from, where a single request was enough
        self.received_bytes = 0

    def list_refs(self, is_known: Callable[[bytes], bool] = lambda _: False) -> Refs | None:
        """What the server advertises, also in `advertised`, by a single request where it can be. None
        where `is_known` says of the answer to that request that it need not be read.

        Raises the errors of `mirror.git.failures`, and what dulwich raises where the server breaks the
        protocol.
        """
        direct = _DIRECT[self._origin]
        if direct.is_worth(self._base_url) and (answer := self._list_directly()) is not None:
            if is_known(answer):
                return None
            try:
                found = ls_refs.parse(answer)
            except ls_refs.NotUnderstood:
                direct.failed(self._base_url)
            else:
                direct.worked(self._base_url)
                if found.head is not None:
                    self.answer, self.advertised, self.protocol_version = answer, found, 2
                    return found
        self._discover_references(b"git-upload-pack", self._base_url)
        assert self.advertised is not None
        return self.advertised

    def _list_directly(self) -> bytes | None:
        """The answer to a request for refs without any before it; None where the server does not
        understand, or has moved."""
        headers = {
            "Content-Type": "application/x-git-upload-pack-request",
            "Accept": "application/x-git-upload-pack-result",
            "Git-Protocol": "version=2",
        }
        url = self._base_url + "git-upload-pack"
        asking = ls_refs.request(self._agent)
        response = self._send(url, self._request_headers(headers), asking, has_another_way=True)
        kind = media_type(response.headers.get("Content-Type"))
        if response.status != 200 or kind != headers["Accept"]:
            _let_go(response)
            if response.status in (400, 405, 415, 501):
                _DIRECT[self._origin].failed(self._base_url)
            return None
        try:
            body = bytearray()
            read = self._reader(response, ls_refs.ADVERTISEMENT_MAX)
            while piece := read(1 << 18):
                body += piece
        finally:
            _let_go(response)
        return bytes(body)

    def _get_url(self, path: str | bytes) -> str:  # noqa: ARG002 - the URL names the repository
        return self._base_url

    @property
    def _agent(self) -> str:
        return self._pools.network.git_agent

    def _request_headers(self, headers: dict[str, str] | None) -> dict[str, str]:
        result = {"User-Agent": self._agent, "Pragma": "no-cache", **(headers or {})}
        result.pop("Content-Length", None)  # the body may be another by then
        if self._authorization is not None:
            result["Authorization"] = self._authorization
        return result

    def _send(
        self, url: str, headers: dict[str, str], data: Any, *, has_another_way: bool = False
    ) -> urllib3.BaseHTTPResponse:
        """One request, sent again where what went wrong may pass and its body can be sent again.

        With `has_another_way` a refusal is returned, after the wait that it asks for: the other way is
        the next try.
        """
        self._finish()
        can_repeat = data is None or isinstance(data, bytes)
        tried = 0
        while True:
            tried += 1
            asked: float | None = None
            try:
                response = self._pools.request(
                    "GET" if data is None else "POST",
                    url,
                    headers=headers,
                    body=data,
                    silence=self._silence,
                )
                self._open = response
                if response.status == 401 and not self._doubted and can_repeat:
                    # Now and then a good credential is refused for nothing.
                    self._doubted = True
                    if not has_another_way:
                        _let_go(response)
                        continue
                if not retries.is_retryable(response.status):
                    return response
                asked = wait_from_headers(response.headers, datetime.fromtimestamp(self._watch.now(), UTC))
                if has_another_way and (asked or 0.0) <= retries.WAIT_MAX:
                    self._watch.sleep(asked or 0.0)
                    return response
                trouble = GitUnreachable(self._refused(response, asked))
                is_lasting = not self.is_patient
            except ReadTimeoutError as error:
                raise GitUnreachable(f"{self._where()} fell silent") from error
            except (HTTPError, OSError) as error:
                reason, hint = failure_reason(error)
                trouble = GitUnreachable(f"{self._where()} cannot be reached: {reason}", hint=hint)
                # A connection that was kept may have been closed meanwhile, so one more try at least.
                trouble.__cause__ = error
                is_lasting = hint is not None or (tried > 1 and not self.is_patient)
            except UsageError as error:
                raise GitFailed(error.message, hint=error.hint) from error
            wait = retries.retry_delay(tried, asked, first=self._pools.network.pause)
            if wait is None or wait > retries.WAIT_MAX or is_lasting or not can_repeat:
                raise trouble
            self._watch.sleep(wait)

    def _finish(self) -> None:
        """Nothing more of the last answer is wanted. dulwich closes one neither where it raises early, nor
        where it asks for refs after it; left to the garbage collector, its socket stays open for long."""
        response, self._open = self._open, None
        if response is not None and not response.closed:
            _let_go(response)

    def _refused(self, response: urllib3.BaseHTTPResponse, asked: float | None) -> str:
        """The message of a refusal that may pass."""
        later = f", and asks to come back in {asked:.0f} s" if asked else ""
        return f"{self._where()} answered {response.status}{later}{self._said(response)}"

    def _said(self, response: urllib3.BaseHTTPResponse) -> str:
        """The server's own sentence, after a colon; the answer is done with then."""
        body = bytearray()
        pace = RateMeter(self._watch.monotonic, self._pools.network.minimum_rate, 10.0)
        try:
            while len(body) < BODY_MAX and (piece := response.read1(BODY_MAX)):
                body += piece
                if pace.is_too_slow(len(piece)):
                    break
            _let_go(response)
        except (HTTPError, OSError):
            response.close()  # nothing more of it will be read
        return after_colon(server_message(response.headers.get("Content-Type"), bytes(body)))

    def _where(self) -> str:
        return f"{self._origin[1]}:{self._origin[2]}"

    # dulwich calls this for every request that it makes.
    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,
    ) -> Any:
        asked = url
        for _ in range(REDIRECTS_MAX):
            if origin(url) != self._origin:
                raise GitFailed(f"{self._where()} redirects to another host; not followed")
            response = self._send(url, self._request_headers(headers), _asking_for_offsets(data))
            try:
                location = response.headers.get("Location")
                target = redirect_target(response.status, url, location, has_body=data is not None)
            except RedirectRefused as error:
                _let_go(response)
                raise GitFailed(f"{self._where()} sends {error}; not followed") from None
            if target is None:
                break
            _let_go(response)
            url = target
        else:
            raise GitFailed(f"{self._where()} redirects more than {REDIRECTS_MAX} times")
        if raise_for_status:
            self._check(response)
        is_list = data is None or (isinstance(data, bytes) and data.startswith(_LIST))
        read = self._reader(response, ls_refs.ADVERTISEMENT_MAX if is_list else None)
        if not is_list and url.endswith("/git-upload-pack"):
            read = _Heard(read, self._where()).read
        return _Answer(response, url if url != asked else ""), read

    def _check(self, response: urllib3.BaseHTTPResponse) -> None:
        status = response.status
        if status == 200:
            kind = media_type(response.headers.get("Content-Type"))
            if kind.startswith("application/x-git-"):
                return
            # A login page, say. dulwich would take it for the old protocol without a server's help.
            words = f"answered with {kind or 'no content type'}, not with git"
            raise GitFailed(f"{self._where()} {words}{self._said(response)}")
        told = self._said(response)
        if status == 401:
            raise GitUnauthorized(
                f"{self._where()} refused the credential for git{told}",
                hint="run `mirror doctor` to see which credential, and whether it has expired",
            )
        if status == 403:
            raise GitForbidden(
                f"{self._where()} does not let this credential read the repository (403){told}"
            )
        if status in (404, 410):
            raise GitNotFound(f"{self._where()} knows no such repository, or hides it ({status}){told}")
        if status == 413:
            raise GitTooLarge(f"{self._where()} takes no request of this size (413){told}")
        if status >= 500:
            raise GitUnreachable(f"{self._where()} answered {status}{told}")
        raise GitFailed(f"{self._where()} answered {status}{told}")

    def _reader(self, response: urllib3.BaseHTTPResponse, at_most: int | None) -> Callable[[int], bytes]:
        """What reads an answer; one of refs may not be larger than `at_most`."""
        rate = self._pools.network.minimum_rate
        pace, before = RateMeter(self._clock, rate), self.received_bytes
        began = self._clock() if self._clock is not None else 0.0

        def piece(size: int) -> bytes:
            try:
                data = response.read(size)
            except ReadTimeoutError as error:
                raise GitUnreachable(f"{self._where()} fell silent") from error
            except (HTTPError, OSError) as error:
                raise GitUnreachable(f"{self._where()} broke off the transfer") from error
            self.received_bytes += len(data)
            if at_most is not None and self.received_bytes - before > at_most:
                response.close()
                raise GitFailed(f"{self._where()} advertises more refs than any repository has")
            if self.is_preparing:
                pace.begin()
                if self._clock is not None and self._clock() - began > PREPARING_MAX:
                    response.close()
                    raise GitUnreachable(f"{self._where()} gets a pack ready for too long; given up")
            elif pace.is_too_slow(len(data)):
                response.close()
                raise GitUnreachable(f"{self._where()} {rate.violation}")
            return data

        def read(size: int) -> bytes:
            # What trickles would not be noticed while much is waited for.
            pieces = []
            while size > 0 and (data := piece(min(size, _READ_MAX))):
                pieces.append(data)
                size -= len(data)
            return b"".join(pieces)

        return read

    def _smart_request(self, service: str, url: str, data: bytes | Iterator[bytes] | None) -> Any:
        try:
            return super()._smart_request(service, url, data)
        except BaseException:
            self._finish()
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
            # Asked a moment ago; what a fetch needs to know of them is their values.
            values = {name: value.encode() for name, value in known.refs.items()}
            return values, _VERSION_2, self._moved_to or base_url, {}, {}
        try:
            found = super()._discover_references(service, base_url, protocol_version, ref_prefix)
        finally:
            self._finish()
        # fetch_pack drops the peeled values; whoever serves our mirror needs them.
        refs, _, self._moved_to, symrefs, peeled = found
        self.advertised = ls_refs.refs_of(refs, symrefs, peeled)
        return found


def _let_go(response: urllib3.BaseHTTPResponse) -> None:
    """Nothing more of an answer is wanted; keep its connection where little of it is left."""
    try:
        for _ in range(_LEFT_PIECES_MAX):
            if not response.read1(1 << 14):
                response.release_conn()
                return
    except (HTTPError, OSError):
        pass  # whatever was left, nobody wants it
    response.close()


class _Answer:
    """What dulwich wants to know of an answer. Closed, it leaves the connection to the next request where
    nothing but the end is still to be read."""

    def __init__(self, response: urllib3.BaseHTTPResponse, redirect_location: str) -> None:
        self._response = response
        self.content_type = response.headers.get("Content-Type")
        self.redirect_location = redirect_location

    def close(self) -> None:
        """No more of it is wanted."""
        _let_go(self._response)


class _Heard:
    """Reads an answer to a fetch. dulwich passes over a refusal (`ERR …`) where it expects something else;
    here it is raised as GitFailed, with the server's words."""

    def __init__(self, read: Callable[[int], bytes], where: str) -> None:
        self._read = read
        self._where = where
        self._is_new = True
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """As `read` of the answer."""
        if self._is_new:
            self._is_new = False
            self._ahead = self._read(8)
            if self._ahead[4:] == b"ERR ":
                rest = self._read(max(0, int(self._ahead[:4], 16) - 8))
                raise GitFailed(f"{self._where} refuses: {plain(rest.decode('utf-8', 'replace'))}")
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data + self._read(size - len(data)) if len(data) < size else data


def _asking_for_offsets(data: bytes | Iterator[bytes] | None) -> bytes | Iterator[bytes] | None:
    """A fetch of protocol version 2 that asks for deltas by offset, which are smaller and quicker to
    read than those by name. dulwich leaves the word out."""
    if not isinstance(data, bytes) or not data.startswith(_FETCH):
        return data
    at = 0
    while at + 4 <= len(data):
        size = int(data[at : at + 4], 16)
        if size == 1:  # what follows are the arguments
            return data[: at + 4] + pkt_line(b"ofs-delta\n") + data[at + 4 :]
        if size < 4:
            break
        at += size
    return data
