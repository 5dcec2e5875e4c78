"""Connections for git and LFS, by urllib3. They are safe to share between threads."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Mapping
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Retry, Timeout

from mirror.http.network import Network, in_force
from mirror.http.proxies import Proxy

# No retries and no redirects: the callers decide about both.
_ONCE = Retry(total=False, redirect=False, raise_on_redirect=False)


class _TimedHead:
    """A connection that limits how long the head of a response takes: the read timeout for its first byte,
    and `head_timeout` seconds more. The read timeout alone never ends a head that arrives byte by byte."""

    head_timeout: float

    def getresponse(self: Any) -> Any:
        """The response with its head read. Raises TimeoutError."""
        late = threading.Event()
        sock = self.sock

        def shut() -> None:
            late.set()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer((self.timeout or 0.0) + self.head_timeout, shut)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
            if late.is_set():
                raise TimeoutError("the head of the response does not end")


@functools.cache
def _pool_classes(head_timeout: float) -> dict[str, type[HTTPConnectionPool]]:
    """The pool classes by scheme whose connections have this `head_timeout`."""
    limits = {"head_timeout": head_timeout}
    http = type("_Http", (_TimedHead, HTTPConnection), limits)
    https = type("_Https", (_TimedHead, HTTPSConnection), limits)
    return {
        "http": type("_HttpPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("_HttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


class Pools:
    """Sends requests as `network` says. It keeps up to `connections` open to each server."""

    def __init__(self, network: Network, connections: int = 1) -> None:
        self.network = network
        self._connections = connections
        self._managers: dict[tuple[Proxy | None, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: Any, silence: float
    ) -> urllib3.BaseHTTPResponse:
        """One request, its answer not read yet. `silence` is in seconds without a byte. Raises what
        urllib3 raises, and UsageError for certificates that cannot be used."""
        timeout = Timeout(connect=min(self.network.connect_timeout, silence), read=silence)
        return self._manager(url).request(
            method,
            url,
            headers=dict(headers),
            body=body,
            preload_content=False,
            redirect=False,
            retries=_ONCE,
            timeout=timeout,
            decode_content=True,
        )

    def clear(self) -> None:
        """Close the connections."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    def _manager(self, url: str) -> urllib3.PoolManager:
        proxy, scheme = self.network.proxy_for(url), url.partition(":")[0].lower()
        with self._lock:
            if (proxy, scheme) not in self._managers:
                self._managers[proxy, scheme] = self._make(proxy, scheme)
            return self._managers[proxy, scheme]

    def _make(self, proxy: Proxy | None, scheme: str) -> urllib3.PoolManager:
        options: dict[str, Any] = {"maxsize": self._connections, "cert_reqs": "CERT_REQUIRED"}
        if scheme == "https":
            options["ssl_context"] = self.network.ssl_context()
        if self.network.source_address is not None:
            options["source_address"] = (self.network.source_address, 0)
        manager: urllib3.PoolManager
        if proxy is None:
            manager = urllib3.PoolManager(**options)
            manager.pool_classes_by_scheme = _pool_classes(self.network.head_timeout)
            return manager
        signed = {"Proxy-Authorization": proxy.authorization} if proxy.authorization is not None else {}
        if proxy.scheme == "https":
            options["proxy_ssl_context"] = self.network.ssl_context()
        manager = urllib3.ProxyManager(proxy.url, proxy_headers=signed, **options)
        manager.pool_classes_by_scheme = _pool_classes(self.network.head_timeout)
        return manager


_shared: dict[Network, Pools] = {}


def shared() -> Pools:
    """The pools for this process's network settings; connections stay open between jobs."""
    network = in_force()
    if network not in _shared:
        _shared[network] = Pools(network)
    return _shared[network]
