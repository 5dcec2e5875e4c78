"""Connections for the API, by httpx."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from mirror.http.network import Network
from mirror.http.proxies import Proxy


class NetworkTransport(httpx.AsyncBaseTransport):
    """Sends each request as `network` says; the environment is ignored."""

    def __init__(self, network: Network, limits: httpx.Limits) -> None:
        self._network = network
        self._limits = limits
        self._transports: dict[tuple[Proxy | None, str], httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises what httpx raises, and UsageError for certificates that cannot be
        used."""
        scheme = request.url.scheme
        proxy = self._network.proxy_for(str(request.url))
        if (proxy, scheme) not in self._transports:
            self._transports[proxy, scheme] = self._make(proxy, scheme)
        return await self._transports[proxy, scheme].handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        for transport in self._transports.values():
            await transport.aclose()

    def _make(self, proxy: Proxy | None, scheme: str) -> httpx.AsyncHTTPTransport:
        # Plain http needs no certificates: the bare context trusts nobody and loads nothing.
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context = self._network.ssl_context() if scheme == "https" else bare
        return httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            limits=self._limits,
            local_address=self._network.source_address,
            proxy=self._proxy(proxy) if proxy is not None else None,
        )

    def _proxy(self, proxy: Proxy) -> httpx.Proxy:
        options: dict[str, Any] = {}
        if proxy.authorization is not None:
            options["headers"] = {"Proxy-Authorization": proxy.authorization}
        if proxy.scheme == "https":
            options["ssl_context"] = self._network.ssl_context()
        return httpx.Proxy(proxy.url, **options)
