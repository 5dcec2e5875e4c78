"""What Bitbucket's answers can mean when they are not what was asked for.

    ApiError (MirrorError, 1)      an answer that nothing below explains
    ├── Denied                     403 or 402: the credential may not; often with the missing scope.
    │                              401 where the credential is good elsewhere
    ├── NotFound                   404: no such thing, or hidden from this credential
    ├── Gone                       410: retired by Bitbucket, or switched off
    └── BadAnswer                  not JSON, not the promised shape, too large, a loop, a foreign host
        ├── ListShort              a list that kept changing, or says it has more than came
        └── EntriesLost            a list with entries that are none
    Refused (12)                   401: the credential itself
    RateLimited (75)               the hour's requests are used up
    ServerTrouble (75)             5xx, resets and silence that did not pass

None of them means "there are none".
"""

from __future__ import annotations

import re
from datetime import datetime

from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.http.messages import TEXT_MAX, plain
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


# A refusal in these words is about where or how a client signs in; another credential meets it, too.
_OF_PLACE = re.compile(r"\bIPs?\b|allow-?\s?list|white-?list|two-?step|2FA|2SV", re.IGNORECASE)
_OF_KIND = re.compile(r"token|credential|scope|authentication mechanism", re.IGNORECASE)
_OFF = re.compile(r"pipelines?\b.*\b(not (been )?enabled|disabled|switched off)", re.IGNORECASE)


class Denied(ApiError):
    """The credential may not read this. `required` and `granted` are scopes, where told; `said` is the
    API's own message, None where something else answered."""

    required: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()
    said: str | None = None

    def is_for_kind(self, *, names_scope: bool) -> bool:
        """Whether it may be that no credential of this kind can have this. `names_scope`: for want of a
        scope, which such a refusal names."""
        if self.status not in (401, 403) or self.said is None or _OF_PLACE.search(self.said):
            return False
        return bool(self.required) or not names_scope or _OF_KIND.search(self.said) is not None

    @property
    def says_switched_off(self) -> bool:
        """Whether it says that pipelines are not switched on."""
        return self.said is not None and _OFF.search(self.said) is not None


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


class EntriesLost(BadAnswer):
    """A whole list some of whose entries are null or no objects.

    `values` are the others. What is lost may be any that one knows and that is not among them.
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
