"""From what went wrong to what a snapshot says of it."""

from __future__ import annotations

from mirror.bitbucket.failures import ApiError, Denied, Gone, NotFound
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.model import JsonObject, Part, PartState

# Access tokens have no scope for these at all.
NEVER_FOR_ACCESS_TOKENS = frozenset({"issues"})
ACCESS_TOKENS = frozenset({"workspace_access_token", "project_access_token", "repository_access_token"})


def part_of(error: MirrorError, *, part: str, credential_kind: str, absent_is_gone: bool) -> Part:
    """The state of a part that could not be collected because of `error`.

    `absent_is_gone`: a 404 means that the thing is not there (its parent is); else it may be hidden.
    Raises `error` itself where the credential as a whole was refused.
    """
    if isinstance(error, CredentialRefused):
        raise error
    if isinstance(error, Denied):
        if part in NEVER_FOR_ACCESS_TOKENS and credential_kind in ACCESS_TOKENS:
            return Part(PartState.UNAVAILABLE, {}, "access tokens have no scope for this")
        scope = ", ".join(error.required) or None
        return Part(PartState.DENIED, {}, error.message, scope)
    if isinstance(error, Gone) or (isinstance(error, NotFound) and absent_is_gone):
        return Part(PartState.GONE, {}, error.message)
    return Part(PartState.PARTIAL, {}, error.message)


def child_of(error: ApiError) -> JsonObject:
    """What `_parts` says of a child that could not be read; no times, so that nothing churns."""
    if isinstance(error, Denied):
        return {"state": str(PartState.DENIED), "scopes": list(error.required)}
    if isinstance(error, Gone | NotFound):
        return {"state": str(PartState.GONE)}
    return {"state": str(PartState.PARTIAL)}


def is_passing(error: BaseException) -> bool:
    """Whether asking again later may help."""
    return isinstance(error, TryLater)
