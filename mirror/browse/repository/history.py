"""The commits that a tip leads to, walked as far as somebody looks."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from mirror.git.comparison import CommitInfo

# A history is walked so far. The histories that are kept have so many commits in all, of 300 bytes each.
COMMITS_MAX = 50_000
_KEPT_COMMITS_MAX = 150_000
# A commit may be so much older, by its own clock, than those that it leads to.
_CLOCKS_DIFFER = 86_400

Read = Callable[[str], CommitInfo]


class History:
    """The commits of one tip, the newest first by their own time. Threads may share it.

    Each method takes `read`, which gives a commit or raises.
    """

    def __init__(self, tip: str) -> None:
        self._lock = Lock()
        self._tip = tip
        self._order: list[str] = []
        self._place: dict[str, int] = {}
        self._queue: list[tuple[int, str, tuple[str, ...]]] = []
        self._seen: set[str] = set()

    def __len__(self) -> int:
        """How many commits are known, 100 at least: an empty one takes memory, too."""
        return max(100, len(self._order))

    def page(self, first: int, count: int, read: Read) -> tuple[list[str], bool]:
        """`count` commits from the one at `first`, and whether there are more (up to COMMITS_MAX)."""
        with self._lock:
            self._walk(min(first + count + 1, COMMITS_MAX), read)
            return self._order[first : first + count], len(self._order) > first + count

    def has(self, commit: CommitInfo, most: int, read: Read) -> bool:
        """Whether `commit` is among the first `most`."""
        with self._lock:
            step = 500
            while commit.id not in self._place:
                before = len(self._order)
                if before >= most or (before and self._oldest(read) < commit.time - _CLOCKS_DIFFER):
                    return False
                self._walk(min(before + step, most), read)
                if len(self._order) == before:
                    return False
            return True

    def _oldest(self, read: Read) -> int:
        return read(self._order[-1]).time

    def _walk(self, count: int, read: Read) -> None:
        if not self._seen:
            self._push(read(self._tip))
        while self._queue and len(self._order) < count:
            # Read its parents first: where one is damaged, the next look begins here again.
            _, identifier, parents = self._queue[0]
            found = [read(parent) for parent in parents if parent not in self._seen]
            heapq.heappop(self._queue)
            self._place[identifier] = len(self._order)
            self._order.append(identifier)
            for one in found:
                self._push(one)

    def _push(self, found: CommitInfo) -> None:
        if found.id not in self._seen:
            self._seen.add(found.id)
            heapq.heappush(self._queue, (-found.time, found.id, found.parents))


class Histories:
    """The histories that were looked at lately. Threads may share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[tuple[Path, str], History] = OrderedDict()

    def of(self, mirror: Path, tip: str) -> History:
        """The history of a tip of the mirror at a path."""
        with self._lock:
            found = self._known.setdefault((mirror, tip), History(tip))
            self._known.move_to_end((mirror, tip))
            walked = sum(len(one) for one in self._known.values())
            while walked > _KEPT_COMMITS_MAX and len(self._known) > 1:
                walked -= len(self._known.popitem(last=False)[1])
            return found
