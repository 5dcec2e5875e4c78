"""How servers are reached: one plain value for the API, git and LFS. It is also sent to workers."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mirror import __version__
from mirror.errors import UsageError
from mirror.http import proxies
from mirror.http.origins import origin
from mirror.http.proxies import Proxy
from mirror.http.rates import MinimumRate

IpVersion = Literal["any", "ipv4", "ipv6"]

CONNECT_TIMEOUT = 30.0
# The first delay, in seconds, before git sends a request again.
PAUSE = 1.0


@dataclass(frozen=True)
class Network:
    """Network settings.

    `https_proxy` and `http_proxy` serve URLs of these schemes, except for the hosts in `no_proxy`. `ca_file`
    is trusted besides the system's certificates; `system_ca_file` and `system_ca_folder` replace those.
    `user_agent` is appended to our own name. Seconds: `connect_timeout`; `pause`, the first delay before git
    sends a request again; `head_timeout`, how long the head of a response may take after its first byte (git
    and LFS).

    It can be pickled, and holds the proxies' passwords: it is sent to workers over their socket only.
    """

    https_proxy: Proxy | None = None
    http_proxy: Proxy | None = None
    no_proxy: tuple[str, ...] = ()
    ca_file: str | None = None
    system_ca_file: str | None = None
    system_ca_folder: str | None = None
    ip: IpVersion = "any"
    connect_timeout: float = CONNECT_TIMEOUT
    user_agent: str = ""
    pause: float = field(default_factory=lambda: PAUSE)
    minimum_rate: MinimumRate = field(default_factory=MinimumRate)
    head_timeout: float = 60.0
    # Where the proxies come from, for messages.
    proxy_source: str = field(default="", compare=False)

    def proxy_for(self, url: str) -> Proxy | None:
        """The proxy for requests to `url`; None for a direct connection."""
        where = origin(url)
        proxy = self.https_proxy if where[0] == "https" else self.http_proxy
        return None if proxy is None or proxies.is_excepted(where, self.no_proxy) else proxy

    @property
    def source_address(self) -> str | None:
        """The local address that limits connections to one IP version; None for both versions."""
        return {"ipv4": "0.0.0.0", "ipv6": "::"}.get(self.ip)  # noqa: S104 - the family, not a listener

    @property
    def api_agent(self) -> str:
        """The User-Agent for the API."""
        return self._agent(f"mirror/{__version__}")

    @property
    def git_agent(self) -> str:
        """The User-Agent for git servers. It begins like git's own, because Bitbucket has refused others."""
        return self._agent(f"git/mirror-{__version__}")

    def _agent(self, own: str) -> str:
        return f"{own} {self.user_agent}" if self.user_agent else own

    def ssl_context(self) -> ssl.SSLContext:
        """The TLS context with the trusted certificates. Raises UsageError where a file is unusable."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.system_ca_file or self.system_ca_folder:
            _load(context, "SSL_CERT_FILE", self.system_ca_file, None)
            _load(context, "SSL_CERT_DIR", None, self.system_ca_folder)
        else:
            _load_systems(context)
        _load(context, "network.ca_file", self.ca_file, None)
        return context

    def authority_files(self) -> list[Path]:
        """The files of trusted certificates, for libraries that take nothing else. Empty where only the
        system's are trusted."""
        if not (self.ca_file or self.system_ca_file or self.system_ca_folder):
            return []
        if self.system_ca_folder:
            found = sorted(path for path in Path(self.system_ca_folder).glob("*") if path.is_file())
        elif self.system_ca_file:
            found = [Path(self.system_ca_file)]
        else:
            found = [_systems_file()]
        return [*found, *([Path(self.ca_file)] if self.ca_file else [])]

    def check(self) -> None:
        """Raise UsageError where the certificates cannot be used."""
        if self.ca_file or self.system_ca_file or self.system_ca_folder:
            self.ssl_context()

    def describe(self) -> list[tuple[str, str]]:
        """The settings in force as pairs of label and text, without secrets."""
        none = ", ".join(self.no_proxy)
        proxy = self.https_proxy or self.http_proxy
        text = f"{proxy}{f' except for {none}' if none else ''} ({self.proxy_source})" if proxy else "none"
        authorities = self.system_ca_file or self.system_ca_folder or "those of the system"
        both = f"{authorities} and {self.ca_file}" if self.ca_file else authorities
        family = {"any": "IPv4 and IPv6", "ipv4": "IPv4 only", "ipv6": "IPv6 only"}[self.ip]
        return [("proxy", text), ("certificates", both), ("connections", family), ("agent", self.api_agent)]


def from_environment(environment: Mapping[str, str]) -> Network:
    """The settings in HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR. Raises
    UsageError."""
    https, http, without = proxies.from_environment(environment)
    return Network(
        https_proxy=https,
        http_proxy=http,
        no_proxy=without,
        system_ca_file=environment.get("SSL_CERT_FILE") or None,
        system_ca_folder=environment.get("SSL_CERT_DIR") or None,
        proxy_source="by the environment" if https or http else "",
    )


def _load_systems(context: ssl.SSLContext) -> None:
    """Load the system's certificates; where it has none, those of the certifi package."""
    found = ssl.get_default_verify_paths()
    file, folder = Path(found.openssl_cafile), Path(found.openssl_capath)
    has_file = file.is_file()
    has_folder = folder.is_dir() and any(folder.iterdir())
    if has_file or has_folder:
        context.load_verify_locations(str(file) if has_file else None, str(folder) if has_folder else None)
        return
    context.load_verify_locations(_systems_file())


def _systems_file() -> Path:
    """The file of the system's certificates; where it has none, that of the certifi package."""
    file = Path(ssl.get_default_verify_paths().openssl_cafile)
    if file.is_file():
        return file
    import certifi

    return Path(certifi.where())


def _load(context: ssl.SSLContext, name: str, file: str | None, folder: str | None) -> None:
    if not file and not folder:
        return
    try:
        context.load_verify_locations(file, folder)
    except OSError as error:  # SSLError is a subclass: the file has no certificate
        reason = "it contains no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        hint = "name a file of certificates in PEM form"
        raise UsageError(f"{name}: {file or folder} cannot be used: {reason}", hint=hint) from None


_in_force: Network | None = None


def use(network: Network) -> None:
    """Make `network` the settings for git and LFS in this process."""
    global _in_force  # noqa: PLW0603 - a worker gets it once, before its first job
    _in_force = network


def in_force() -> Network:
    """The network settings of this process."""
    return _in_force or Network()
