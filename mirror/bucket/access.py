"""How a bucket is reached: endpoint, keys and network, as one plain value."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mirror.http.network import Network
from mirror.http.origins import is_loopback, origin
from mirror.http.proxies import Proxy

# A request is sent again so often, and for no longer than so many seconds.
RETRIES = 6
RETRY_SECONDS = 180
PAUSE_MAX = 15.0
# How long a server may say nothing, in seconds. An upload's part must be sent within it.
SILENCE = 300.0
# The longest download of one object.
LONGEST = timedelta(hours=48)
DEFAULT_REGION = "us-east-1"
# Where machines in clouds get their credentials; never by a proxy.
_METADATA = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "metadata.google.internal", "localhost")
# A proxy that nobody runs: the way to an endpoint that has none avoids it, the way to any other host ends.
_NOWHERE = "http://127.0.0.1:0"
_ANYWHERE = "*,0.0.0.0/0,::/0"


@dataclass(frozen=True)
class Access:
    """What a bucket needs to be reached, secrets included.

    `endpoint` is a URL without the bucket; None for the provider's own. `key` and `secret` are an S3 key
    (`token`: its session token), or an Azure account and its key, or (`secret` alone) the JSON key of a
    Google service account. Without them the provider's usual chain applies: environment variables, then what
    the cloud gives its machines. `source` says for messages where the key is from.
    """

    endpoint: str | None = None
    region: str = DEFAULT_REGION
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    network: Network = field(default_factory=Network)
    silence: float = SILENCE
    source: str = ""

    def url(self, scheme: str) -> str:
        """Where requests go, for messages and for the choice of a proxy."""
        if self.endpoint is not None:
            return self.endpoint
        return {
            "s3": f"https://s3.{self.region}.amazonaws.com",
            "gs": "https://storage.googleapis.com",
            "az": f"https://{self.key or 'account'}.blob.core.windows.net",
        }[scheme]

    def proxy(self, scheme: str) -> Proxy | None:
        """The proxy on the way there."""
        return self.network.proxy_for(self.url(scheme))

    def client_options(self, scheme: str) -> Any:
        """Options of obstore's HTTP client."""
        where = origin(self.url(scheme))
        options: dict[str, Any] = {
            "allow_http": where[0] == "http" and is_loopback(where),
            "connect_timeout": timedelta(seconds=self.network.connect_timeout),
            "read_timeout": timedelta(seconds=self.silence),
            "timeout": LONGEST,
            "user_agent": self.network.api_agent,
            **self._way(scheme, where[1]),
        }
        if authorities := authorities_of(self.network):
            options["root_certificate"] = authorities
        return options

    def _way(self, scheme: str, host: str) -> dict[str, str]:
        """The proxy of obstore's client. It is always told one, or it would take that of the environment."""
        proxy = self.proxy(scheme)
        if proxy is not None:
            return {
                "proxy_url": proxy_url(proxy),
                "proxy_excludes": ",".join([*self.network.no_proxy, *_METADATA]),
            }
        return {"proxy_url": _NOWHERE, "proxy_excludes": self._reachable(scheme, host)}

    def _reachable(self, scheme: str, host: str) -> str:
        """The hosts that obstore's client may reach without a proxy. It follows redirects, and takes the
        header Authorization off them, but no session token: so only the endpoint, where that will do."""
        if self.key is not None and scheme != "gs":
            return host
        if scheme != "s3":
            return _ANYWHERE  # tokens come from elsewhere, and are in that header
        if importlib.util.find_spec("boto3") is not None:
            return host  # it finds the keys, by connections of its own
        return ",".join([host, *_METADATA, "sts.amazonaws.com", f"sts.{self.region}.amazonaws.com"])

    def retry_config(self) -> Any:
        """How obstore repeats requests that failed for the network's or the server's sake."""
        pause = self.network.pause
        return {
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {
                "init_backoff": timedelta(seconds=pause),
                "max_backoff": timedelta(seconds=min(PAUSE_MAX, pause * PAUSE_MAX)),
                "base": 2,
            },
        }


def proxy_url(proxy: Proxy) -> str:
    """The URL of a proxy with its user name and password."""
    if proxy.authorization is None:  # asking registers the password as a secret
        return proxy.url
    user = f"{quote(proxy.username, safe='')}:{quote(proxy.password, safe='')}@"
    return proxy.url.replace("://", f"://{user}", 1)


def authorities_of(network: Network) -> bytes:
    """The certificates in PEM form that are trusted besides the system's; empty where there are none."""
    return b"\n".join(Path(one).read_bytes() for one in network.authority_files())
