"""HTTP to an LFS server and to the storage that it points to: each header goes to its own origin only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import BinaryIO
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError

from mirror.errors import UsageError
from mirror.git.failures import GitFailed, GitUnreachable
from mirror.git.wire.client import GitLogin
from mirror.http.failures import failure_reason
from mirror.http.headers import basic, wait_from_headers
from mirror.http.network import Network, in_force
from mirror.http.origins import (
    REDIRECTS_MAX,
    RedirectRefused,
    authority,
    is_loopback,
    origin,
    redirect_target,
    redirected_headers,
)
from mirror.http.pools import Pools
from mirror.http.rates import MinimumRate

# Headers that are ours alone to set.
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "range", "accept-encoding", "expect",
     "te", "upgrade", "trailer", "proxy-authorization"}
)  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_HEADERS_MAX = 50

Body = bytes | Callable[[], BinaryIO] | None


def authorization(login: GitLogin) -> str:
    """What signs a request, sent before anybody asks for it."""
    return basic(login.username, login.password)


def headers_given(headers: object) -> dict[str, str]:
    """The headers that a server wants to be sent along with an action, without those that are ours to
    set. Raises ValueError where they are none."""
    if headers is None:
        return {}
    if not isinstance(headers, Mapping) or len(headers) > _HEADERS_MAX:
        raise ValueError("its headers are not understood")
    found = {}
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str) and _TOKEN.fullmatch(name)):
            raise ValueError("its headers are not understood")
        if not _VALUE.fullmatch(value) or not value.isascii():
            raise ValueError("its headers are not understood")
        if name.lower() not in _OURS:
            found[name] = value
    return found


def seconds_asked(response: urllib3.BaseHTTPResponse, now: float) -> float | None:
    """How long a refusal asks to wait. `now` is in seconds since 1970."""
    return wait_from_headers(response.headers, datetime.fromtimestamp(now, UTC))


class Session:
    """Connections for one LFS server at `home`, its storage among them. Threads may share it.

    `network`: None uses this process's settings.
    """

    def __init__(
        self, home: str, silence_timeout: float, connections: int, network: Network | None = None
    ) -> None:
        self.home = origin(home)
        self._is_local = is_loopback(self.home)
        self._silence = silence_timeout
        self._pools = Pools(network or in_force(), connections)

    @property
    def minimum_rate(self) -> MinimumRate:
        """The rate below which a transfer is given up."""
        return self._pools.network.minimum_rate

    def close(self) -> None:
        """Close the connections."""
        self._pools.clear()

    def fault_of(self, url: str) -> str | None:
        """Why an address that a server gave is not gone to, or None."""
        try:
            parts = urlsplit(url)
            where = origin(url)
        except ValueError:
            return "its URL is malformed"
        if parts.username is not None or parts.password is not None:
            return "its address holds a credential"
        if not parts.hostname or any(sign <= " " or sign == "\x7f" for sign in url):
            return "its URL is malformed"
        if parts.scheme == "https" or (parts.scheme == "http" and self._is_local and is_loopback(where)):
            return None
        return "its address is not https"

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> urllib3.BaseHTTPResponse:
        """One request, its redirects followed; `headers` go to the origin of `url` and to no other.

        The caller reads or closes the answer. Raises GitFailed where it is led astray, and
        GitUnreachable.
        """
        headers = {"User-Agent": self._pools.network.git_agent, "Accept-Encoding": "identity", **headers}
        for _ in range(REDIRECTS_MAX):
            fault = self.fault_of(url)
            if fault is not None:
                raise GitFailed(f"the LFS server points elsewhere: {fault}")
            response = self._once(method, url, headers, body)
            try:
                location = response.headers.get("Location")
                target = redirect_target(response.status, url, location, has_body=body is not None)
            except RedirectRefused as error:
                response.close()
                raise GitFailed(f"{authority(url)} sends {error}; not followed") from None
            if target is None:
                return response
            response.close()
            if body is not None and origin(url) == self.home and origin(target) != self.home:
                raise GitFailed(f"{authority(url)} redirects to another host; not followed")
            headers = redirected_headers(headers, url, target)
            url = target
        raise GitFailed(f"{authority(url)} redirects more than {REDIRECTS_MAX} times")

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: Body
    ) -> urllib3.BaseHTTPResponse:
        opened = body() if callable(body) else None
        try:
            return self._pools.request(
                method,
                url,
                headers=headers,
                body=opened if opened is not None else body,
                silence=self._silence,
            )
        except ReadTimeoutError as error:
            raise GitUnreachable(f"{authority(url)} fell silent") from error
        except LocationParseError as error:
            raise GitFailed("the LFS server gave a malformed URL") from error
        except (HTTPError, OSError) as error:
            reason, hint = failure_reason(error)
            raise GitUnreachable(f"{authority(url)} cannot be reached: {reason}", hint=hint) from error
        except UsageError as error:
            raise GitFailed(error.message, hint=error.hint) from error
        finally:
            if opened is not None:
                opened.close()
