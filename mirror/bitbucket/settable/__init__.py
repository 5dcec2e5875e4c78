"""What Bitbucket lets anyone set, and what it does not, with the reason.

`settable.json` comes from the request schemas of Atlassian's description (`tests/simulator/settable.py` makes
it and compares it), not from what this program requests or sends. So what compares a workspace with its
restored copy cannot share their gaps.
"""

from mirror.bitbucket.settable.fields import settable_fields
from mirror.bitbucket.settable.plain import ACCOUNT, NO_UUID, plain_fields
from mirror.bitbucket.settable.things import THINGS, UNSEEN, UNSEEN_FIELDS, Thing

__all__ = [
    "ACCOUNT",
    "NO_UUID",
    "THINGS",
    "UNSEEN",
    "UNSEEN_FIELDS",
    "Thing",
    "plain_fields",
    "settable_fields",
]
