"""The errors of API requests.

    ApiError (RequestFailed, 1)    any other failed response
    ├── Denied                     403 or 402: access denied; often with the missing scope.
    │                              401 where the credential is valid elsewhere
    ├── NotFound                   404: no such thing, or hidden from this credential
    ├── Gone                       410: retired by Bitbucket, or switched off
    └── BadAnswer                  not JSON, an unexpected structure, too large, a loop, a foreign host
        ├── ListShort              a list that kept changing, or has fewer entries than it says
        └── EntriesLost            a list with null or malformed entries
    Refused (12)                   401: the credential itself
    RateLimited (75)               the requests of this hour are used up
    ServerTrouble (75)             5xx, resets and timeouts that persisted
    └── MaybeMade                  the same after a POST: nobody knows whether it was carried out

None of them means "there are none".
"""

from __future__ import annotations

import re
from datetime import datetime

from mirror.errors import CredentialRefused, TryLater
from mirror.http.messages import TEXT_MAX, plain
from mirror.http.requests import RequestFailed
from mirror.model import JsonObject

__all__ = [
    "TEXT_MAX",
    "ApiError",
    "BadAnswer",
    "Denied",
    "Gone",
    "ListShort",
    "MaybeMade",
    "NotFound",
    "RateLimited",
    "Refused",
    "ServerTrouble",
    "plain",
]


class ApiError(RequestFailed):
    """Bitbucket answered with a failure."""


# Such a refusal is about where or how a client signs in, and applies to other credentials too.
_OF_PLACE = re.compile(r"\bIPs?\b|allow-?\s?list|white-?list|two-?step|2FA|2SV", re.IGNORECASE)
_OF_KIND = re.compile(r"token|credential|scope|authentication mechanism", re.IGNORECASE)
_OFF = re.compile(r"pipelines?\b.*\b(not (been )?enabled|disabled|switched off)", re.IGNORECASE)


class Denied(ApiError):
    """The credential may not read this. `required` and `granted` are scopes, if reported; `said` is the API's
    own message, None where something else answered."""

    required: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()
    said: str | None = None

    def is_for_kind(self, *, names_scope: bool) -> bool:
        """Whether possibly no credential of this kind can read this. `names_scope`: refusals for a missing
        scope name it."""
        if self.status not in (401, 403) or self.said is None or _OF_PLACE.search(self.said):
            return False
        return bool(self.required) or not names_scope or _OF_KIND.search(self.said) is not None

    @property
    def is_for_users_only(self) -> bool:
        """Whether it says that this kind of credential cannot do it."""
        return self.said is not None and "authentication mechanism" in self.said

    @property
    def says_switched_off(self) -> bool:
        """Whether it says that pipelines are not enabled."""
        return self.said is not None and _OFF.search(self.said) is not None


class NotFound(ApiError):
    """No such thing, or hidden from this credential."""


class Gone(ApiError):
    """Removed from the API. `announcement` is the URL of Bitbucket's notice, if reported."""

    announcement: str | None = None


class BadAnswer(ApiError):
    """The response is not what the API documents, and cannot be trusted."""


class ListShort(BadAnswer):
    """A list that was read twice and is still incomplete.

    `values` are the received entries, where it was requested as a whole; they may be stored.
    """

    values: tuple[JsonObject, ...] = ()


class EntriesLost(BadAnswer):
    """A complete list with entries that are null or no objects.

    `values` are the other entries. The lost ones may be any known entry that is not among them.
    """

    values: tuple[JsonObject, ...] = ()


class Refused(CredentialRefused):
    """The credential itself was refused. `said` is the server's own message, after a colon, and `endpoint`
    what was requested."""

    said: str = ""
    endpoint: str = ""


class RateLimited(TryLater):
    """No request may be made before `resume_at`."""

    resume_at: datetime | None = None


class ServerTrouble(TryLater):
    """The server or the network failed, also on retries."""


class MaybeMade(ServerTrouble):
    """A request that makes something may or may not have been carried out. Look for the thing before it is
    requested again."""
