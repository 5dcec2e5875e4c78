"""Builds API clients and git logins from the configuration and secrets. Nothing else does."""

from mirror.connect.clients import (
    ask_git,
    budget_of,
    client_of,
    client_with,
    git_login,
    places_of,
    sign_ins_of,
)
from mirror.connect.network import network_of

__all__ = [
    "ask_git", "budget_of", "client_of", "client_with", "git_login", "network_of", "places_of", "sign_ins_of",
]  # fmt: skip
