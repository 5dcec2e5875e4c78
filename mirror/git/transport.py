"""Smart HTTP to one git server: sign-in, redirects, silence and errors as we want them.

dulwich speaks the protocol; the requests are ours. The credential goes to the origin it was given
for and nowhere else, and a redirect to another origin is refused outright: a repository that
"moved" to another host is not the repository that we were told to copy.
"""

from __future__ import annotations

import base64
import contextlib
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
from mirror.git.failures import GitFailed, GitNotFound, GitUnauthorized, GitUnreachable
from mirror.model import Head, Refs

# Bitbucket has refused clients whose User-Agent did not begin like git's own.
USER_AGENT = f"git/mirror-{__version__}"
CONNECT_TIMEOUT = 30.0
REDIRECTS_MAX = 5
RESETS_MAX = 3
PEELED = b"^{}"
_FETCH = pkt_line(b"command=fetch\n")


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


class HttpClient(AbstractHttpGitClient):
    """dulwich's smart HTTP client over our own requests, for one repository URL."""

    def __init__(
        self, url: str, *, login: GitLogin | None, silence_timeout: float, thin_packs: bool = True
    ) -> None:
        super().__init__(url, thin_packs=thin_packs, quiet=True)
        self._origin = origin(url)
        self._login = login
        self._pool = urllib3.PoolManager(
            retries=Retry(total=0, redirect=0, raise_on_redirect=False),
            timeout=Timeout(connect=min(CONNECT_TIMEOUT, silence_timeout), read=silence_timeout),
            cert_reqs="CERT_REQUIRED",
        )
        self.advertised: Refs | None = None
        self.received_bytes = 0

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

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
                return self._pool.request(
                    "GET" if data is None else "POST",
                    url,
                    headers=headers,
                    body=data,
                    preload_content=False,
                    redirect=False,
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
            response.release_conn()
            if data is not None and response.status in (301, 302, 303):
                raise GitFailed(f"{self._where()} redirects a request with a body; not followed")
            url = urljoin(url, target)
        else:
            raise GitFailed(f"{self._where()} redirects more than {REDIRECTS_MAX} times")
        if raise_for_status:
            self._check(response)
        response.content_type = response.headers.get("Content-Type")  # type: ignore[attr-defined]
        response.redirect_location = url if url != asked else ""  # type: ignore[attr-defined]
        return response, self._reader(response)

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
            raise GitFailed(f"{self._where()} does not let this credential read the repository (403)")
        if status in (404, 410):
            raise GitNotFound(f"{self._where()} knows no such repository, or hides it ({status})")
        if status == 429 or status >= 500:
            raise GitUnreachable(f"{self._where()} answered {status}")
        raise GitFailed(f"{self._where()} answered {status}")

    def _reader(self, response: urllib3.BaseHTTPResponse) -> Callable[[int], bytes]:
        def read(size: int) -> bytes:
            try:
                data = response.read(size)
            except ReadTimeoutError as error:
                raise GitUnreachable(f"{self._where()} fell silent") from error
            except (HTTPError, OSError) as error:
                raise GitUnreachable(f"{self._where()} broke off the transfer") from error
            self.received_bytes += len(data)
            return data

        return read

    def _discover_references(
        self,
        service: bytes,
        base_url: str,
        protocol_version: int | None = None,
        ref_prefix: Sequence[bytes] | None = None,
    ) -> Any:
        found = super()._discover_references(service, base_url, protocol_version, ref_prefix)
        # fetch_pack drops the peeled values; whoever serves our mirror needs them.
        refs, _, _, symrefs, peeled = found
        self.advertised = _refs(refs, symrefs, peeled)
        return found


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


def _text(value: bytes) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode("ascii")
    raise GitFailed("the server advertises an object id that is not one")


def _refs(refs: Any, symrefs: Any, peeled: Any) -> Refs:
    values: dict[bytes, str] = {}
    tops: dict[bytes, str] = {
        bytes(name).removesuffix(PEELED): _text(value) for name, value in peeled.items() if value
    }
    for name, value in refs.items():
        name = bytes(name)
        if name.endswith(PEELED):
            tops[name.removesuffix(PEELED)] = _text(value)
        elif name != b"HEAD" and value is not None:
            values[name] = _text(value)
    head: Head | None = None
    target = symrefs.get(b"HEAD")
    if target is not None:
        target = bytes(target)
        head = Head("symref" if target in values else "unborn", target)
    elif refs.get(b"HEAD") is not None:
        head = Head("detached", bytes(refs[b"HEAD"]))
    return Refs(values, head, tops)
