"""What Bitbucket's answers can mean when they are not what was asked for.

    ApiError (MirrorError, 1)      an answer that nothing below explains
    ├── Denied                     403 or 402: the credential may not; often with the missing scope.
    │                              401 where the credential is good elsewhere
    ├── NotFound                   404: no such thing, or hidden from this credential
    ├── Gone                       410: retired by Bitbucket, or switched off
    └── BadAnswer                  not JSON, not the promised shape, too large, a loop, a foreign host
        └── ListShort              a list that kept changing, or says it has more than came
    Refused (12)                   401: the credential itself
    RateLimited (75)               the hour's requests are used up
    ServerTrouble (75)             5xx, resets and silence that did not pass

None of them means "there are none".
"""

from __future__ import annotations

from datetime import datetime

from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.http.words import TEXT_MAX, plain
from mirror.model import JsonObject

__all__ = [
    "TEXT_MAX",
    "ApiError",
    "BadAnswer",
    "Denied",
    "Gone",
    "ListShort",
    "NotFound",
    "RateLimited",
    "Refused",
    "ServerTrouble",
    "plain",
]


class ApiError(MirrorError):
    """Bitbucket answered with a failure. `status` is 0 where there was no answer to speak of."""

    def __init__(self, message: str, *, status: int = 0, endpoint: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.endpoint = endpoint


class Denied(ApiError):
    """The credential may not read this. `required` and `granted` are scopes, where told."""

    required: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()


class NotFound(ApiError):
    """No such thing, or hidden from this credential."""


class Gone(ApiError):
    """Retired. `announcement` is the address of Bitbucket's own notice, where told."""

    announcement: str | None = None


class BadAnswer(ApiError):
    """The answer is not what the API promises, and cannot be trusted."""


class ListShort(BadAnswer):
    """A list that was read twice and still falls short.

    `values` is what came, where it was asked for as a whole; it may be kept, and is not all.
    """

    values: tuple[JsonObject, ...] = ()


class Refused(CredentialRefused):
    """The credential itself was refused. `said` is the server's own sentence, after a colon."""

    said: str = ""


class RateLimited(TryLater):
    """No request may be made before `resume_at`."""

    resume_at: datetime | None = None


class ServerTrouble(TryLater):
    """The server or the network failed, again and again."""
