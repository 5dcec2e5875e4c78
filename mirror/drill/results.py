"""The findings of a drill, as a run record and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mirror import __version__
from mirror.errors import worst_first
from mirror.model import JsonObject, Problem, Run
from mirror.restore.comparison.differences import Comparison
from mirror.restore.comparison.own import Contradiction

# A record keeps at most so many lines of each kind; what the command prints has all.
_RECORDED_MAX = 50


@dataclass
class Seconds:
    """How long the parts of a drill took, and how long the restore would take under the limits of the real
    Bitbucket (`real`) with so many `requests`."""

    restore: float = 0.0
    backup: float = 0.0
    compare: float = 0.0
    real: float = 0.0
    requests: int = 0

    def add(self, other: Seconds) -> None:
        """Add those of another workspace."""
        for name, value in other.__dict__.items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> JsonObject:
        """The JSON in results."""
        return {name: round(value, 1) for name, value in self.__dict__.items()}


@dataclass
class DrillResult:
    """The result for all workspaces. `losses` counts what the plans say that does not come
    back, by reason and kind."""

    comparison: Comparison = field(default_factory=Comparison)
    contradictions: list[Contradiction] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    losses: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: Seconds = field(default_factory=Seconds)

    def lines(self) -> list[str]:
        """Every finding in one line, for people."""
        return [*(one.line for one in self.contradictions), *(one.line for one in self.comparison.found)]

    def run(self, identifier: str, selectors: Sequence[str], started: datetime, ended: datetime) -> Run:
        """The run record."""
        problems = []
        if self.comparison.found:
            text = f"{len(self.comparison.found)} difference(s) between the original and its restored copy"
            problems.append(Problem(4, text))
        if self.contradictions:
            text = f"{len(self.contradictions)} thing(s) that a snapshot says it has are not in it"
            problems.append(Problem(4, text))
        # Of many the record keeps the worst: its exit code is made of them.
        problems += dict.fromkeys(self.problems)
        problems.sort(key=lambda one: worst_first(one.code))
        facts = {
            "selectors": list(selectors),
            "compared": dict(self.comparison.counts),
            "seconds": self.seconds.to_json(),
            "findings": self.lines()[:_RECORDED_MAX],
            "not_back": self._not_back(),
        }
        return Run(
            identifier,
            "drill",
            started,
            ended,
            __version__,
            problems=tuple(problems[:_RECORDED_MAX]),
            facts=facts,
        )

    def _not_back(self) -> list[JsonObject]:
        return [
            {"why": why, "kind": kind, "count": count}
            for (why, kind), count in sorted(self.losses.items())[:_RECORDED_MAX]
        ]

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints beside the record."""
        return {
            **self.comparison.to_json(),
            "contradictions": [one.to_json() for one in self.contradictions],
        }
