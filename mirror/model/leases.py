"""The requests of an hour, and the port of whoever lends them.

Bitbucket counts by identity and group of resources over any 60 minutes. A lender counts what it lends, so
that all who share it stay together within the limit, whatever becomes of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.model.ports import UseJournal


@dataclass(frozen=True)
class Lease:
    """`requests` that may be sent before `until` (by the borrower's monotonic clock).

    It may lend none; then asking once more makes sense in `again` seconds. `id` is the lender's.
    """

    requests: int
    until: float = math.inf
    again: float = 0.0
    id: str = ""


@dataclass(frozen=True)
class Hour:
    """The hour of an identity and group, as far as it is known without asking anybody.

    `used` counts the requests of the last hour, lent ones included, and `limit` is how many are allowed.
    `free` are those that the lender may lend now: less than none where others may have them and this
    borrower may not. Where it has none, asking makes sense in `again` seconds. For so many seconds nothing
    may be sent that is `blocked`.
    """

    used: int
    limit: int
    free: int
    again: float = 0.0
    blocked: float = 0.0


class Leases(Protocol):
    """Lends requests: within this process, or to several hosts.

    Only `lease` and `give_back` may wait; the others say what is known here, and take what there is to tell.
    """

    async def lease(self, identity: str, group: str, want: int, *, spares: bool) -> Lease:
        """Borrow about `want` requests. One who `spares` leaves a quarter of the hour's limit to others.

        Raises TryLater where the lender cannot be reached: nothing may be sent then.
        """
        ...

    async def give_back(self, identity: str, group: str, lease: Lease, unused: int) -> None:
        """So many requests of a lease were not sent, and never will be. Never raises."""
        ...

    def hour(self, identity: str, group: str, *, spares: bool) -> Hour:
        """What is known of an hour, for one who `spares` or not."""
        ...

    def hours(self) -> Sequence[tuple[str, str, int, int]]:
        """Of every identity and group: the requests of the last hour, and the limit. Any thread may ask."""
        ...

    def learn(self, identity: str, group: str, *, limit: int | None, remaining: int | None) -> None:
        """A response told the limit, and how many requests of it remain."""
        ...

    def block(self, identity: str, group: str, seconds: float) -> None:
        """A request was refused: nobody may send one for so many seconds."""
        ...

    def allow(self, *, reserve: int, limit: int) -> None:
        """Leave `reserve` requests of each hour unused; `limit` is the assumed limit until one is told."""
        ...

    def share(self, journal: UseJournal) -> None:
        """Count what other processes of this host send, where this lender does not lend to them."""
        ...

    def settle(self) -> None:
        """A run is over: tell other processes what is not told yet."""
        ...
