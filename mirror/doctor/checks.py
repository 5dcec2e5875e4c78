"""The result of one check, and the report of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mirror.errors import MirrorError, Result, TryLater
from mirror.model import JsonObject

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """The result of one check. `code` is the exit code if it failed."""

    name: str
    state: State
    text: str
    remedy: str | None = None
    code: int = 1

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Report(Result):
    """The results of all checks."""

    checks: tuple[Check, ...]

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """The exit codes of the failed checks."""
        return tuple(sorted({check.code for check in self.checks if check.state == "fail"}))

    def to_json(self) -> JsonObject:
        """As `--json` prints it."""
        return {
            "schema": 1,
            **self.codes_to_json(),
            "checks": [check.to_json() for check in self.checks],
        }


def failed(name: str, error: MirrorError, remedy: str | None = None) -> Check:
    """The result of a check that ended with an error; a warning where it can only not be made now."""
    state: State = "warn" if isinstance(error, TryLater) else "fail"
    text = f"could not be checked: {error.message}" if isinstance(error, TryLater) else error.message
    return Check(name, state, text, remedy or error.hint, error.exit_code)
