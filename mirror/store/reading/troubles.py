"""What run records say of a repository's troubles: failures in a row, and refs that upstream took away."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.model import JsonObject

# A failure streak of this length is reported.
FAILURES_REPORTED = 3


@dataclass(frozen=True)
class FailureStreak:
    """The last `runs` runs that tried a repository failed, the first at `since`, the last for `reason`."""

    runs: int
    since: str
    reason: str

    @property
    def is_reported(self) -> bool:
        """Whether the streak is long enough to report."""
        return self.runs >= FAILURES_REPORTED

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class LostRefs:
    """How often upstream rewrote or removed a ref, when last, and the latest ones. Their old values are
    kept."""

    rewritten: int = 0
    removed: int = 0
    last: str | None = None
    latest: tuple[JsonObject, ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {**self.__dict__, "latest": list(self.latest)}
