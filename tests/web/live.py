"""A service as its page sees it, with what a test sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from mirror.model.live import BudgetLeft, HooksState, NextJob, RunningJob

START = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


@dataclass
class Told:
    """The port `mirror.model.live.Live` over plain values."""

    jobs: list[RunningJob] = field(default_factory=list)
    next_jobs: list[NextJob] = field(default_factory=list)
    spent: list[BudgetLeft] = field(default_factory=list)
    hook_state: HooksState | None = None
    reasons: list[str] = field(default_factory=list)

    def since(self) -> datetime:
        return START

    def running(self) -> list[RunningJob]:
        return self.jobs

    def following(self) -> list[NextJob]:
        return self.next_jobs

    def budget(self) -> list[BudgetLeft]:
        return self.spent

    def hooks(self) -> HooksState | None:
        return self.hook_state

    def not_ready(self) -> list[str]:
        return self.reasons
