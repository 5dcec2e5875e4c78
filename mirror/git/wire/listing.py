"""Listing the refs of a git server, and nothing else."""

from __future__ import annotations

from mirror.git.wire.client import GitLogin, HttpClient
from mirror.git.wire.errors import protocol_errors
from mirror.http.network import Network
from mirror.model import Refs


def list_refs(url: str, login: GitLogin | None, *, network: Network, silence_timeout: float = 60.0) -> Refs:
    """The refs that the server at `url` shows to `login`; `silence_timeout` is in seconds. Raises the errors
    of `mirror.git.failures`."""
    client = HttpClient(url, login=login, silence_timeout=silence_timeout, network=network)
    with protocol_errors():
        return client.list_refs() or Refs({})
