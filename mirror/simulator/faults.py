"""Faults that a test orders: the next answers to matching requests go wrong in a chosen way."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

FaultKind = Literal[
    "status", "html", "truncate", "reset", "slow", "redirect", "loop", "shrink", "cut_pack", "corrupt_pack"
]


@dataclass(frozen=True)
class Fault:
    """The next `times` answers to a method and path like `match` (`GET /2.0/repositories/*`) go
    wrong: a `status` (with optional headers), an `html` page, a `truncate`d body, a `reset`
    connection, a `slow` answer of `seconds`, a `redirect` to `location`, a list whose `next` is a
    `loop`, a list that `shrink`s by its first entry, a pack that is `cut_pack` after `after` bytes
    or has a bit flipped there (`corrupt_pack`). `skip` matching requests are let through first.
    """

    match: str
    kind: FaultKind = "status"
    status: int = 500
    times: int = 1
    skip: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    location: str = ""
    after: int = 64


@dataclass
class _Standing:
    fault: Fault
    skip: int
    left: int


@dataclass
class Faults:
    """The faults that stand, in the order they were ordered."""

    _standing: list[_Standing] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def order(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._standing.append(_Standing(fault, fault.skip, fault.times))

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, used up once."""
        with self._lock:
            for one in self._standing:
                if one.left > 0 and fnmatchcase(f"{method} {path}", one.fault.match):
                    if one.skip > 0:
                        one.skip -= 1
                        continue
                    one.left -= 1
                    return one.fault
        return None

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._standing.clear()
