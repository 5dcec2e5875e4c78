"""Many who read or one who writes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class ReadWriteLock:
    """A lock that any number of readers share, and that a writer has alone. Who writes goes first."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writers_waiting = 0
        self._is_writing = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Nobody writes inside."""
        with self._condition:
            while self._is_writing or self._writers_waiting:
                self._condition.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else reads or writes inside."""
        with self._condition:
            self._writers_waiting += 1
            while self._is_writing or self._readers:
                self._condition.wait()
            self._writers_waiting -= 1
            self._is_writing = True
        try:
            yield
        finally:
            with self._condition:
                self._is_writing = False
                self._condition.notify_all()
