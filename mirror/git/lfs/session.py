"""HTTP to an LFS server and to its storage: every header goes to its own origin only."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import BinaryIO
from urllib.parse import urlsplit

import urllib3

from mirror.git.failures import GitFailed
from mirror.git.wire import http
from mirror.http.network import Network, in_force
from mirror.http.origins import authority, is_loopback, origin, redirected_headers
from mirror.http.pools import Pools

# Headers that a server may not set for us.
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "range", "accept-encoding", "expect",
     "te", "upgrade", "trailer", "proxy-authorization"}
)  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_HEADERS_MAX = 50

Body = bytes | Callable[[], BinaryIO] | None


def action_headers(headers: object) -> dict[str, str]:
    """The headers of an action, without those that a server may not set. Raises ValueError where they are
    malformed."""
    if headers is None:
        return {}
    if not isinstance(headers, Mapping) or len(headers) > _HEADERS_MAX:
        raise ValueError("its headers are malformed")
    found = {}
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str) and _TOKEN.fullmatch(name)):
            raise ValueError("its headers are malformed")
        if not _VALUE.fullmatch(value) or not value.isascii():
            raise ValueError("its headers are malformed")
        if name.lower() not in _OURS:
            found[name] = value
    return found


class Session:
    """Connections to the LFS server at the URL `home` and to its storage. Threads may share it.

    `silence_timeout`: seconds without a byte. `network`: None for the settings of this process.
    """

    def __init__(
        self, home: str, silence_timeout: float, connections: int, network: Network | None = None
    ) -> None:
        self.home = origin(home)
        self._is_local = is_loopback(self.home)
        self._silence = silence_timeout
        self.pools = Pools(network or in_force(), connections)

    def close(self) -> None:
        """Close the connections."""
        self.pools.clear()

    def url_fault(self, url: str) -> str | None:
        """Why no request may be sent to a URL that a server gave, or None."""
        try:
            parts = urlsplit(url)
            where = origin(url)
        except ValueError:
            return "its URL is malformed"
        if parts.username is not None or parts.password is not None:
            return "its URL contains a credential"
        if not parts.hostname or any(sign <= " " or sign == "\x7f" for sign in url):
            return "its URL is malformed"
        if parts.scheme == "https" or (parts.scheme == "http" and self._is_local and is_loopback(where)):
            return None
        return "its URL is not https"

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> urllib3.BaseHTTPResponse:
        """Send one request and follow its redirects. `headers` go to the origin of `url` and to no other.

        The caller reads or closes the response. Raises GitFailed where a URL or a redirect is not allowed,
        and GitUnreachable.
        """
        headers = {"User-Agent": self.pools.network.git_agent, "Accept-Encoding": "identity", **headers}

        def send_to(url: str) -> urllib3.BaseHTTPResponse:
            fault = self.url_fault(url)
            if fault is not None:
                raise GitFailed(f"the LFS server points elsewhere: {fault}")
            return self._once(method, url, headers, body)

        def before_redirect(url: str, target: str) -> None:
            nonlocal headers
            if body is not None and origin(url) == self.home and origin(target) != self.home:
                raise GitFailed(f"{authority(url)} redirects to another host; not followed")
            headers = redirected_headers(headers, url, target)

        return http.follow_redirects(url, send_to, before_redirect, has_body=body is not None)[0]

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: Body
    ) -> urllib3.BaseHTTPResponse:
        opened = body() if callable(body) else contextlib.nullcontext(body)
        with opened as content:
            return http.send(self.pools, method, url, headers=headers, body=content, silence=self._silence)
