"""Smart HTTP to one git server: sign-in, redirects, silence and errors as we want them.

dulwich speaks the protocol; the requests are ours. The credential goes to the origin it was given
for and nowhere else, and a redirect to another origin is refused outright: a repository that
"moved" to another host is not the repository that we were told to copy.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from dulwich.client import AbstractHttpGitClient
from dulwich.protocol import pkt_line
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError
from urllib3.util import Retry, Timeout

from mirror import __version__
from mirror.git import lsrefs
from mirror.git.failures import GitFailed, GitForbidden, GitNotFound, GitUnauthorized, GitUnreachable
from mirror.model import Refs

# Bitbucket has refused clients whose User-Agent did not begin like git's own.
USER_AGENT = f"git/mirror-{__version__}"
CONNECT_TIMEOUT = 30.0
REDIRECTS_MAX = 5
RESETS_MAX = 3
# What stays below this rate (bytes a second, over so many seconds) is given up.
RATE_MIN = 1000
RATE_OVER = 600.0
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


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL, the port made explicit."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


# One for the process: a worker that looks after many repositories of a host keeps its connection.
_POOL = urllib3.PoolManager(
    # Whatever goes wrong comes as it is.
    retries=Retry(total=False, redirect=False, raise_on_redirect=False),
    cert_reqs="CERT_REQUIRED",
)
# Origins that do not answer a request for refs that comes out of the blue.
_NOT_DIRECT: set[tuple[str, str, int | None]] = set()


class HttpClient(AbstractHttpGitClient):
    """dulwich's smart HTTP client over our own requests, for one repository URL.

    `silence_timeout` is in seconds without a byte. `clock` (monotonic seconds) serves to give up a
    transfer that does not end because it is too slow.
    """

    def __init__(
        self,
        url: str,
        *,
        login: GitLogin | None,
        silence_timeout: float,
        thin_packs: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(url, thin_packs=thin_packs, quiet=True)
        self._origin = origin(url)
        self._login = login
        self._timeout = Timeout(connect=min(CONNECT_TIMEOUT, silence_timeout), read=silence_timeout)
        self._clock = clock
        self._moved_to: str | None = None
        # Set while a server gets a pack ready, which of a giant takes long; what it tells of that meanwhile
        # is little.
        self.is_preparing = False
        self.advertised: Refs | None = None
        self.answer: bytes | None = None  # the one it was read from, where a single request was enough
        self.received_bytes = 0

    def list_refs(self, is_known: Callable[[bytes], bool] = lambda _: False) -> Refs | None:
        """What the server advertises, also in `advertised`, by a single request where it can be. None
        where `is_known` says of the answer to that request that it need not be read.

        Raises the errors of `mirror.git.failures`, and what dulwich raises where the server breaks the
        protocol.
        """
        if self._origin not in _NOT_DIRECT and (answer := self._list_directly()) is not None:
            if is_known(answer):
                return None
            try:
                found = lsrefs.parse(answer)
            except lsrefs.NotUnderstood:
                _NOT_DIRECT.add(self._origin)
            else:
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
        response = self._send(url, self._request_headers(headers), lsrefs.request(USER_AGENT))
        kind = (response.headers.get("Content-Type") or "").split(";")[0].strip()
        if response.status != 200 or kind != headers["Accept"]:
            _let_go(response)
            if response.status in (400, 405, 415, 501):
                _NOT_DIRECT.add(self._origin)
            return None
        try:
            body = bytearray()
            read = self._reader(response, lsrefs.ADVERTISEMENT_MAX)
            while piece := read(1 << 18):
                body += piece
        finally:
            _let_go(response)
        return bytes(body)

    def _get_url(self, path: str | bytes) -> str:  # noqa: ARG002 - the URL names the repository
        return self._base_url

    def _request_headers(self, headers: dict[str, str] | None) -> dict[str, str]:
        result = {"User-Agent": USER_AGENT, "Pragma": "no-cache", **(headers or {})}
        result.pop("Content-Length", None)  # the body may be another by then
        if self._login is not None:
            pair = f"{self._login.username}:{self._login.password}".encode()
            result["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
        return result

    def _send(self, url: str, headers: dict[str, str], data: Any) -> urllib3.BaseHTTPResponse:
        """One request, its resets retried where it can be sent again."""
        for attempt in range(RESETS_MAX):
            try:
                return _POOL.request(
                    "GET" if data is None else "POST",
                    url,
                    headers=headers,
                    body=data,
                    preload_content=False,
                    redirect=False,
                    timeout=self._timeout,
                    decode_content=True,
                )
            except ReadTimeoutError as error:
                raise GitUnreachable(f"{self._where()} fell silent") from error
            except (HTTPError, OSError) as error:
                again = attempt + 1 < RESETS_MAX and (data is None or isinstance(data, bytes))
                if not again or not isinstance(error, ProtocolError):
                    raise GitUnreachable(
                        f"{self._where()} cannot be reached: {type(error).__name__}"
                    ) from error
        raise AssertionError("the loop always returns or raises")

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
            target = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not target:
                break
            _let_go(response)
            if data is not None and response.status in (301, 302, 303):
                raise GitFailed(f"{self._where()} redirects a request with a body; not followed")
            url = urljoin(url, target)
        else:
            raise GitFailed(f"{self._where()} redirects more than {REDIRECTS_MAX} times")
        if raise_for_status:
            self._check(response)
        is_list = data is None or (isinstance(data, bytes) and data.startswith(_LIST))
        read = self._reader(response, lsrefs.ADVERTISEMENT_MAX if is_list else None)
        if not is_list and url.endswith("/git-upload-pack"):
            read = _Heard(read, self._where()).read
        return _Answer(response, url if url != asked else ""), read

    def _check(self, response: urllib3.BaseHTTPResponse) -> None:
        status = response.status
        if status == 200:
            kind = (response.headers.get("Content-Type") or "").split(";")[0].strip()
            if kind.startswith("application/x-git-"):
                return
            response.close()
            # A login page, say. dulwich would take it for the old protocol without a server's help.
            raise GitFailed(f"{self._where()} answered with {kind or 'no content type'}, not with git")
        response.close()
        if status == 401:
            raise GitUnauthorized(
                f"{self._where()} refused the credential for git",
                hint="run `mirror doctor` to see which credential, and whether it has expired",
            )
        if status == 403:
            raise GitForbidden(f"{self._where()} does not let this credential read the repository (403)")
        if status in (404, 410):
            raise GitNotFound(f"{self._where()} knows no such repository, or hides it ({status})")
        if status == 429 or status >= 500:
            raise GitUnreachable(f"{self._where()} answered {status}")
        raise GitFailed(f"{self._where()} answered {status}")

    def _reader(self, response: urllib3.BaseHTTPResponse, at_most: int | None) -> Callable[[int], bytes]:
        """What reads an answer; one of refs may not be larger than `at_most`."""
        pace, before = Pace(self._clock), self.received_bytes

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
            elif pace.is_too_slow(len(data)):
                response.close()
                raise GitUnreachable(f"{self._where()} sends less than {RATE_MIN} bytes a second; given up")
            return data

        def read(size: int) -> bytes:
            # What trickles would not be noticed while much is waited for.
            pieces = []
            while size > 0 and (data := piece(min(size, _READ_MAX))):
                pieces.append(data)
                size -= len(data)
            return b"".join(pieces)

        return read

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
        found = super()._discover_references(service, base_url, protocol_version, ref_prefix)
        # fetch_pack drops the peeled values; whoever serves our mirror needs them.
        refs, _, self._moved_to, symrefs, peeled = found
        self.advertised = lsrefs.refs_of(refs, symrefs, peeled)
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
                text = "".join(sign for sign in rest.decode("utf-8", "replace") if sign.isprintable())
                raise GitFailed(f"{self._where} refuses: {text[:200]}")
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data + self._read(size - len(data)) if len(data) < size else data


class Pace:
    """Whether what comes is too slow to be waited for."""

    def __init__(self, clock: Callable[[], float] | None) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """It counts from now on."""
        self._since = self._clock() if self._clock is not None else 0.0
        self._bytes = 0

    def is_too_slow(self, more: int) -> bool:
        """`more` bytes have come."""
        self._bytes += more
        if self._clock is None or (passed := self._clock() - self._since) < RATE_OVER:
            return False
        is_slow = self._bytes < RATE_MIN * passed
        self._since, self._bytes = self._clock(), 0
        return is_slow


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
