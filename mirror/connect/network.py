"""The network settings of the configuration and the environment, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mirror.auth.secrets import read_secret
from mirror.config.settings import Config
from mirror.http.network import Network, from_environment
from mirror.http.proxies import parse_proxy

BY_CONFIGURATION = "by the configuration"


async def network_of(config: Config, environment: Mapping[str, str]) -> Network:
    """The settings in force; those of the configuration win. Raises UsageError where a proxy, a secret or a
    certificate is unusable."""
    wanted = config.network
    network = from_environment(environment)
    if wanted.proxy == "none":
        network = replace(network, https_proxy=None, http_proxy=None, proxy_source=BY_CONFIGURATION)
    elif wanted.proxy != "from environment":
        password = ""
        if wanted.proxy_password is not None:
            password = (await read_secret(wanted.proxy_password, environment=environment)).reveal()
        proxy = parse_proxy(
            wanted.proxy, "network.proxy", username=wanted.proxy_user or "", password=password
        )
        network = replace(network, https_proxy=proxy, http_proxy=proxy, proxy_source=BY_CONFIGURATION)
    network = replace(
        network,
        no_proxy=network.no_proxy if wanted.no_proxy is None else wanted.no_proxy,
        ca_file=str(wanted.ca_file) if wanted.ca_file is not None else None,
        ip=wanted.ip,
        connect_timeout=wanted.connect_timeout.total_seconds(),
        user_agent=wanted.user_agent,
    )
    network.check()
    return network
