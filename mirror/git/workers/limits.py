"""How much memory a process may use to take packs in. What needs more goes through files."""

from __future__ import annotations

from mirror.git.pack import receiver, resolver, scanner

MEMORY = 256 << 20


def bound(memory: int) -> None:
    """Let this process hold no more than about `memory` bytes of what packs are and hold.

    The interpreter itself comes on top of that, and what every pack takes however small it is.
    """
    resolver.HELD_MAX = memory * 3 // 16
    resolver.LARGE = memory // 16
    scanner.IN_MEMORY_MAX = memory // 32
    receiver.TOGETHER = max(1, memory // 256)
