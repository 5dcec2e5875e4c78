"""What may befall deliveries on their way, for tests of whoever waits for them."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class HookFaults:
    """Each number is the share of deliveries that meet this fate, from 0 to 1; the same for the same `seed`.

    - `lost`: is never sent
    - `doubled`: is sent twice
    - `late`: is sent `seconds` later, or when the simulator is told to release what it holds
    - `reordered`: is sent after the next delivery to the same hook, or when it is told to release
    - `forged`: a stranger sends one as well, for the same repository, signed with another secret
    - `oversized`: grows over the size that Bitbucket sends, and is dropped
    """

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    reordered: float = 0.0
    forged: float = 0.0
    oversized: float = 0.0
    seconds: float = 5.0
    seed: int = 0

    def fates(self, number: int) -> frozenset[str]:
        """The fates that the delivery of this number meets."""
        shares = {
            "lost": self.lost, "doubled": self.doubled, "late": self.late, "reordered": self.reordered,
            "forged": self.forged, "oversized": self.oversized,
        }  # fmt: skip
        return frozenset(
            fate
            for fate, share in shares.items()
            if share > 0 and random.Random(f"{self.seed} {fate} {number}").random() < share
        )
