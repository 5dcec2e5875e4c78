"""One thing that was looked at, and all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mirror.errors import MirrorError, TryLater, worst
from mirror.model import JsonObject

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at. `code` is the exit code that its failure stands for."""

    name: str
    state: State
    text: str
    remedy: str | None = None
    code: int = 1

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Report:
    """All checks."""

    checks: tuple[Check, ...]

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """The codes of what failed."""
        return tuple(sorted({check.code for check in self.checks if check.state == "fail"}))

    @property
    def exit_code(self) -> int:
        """The exit code."""
        return worst(self.exit_codes)

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {
            "schema": 1,
            "exit_code": self.exit_code,
            "exit_codes": list(self.exit_codes),
            "checks": [check.to_json() for check in self.checks],
        }


def failed(name: str, error: MirrorError, remedy: str | None = None) -> Check:
    """A check that ended with an error. One that cannot be made now is a warning."""
    state: State = "warn" if isinstance(error, TryLater) else "fail"
    text = f"could not be checked: {error.message}" if isinstance(error, TryLater) else error.message
    return Check(name, state, text, remedy or error.hint, error.exit_code)
