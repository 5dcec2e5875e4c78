"""What the service remembers of its jobs while it lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import get_args

from mirror.daemon.jobs import Kind
from mirror.errors import NoStore
from mirror.model import time_from_text
from mirror.store.reading.reader import Store


@dataclass
class State:
    """By job: since when one runs, when the last one began, and when the last one ended. `since` is when the
    service started, `trouble` why its listeners are closed where they should be open."""

    since: datetime
    trouble: str | None = None
    running: dict[Kind, datetime] = field(default_factory=dict)
    began: dict[Kind, datetime] = field(default_factory=dict)
    ended: dict[Kind, datetime] = field(default_factory=dict)

    def recall(self, store: Path) -> None:
        """Add what the run records say: when the last run of each kind that was not stopped began."""
        try:
            with Store.open(store) as opened:
                began = opened.history().began
        except NoStore:
            return
        self.began = {kind: time_from_text(began[kind]) for kind in get_args(Kind) if kind in began}
        self.ended = {**self.began, **self.ended}
