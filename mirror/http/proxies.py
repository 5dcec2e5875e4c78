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
    """A proxy. Its text form hides the password."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Its URL, without user name and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def authorization(self) -> str | None:
        """The Proxy-Authorization header, registered as a secret; None where the proxy needs none."""
        if not self.username and not self.password:
            return None
        register_secret(quote(self.password, safe=""))
        return basic(self.username, self.password)

    def __str__(self) -> str:
        return f"{self.url}{' (with a user name)' if self.username else ''}"


def parse_proxy(text: str, where: str, *, username: str = "", password: str = "") -> Proxy:
    """The proxy that `text` names: `http://host:port`, `https://…`, or `host:port`.

    Errors name `where` the text is from and never repeat the text, which may hold a password. Raises
    UsageError.
    """
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
        raise UsageError(f"{where}: it is not the URL of a proxy", hint="write http://host:port")
    user = username or unquote(parts.username or "")
    secret = password or unquote(parts.password or "")
    return Proxy(parts.scheme, host, port, user, secret)


def urlsplit_password(text: str) -> str:
    """The password in a URL, not decoded; empty where there is none."""
    try:
        return urlsplit(text if "://" in text else f"http://{text}").password or ""
    except ValueError:
        return ""


def from_environment(environment: Mapping[str, str]) -> tuple[Proxy | None, Proxy | None, tuple[str, ...]]:
    """The proxies for https and for http, and the hosts without a proxy. Lower-case names win, as in other
    programs. Raises UsageError."""

    def named(*names: str) -> Proxy | None:
        for name in names:
            # In a CGI script HTTP_PROXY is the header `Proxy:` of the request: anybody can set it (httpoxy).
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
    """Whether one of the NO_PROXY rules `without` matches an origin: `*`, a host, a parent domain (with a
    leading dot or not), an address or a network, each with or without a port."""
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
