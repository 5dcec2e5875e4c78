"""HTTP to an LFS server and to the storage that it points to: each header goes to its own origin only."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError
from urllib3.util import Retry, Timeout

from mirror.git.failures import GitFailed, GitUnreachable
from mirror.git.transport import CONNECT_TIMEOUT, REDIRECTS_MAX, USER_AGENT, GitLogin, origin

# Headers that say what is asked, and nothing about who asks.
_IMPERSONAL = frozenset({"accept", "accept-encoding", "content-type", "range", "user-agent"})
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
    pair = f"{login.username}:{login.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


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
    """How long a refusal asks to wait, by `Retry-After`: seconds, or a date. `now` is since 1970."""
    text = (response.headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 9:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


class Session:
    """Connections for one LFS server at `home`, its storage among them. Threads may share it."""

    def __init__(self, home: str, silence_timeout: float, connections: int) -> None:
        self.home = origin(home)
        self._is_local = _is_loopback(self.home)
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            retries=Retry(total=0, redirect=0, raise_on_redirect=False),
            timeout=Timeout(connect=min(CONNECT_TIMEOUT, silence_timeout), read=silence_timeout),
            cert_reqs="CERT_REQUIRED",
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def fault_of(self, url: str) -> str | None:
        """Why an address that a server gave is not gone to, or None."""
        try:
            parts = urlsplit(url)
            where = origin(url)
        except ValueError:
            return "its address is not one"
        if parts.username is not None or parts.password is not None:
            return "its address holds a credential"
        if not parts.hostname or any(sign <= " " or sign == "\x7f" for sign in url):
            return "its address is not one"
        if parts.scheme == "https" or (parts.scheme == "http" and self._is_local and _is_loopback(where)):
            return None
        return "its address is not https"

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> urllib3.BaseHTTPResponse:
        """One request, its redirects followed; `headers` go to the origin of `url` and to no other.

        The caller reads or closes the answer. Raises GitFailed where it is led astray, and
        GitUnreachable.
        """
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        for _ in range(REDIRECTS_MAX):
            fault = self.fault_of(url)
            if fault is not None:
                raise GitFailed(f"the LFS server points elsewhere: {fault}")
            response = self._once(method, url, headers, body)
            target = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not target:
                return response
            response.close()
            if body is not None and response.status not in (307, 308):
                raise GitFailed(f"{place(url)} redirects a request with a body; not followed")
            following = urljoin(url, target)
            if origin(following) != origin(url):
                if body is not None and origin(url) == self.home:
                    raise GitFailed(f"{place(url)} redirects to another host; not followed")
                headers = {name: value for name, value in headers.items() if name.lower() in _IMPERSONAL}
            url = following
        raise GitFailed(f"{place(url)} redirects more than {REDIRECTS_MAX} times")

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: Body
    ) -> urllib3.BaseHTTPResponse:
        opened = body() if callable(body) else None
        try:
            return self._pool.request(
                method,
                url,
                headers=dict(headers),
                body=opened if opened is not None else body,  # type: ignore[arg-type]
                preload_content=False,
                redirect=False,
                decode_content=True,
            )
        except ReadTimeoutError as error:
            raise GitUnreachable(f"{place(url)} fell silent") from error
        except LocationParseError as error:
            raise GitFailed("the LFS server gave an address that is not one") from error
        except (HTTPError, OSError) as error:
            raise GitUnreachable(f"{place(url)} cannot be reached: {type(error).__name__}") from error
        finally:
            if opened is not None:
                opened.close()


def place(url: str) -> str:
    """Host and port of a URL, for people; its path may be a secret."""
    _, host, port = origin(url)
    return f"{host}:{port}"


def _is_loopback(where: tuple[str, str, int | None]) -> bool:
    host = where[1]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
