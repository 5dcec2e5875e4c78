"""The errors of requests to a Forgejo.

    RequestFailed (MirrorError, 1)   any other failed response; `status` says which
    Refused (12)                     401: the token
    ServerTrouble (75)               resets, timeouts and rate limits that persisted
    MaybeMade (75)                   the same after a POST: nobody knows whether it was carried out

The first and the last are the same for every API.
"""

from __future__ import annotations

from mirror.errors import CredentialRefused, TryLater


class Refused(CredentialRefused):
    """Forgejo refused the token."""


class ServerTrouble(TryLater):
    """The network failed, also on retries, or the server asks to wait."""
