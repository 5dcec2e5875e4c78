"""What exit codes mean, for people."""

from __future__ import annotations

_MEANINGS = {
    0: "all is well",
    1: "something failed",
    2: "the configuration or command line needs correcting",
    3: "incomplete: what was available is stored, the rest is listed above",
    4: "damage was found",
    5: "so much is gone upstream that prune stops until mirror accept-loss",
    11: "something was locked by another run",
    12: "a credential was refused",
    75: "a rate limit or the network stood in the way: try again later",
    130: "it was stopped",
}


def meaning_of(code: int) -> str:
    """The meaning of an exit code in a few words."""
    return _MEANINGS.get(code, "something failed")
