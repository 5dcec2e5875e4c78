"""The errors that users can meet, and their exit codes.

    MirrorError                1   failed
    ├── UsageError             2   the command cannot be done as given
    │   └── ConfigError        2   the configuration has faults: all of them, with their lines
    ├── DamageFound            4   verification found damage
    ├── NoStore               10   no store at this path
    ├── Locked                11   another process holds the lock
    ├── CredentialRefused     12   Bitbucket refused the credential
    ├── TryLater              75   rate limit or network: try again later
    └── Cancelled            130   stopped by a user or by the service manager

3 (incomplete) and 5 (the mass-loss brake) are never raised: what was available is stored, and the run's
entries and problems report the rest.

Rooms raise these, or subclasses that are defined next to the code that raises them. Only `cli` turns them
into exit codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from mirror import __version__

# Where several codes apply, the first one in this order is the exit code of the process.
PRECEDENCE = (130, 12, 2, 10, 11, 4, 5, 1, 3, 75, 0)


class MirrorError(Exception):
    """A failure that is reported to the user in one or two sentences.

    `hint` says what to do about it. Neither text may contain a secret.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MirrorError):
    """The command cannot be done as given."""

    exit_code = 2


def missing_extra(extra: str, why: str) -> UsageError:
    """The error for a library that an extra of this program installs."""
    return UsageError(
        f"{why}, which is not installed",
        hint=f"install Mirror with the extra `{extra}` (docs/install.md): in a checkout pip install"
        f" '.[{extra}]', else its wheel: 'mirror-{__version__}-py3-none-any.whl[{extra}]'",
    )


@dataclass(frozen=True)
class Fault:
    """One fault of a configuration file.

    `line` counts from 1 and is None where the file has no line for it (a missing top-level key); `key` is the
    dotted path, as in `workspaces[0].credential.kind`.
    """

    line: int | None
    key: str
    problem: str
    remedy: str

    def text(self, path: str) -> str:
        """The fault as one line, in the form `file:line: …` that editors understand."""
        place = f"{path}:{self.line}" if self.line is not None else path
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {key}{self.problem}; {self.remedy}"


class ConfigError(UsageError):
    """The configuration has faults; all of them are in `faults`."""

    def __init__(self, path: str, faults: Iterable[Fault]) -> None:
        self.path = path
        self.faults = tuple(faults)
        lines = "\n".join(fault.text(path) for fault in self.faults)
        count = len(self.faults)
        super().__init__(f"{path} has {count} fault{'s' if count != 1 else ''}:\n{lines}")


class DamageFound(MirrorError):
    """Verification found damage in the store."""

    exit_code = 4


class NoStore(MirrorError):
    """There is no store at the given path."""

    exit_code = 10


class Locked(MirrorError):
    """Another process holds the lock that this work needs."""

    exit_code = 11


class CredentialRefused(MirrorError):
    """Bitbucket refused the credential itself (not one of its scopes)."""

    exit_code = 12


class TryLater(MirrorError):
    """A rate limit or a network failure; the same command may succeed later."""

    exit_code = 75


class Cancelled(MirrorError):
    """Stopped by a signal; finished work is kept."""

    exit_code = 130


def worst_first(code: int) -> int:
    """The place of an exit code in the order of importance. An unknown code counts as a failure."""
    return PRECEDENCE.index(code if code in PRECEDENCE else 1)


def worst(codes: Iterable[int]) -> int:
    """The exit code of a process to which all of `codes` apply. An unknown code counts as a failure."""
    present = {code if code in PRECEDENCE else 1 for code in codes}
    return next((code for code in PRECEDENCE if code in present), 0)


class Result(ABC):
    """A result that ends the process with an exit code."""

    @property
    @abstractmethod
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies; empty when all is well."""

    @property
    def exit_code(self) -> int:
        """The exit code of the process."""
        return worst(self.exit_codes)

    def codes_to_json(self) -> dict[str, int | list[int]]:
        """Both, as `--json` prints them."""
        return {"exit_code": self.exit_code, "exit_codes": list(self.exit_codes)}
