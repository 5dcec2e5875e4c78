"""The report of a restore to a forge: the outcome of each step, and why the rest does not come back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from mirror.errors import MirrorError, Result
from mirror.model import JsonObject
from mirror.restore.plan.shown import loss_lines, losses_to_json
from mirror.restore.plan.steps import Loss, Step


class Outcome(StrEnum):
    """The outcome of a step."""

    MADE = "made"
    FOUND = "found"  # it is there already, as wanted
    CHANGED = "changed"
    DIFFERS = "differs"  # it is there, is different, and was left
    REFUSED = "refused"
    UNKNOWN = "unknown"  # it may have been made, and there is no way to look
    NOT_TRIED = "not tried"  # what it needs is not there
    LOST = "lost"  # it does not come back, and that is nobody's failure


# For people, the outcome of so many steps. What is lost is listed by itself.
_COUNTED = {
    Outcome.MADE: "made", Outcome.CHANGED: "changed", Outcome.FOUND: "already there",
    Outcome.DIFFERS: "there and different", Outcome.REFUSED: "refused",
    Outcome.UNKNOWN: "not known to be there", Outcome.NOT_TRIED: "not tried",
}  # fmt: skip
# A restore with one of these is incomplete.
OWED = frozenset({Outcome.DIFFERS, Outcome.REFUSED, Outcome.UNKNOWN, Outcome.NOT_TRIED})


@dataclass(frozen=True)
class Entry:
    """One step: its outcome, the status that refused it (0: none did), and what there is to say."""

    key: str
    kind: str
    label: str
    outcome: Outcome
    status: int = 0
    message: str = ""
    code: int = 0

    @classmethod
    def of(cls, step: Step, outcome: Outcome, message: str = "", *, status: int = 0, code: int = 0) -> Entry:
        """The entry of a step. `code` is an exit code beside that of the outcome."""
        return cls(step.key, step.kind, step.label, outcome, status, message, code)

    def to_json(self) -> JsonObject:
        """The JSON in results."""
        return {
            "key": self.key, "kind": self.kind, "label": self.label, "outcome": str(self.outcome),
            "status": self.status or None, "message": self.message or None,
        }  # fmt: skip


@dataclass(frozen=True)
class Report(Result):
    """The result of a restore to a forge.

    `problems` are those of repositories that could not be planned, each with an exit code. `stopped` is what
    ended the restore early; the same command goes on from there. `requests` are those to the API.
    """

    target: str
    entries: tuple[Entry, ...]
    losses: tuple[Loss, ...]
    problems: tuple[tuple[int, str], ...] = ()
    requests: int = 0
    seconds: float = 0.0
    stopped: MirrorError | None = field(default=None, compare=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many steps had each outcome."""
        return dict(Counter(str(one.outcome) for one in self.entries))

    @property
    def owed(self) -> tuple[Entry, ...]:
        """The entries that make the restore incomplete."""
        return tuple(one for one in self.entries if one.outcome in OWED)

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies."""
        codes = {code for code, _ in self.problems} | {one.code for one in self.entries if one.code}
        codes |= {3} if self.owed else set()
        codes |= {self.stopped.exit_code} if self.stopped is not None else set()
        return tuple(sorted(codes))

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "target": self.target,
            **self.codes_to_json(),
            "stopped": None if self.stopped is None else self.stopped.message,
            "requests": self.requests,
            "seconds": round(self.seconds, 1),
            "counts": self.counts,
            "entries": [one.to_json() for one in self.entries],
            "losses": losses_to_json(self.losses),
            "problems": [{"code": code, "text": text} for code, text in self.problems],
        }

    def lines(self, *, is_summed: bool = False) -> list[str]:
        """The report for people, without its headline; with `is_summed` what does not come back is counted,
        as the plan has listed it already."""
        counts = self.counts
        texts = [f"{counts[one]} {text}" for one, text in _COUNTED.items() if counts.get(one)]
        lines = [f"  {', '.join(texts)}"] if texts else []
        lines += [f"  problem: {text}" for _, text in self.problems]
        for one in self.owed:
            status = f" ({one.status})" if one.status else ""
            lines.append(f"  {one.outcome}{status}: {one.label}: {one.message}")
        noted = [one for one in self.entries if one.message and one.outcome not in OWED]
        lines += [f"  note: {one.label}: {one.message}" for one in noted]
        return lines + loss_lines(self.losses, is_summed=is_summed)
