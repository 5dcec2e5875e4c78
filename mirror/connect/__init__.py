"""Configuration and secrets → a client of the API, and logins for git: the one place."""

from mirror.connect.clients import client_of, git_login, sign_ins_of
from mirror.connect.network import network_of

__all__ = ["client_of", "git_login", "network_of", "sign_ins_of"]
