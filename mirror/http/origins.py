"""Origins, and which redirects are followed: a credential is bound to an origin and goes to no other."""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin, urlsplit

REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECTS_MAX = 5

Origin = tuple[str, str, int | None]


class Misled(Exception):
    """A redirect that is not followed; the text says why."""


def origin(url: str) -> Origin:
    """Scheme, host and port of a URL, the port made explicit. Raises ValueError."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


def place(url: str) -> str:
    """Host and port of a URL, for people; its path may be a secret."""
    try:
        _, host, port = origin(url)
    except ValueError:
        return "an address that is not one"
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


def redirected(url: str, location: str | None) -> str:
    """Where an answer of `url` redirects to. Raises Misled for a redirect to nowhere, to another scheme
    than HTTP, with a user name in it, and away from HTTPS."""
    if not location:
        raise Misled("a redirect to nowhere")
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        scheme, host, _ = origin(target)
    except ValueError:
        raise Misled("a redirect to nowhere") from None
    if scheme not in ("http", "https"):
        named = scheme if scheme.isascii() and scheme.isprintable() and scheme else "nowhere"
        raise Misled(f"a redirect to {named}")
    if not host or any(sign <= " " or sign == "\x7f" for sign in target):
        raise Misled("a redirect to nowhere")
    if parts.username is not None or parts.password is not None:
        raise Misled("a redirect with a user name in it")
    if urlsplit(url).scheme == "https" and scheme == "http":
        raise Misled("a redirect away from https")
    return target
