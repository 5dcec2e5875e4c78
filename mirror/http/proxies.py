"""Which proxy a request goes through, by the conventions that curl, git and Python share."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from mirror.errors import UsageError
from mirror.http.headers import basic
from mirror.http.origins import Origin
from mirror.logs import register_secret


@dataclass(frozen=True)
class Proxy:
    """A proxy; its password is a secret, and its text form has none."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Its address, without user name and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def authorization(self) -> str | None:
        """What signs requests to it, registered as a secret; None where it wants nothing."""
        if not self.username and not self.password:
            return None
        register_secret(quote(self.password, safe=""))
        return basic(self.username, self.password)

    def __str__(self) -> str:
        return f"{self.url}{' (with a user name)' if self.username else ''}"


def parse_proxy(text: str, where: str, *, username: str = "", password: str = "") -> Proxy:
    """The proxy that `text` names: `http://host:port`, `https://…`, or `host:port`. `where` it stands is
    told in errors, which never repeat it: it may hold a password. Raises UsageError."""
    register_secret(urlsplit_password(text))
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        host = parts.hostname or ""
    except ValueError:
        port, host, parts = None, "", urlsplit("")
    if parts.scheme not in ("http", "https") and "://" in text:
        hint = "name an HTTP proxy, such as http://proxy.example.org:3128"
        raise UsageError(f"{where}: proxies of this kind are not supported (SOCKS is one)", hint=hint)
    if not host or port is None or any(sign <= " " for sign in text):
        raise UsageError(f"{where}: it is not the address of a proxy", hint="write http://host:port")
    user = username or unquote(parts.username or "")
    secret = password or unquote(parts.password or "")
    return Proxy(parts.scheme, host, port, user, secret)


def urlsplit_password(text: str) -> str:
    """The password in an address as it stands there; empty where there is none."""
    try:
        return urlsplit(text if "://" in text else f"http://{text}").password or ""
    except ValueError:
        return ""


def from_environment(environment: Mapping[str, str]) -> tuple[Proxy | None, Proxy | None, tuple[str, ...]]:
    """The proxies for https and for http, and where none is used. Lower-case names win, as everywhere.
    Raises UsageError."""

    def named(*names: str) -> Proxy | None:
        for name in names:
            # A web server hands the header `Proxy:` of anybody to its scripts as HTTP_PROXY.
            if name == "HTTP_PROXY" and "REQUEST_METHOD" in environment:
                continue
            if text := environment.get(name, "").strip():
                return parse_proxy(text, f"the environment variable {name}")
        return None

    without = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return (
        named("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
        named("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
        tuple(without.replace(",", " ").split()),
    )


def is_excepted(where: Origin, without: Sequence[str]) -> bool:
    """Whether NO_PROXY names an origin: by `*`, a host, a domain above it (with a dot before it or not),
    an address, a network of addresses, each with a port or not."""
    return any(_matches(where, one.lower()) for one in without)


def _matches(where: Origin, rule: str) -> bool:
    _, host, port = where
    if rule == "*":
        return True
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        rule = name
    rule = rule.removeprefix("[").removesuffix("]").removeprefix("*")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        bare = rule.removeprefix(".")
        return bool(bare) and (host == bare or host.endswith(f".{bare}"))
