"""A store that is looked at again and again: what did not change is not read again."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mirror.browse.folder_facts import KeptFacts
from mirror.browse.runs import RunLog, RunRow
from mirror.browse.status import Status, status
from mirror.store.reading.change_marks import store_mark
from mirror.store.reading.reader import Store


@dataclass(frozen=True)
class Seen:
    """What was seen of a store at once: its status, and the bytes in it by the day they were written (days
    since 1970)."""

    status: Status
    bytes_by_day: dict[int, int]


class Watch:
    """Looks at the store at `path`. Safe to use from several threads; one reads while the others wait."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._facts = KeptFacts()
        self._runs = RunLog()
        self._seen: tuple[object, Seen] | None = None

    def look(self) -> Seen:
        """How the store is now. Raises NoStore and StoreDamaged."""
        with self._lock:
            mark = store_mark(self.path)  # first: what is written meanwhile is seen the next time
            if self._seen is not None and self._seen[0] == mark:
                return self._seen[1]
            found = status(self.path, facts=self._facts)
            by_day: Counter[int] = Counter()
            for usage in self._facts.usages():
                by_day.update(usage.by_day)
            self._facts.forget_others()
            seen = Seen(found, dict(by_day))
            # What is damaged is read again each time: somebody may mend it in place.
            self._seen = (mark, seen) if not found.damage else None
            return seen

    def runs(self, most: int) -> list[RunRow]:
        """The newest `most` runs. Raises NoStore and StoreDamaged."""
        with self._lock, Store.open(self.path) as store:
            return self._runs.rows(store, most)
