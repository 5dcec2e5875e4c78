"""Origins, and which redirects are followed. A credential is bound to an origin and is sent to no other."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECTS_MAX = 5
# Headers that describe the request and say nothing about its sender.
_IMPERSONAL = frozenset({"accept", "accept-encoding", "content-type", "range", "user-agent"})

Origin = tuple[str, str, int | None]


class RedirectRefused(Exception):
    """A redirect that is not followed; the text says why."""


def origin(url: str) -> Origin:
    """Scheme, host and port of a URL, the port made explicit. Raises ValueError."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


def authority(url: str) -> str:
    """Host and port of a URL, for messages; its path may be a secret."""
    try:
        _, host, port = origin(url)
    except ValueError:
        return "malformed URL"
    return f"{host}:{port}"


def is_loopback(where: Origin) -> bool:
    """Whether an origin is this machine itself."""
    host = where[1]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def redirect_target(status: int, url: str, location: str | None, *, has_body: bool = False) -> str | None:
    """The URL that a response of `url` redirects to; None where `status` is no redirect.

    Raises RedirectRefused for a redirect without a target, to another scheme than HTTP, with a user name
    in it, from https to http, and for one of a request with a body that does not keep the method.
    """
    if status not in REDIRECTS:
        return None
    if not location:
        raise RedirectRefused("a redirect to nowhere")
    if has_body and status not in (307, 308):
        raise RedirectRefused("a redirect of a request with a body")
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        scheme, host, _ = origin(target)
    except ValueError:
        raise RedirectRefused("a redirect to nowhere") from None
    if scheme not in ("http", "https"):
        named = scheme if scheme.isascii() and scheme.isprintable() and scheme else "nowhere"
        raise RedirectRefused(f"a redirect to {named}")
    if not host or any(sign <= " " or sign == "\x7f" for sign in target):
        raise RedirectRefused("a redirect to nowhere")
    if parts.username is not None or parts.password is not None:
        raise RedirectRefused("a redirect with a user name in it")
    if urlsplit(url).scheme == "https" and scheme == "http":
        raise RedirectRefused("a redirect away from https")
    return target


def redirected_headers(headers: Mapping[str, str], url: str, target: str) -> dict[str, str]:
    """The headers of a request to `url` that its redirect to `target` keeps: at another origin only those
    that say nothing about the sender."""
    if origin(target) == origin(url):
        return dict(headers)
    return {name: value for name, value in headers.items() if name.lower() in _IMPERSONAL}
