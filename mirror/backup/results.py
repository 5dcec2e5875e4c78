"""What a backup run has done so far: the entries and problems that become its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.model import JsonObject, Part, Problem, Repository, RunEntry

_log = get_logger("backup")


@dataclass(frozen=True)
class TurnResult:
    """The result of one repository's turn. `remaining` is set where something is still to be asked for."""

    entry: RunEntry
    remaining: Remaining | None = None


@dataclass(frozen=True)
class Remaining:
    """What a repository's last turn needs to know of the first one.

    `unread` are the parts whose lists could not be read, `git` those that git gave (code, LFS, wiki),
    `codes` the exit codes of what these lack, and `pinned` the pull requests whose head is pinned (None:
    git could not be read). `requests` is about how many it takes.
    """

    repository: Repository
    unread: Mapping[str, Part]
    git: Mapping[str, Part]
    codes: Mapping[str, int]
    pinned: frozenset[int] | None
    requests: int


@dataclass
class RunResults:
    """The results of a run, by kind and uuid. `pending` are the repositories that had no turn yet, by uuid;
    `seen` the full names of all that were listed, selected or not; `brakes` the folders of workspaces that
    have a brake; `hooks` what the run says of the hooks of each workspace, by uuid. `is_incomplete`: some
    workspace could not be listed."""

    identifier: str
    started: datetime
    done: dict[tuple[str, str], RunEntry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    pending: dict[str, Repository] = field(default_factory=dict)
    remaining: dict[str, TurnResult] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    brakes: list[str] = field(default_factory=list)
    hooks: dict[str, JsonObject] = field(default_factory=dict)
    requests: int = 0
    is_incomplete: bool = False

    @property
    def entries(self) -> tuple[RunEntry, ...]:
        """An entry for each repository and workspace that the run has dealt with."""
        return tuple(self.done.values())

    @property
    def requests_due(self) -> int:
        """About how many requests remain for the time when every repository has had its turn."""
        return sum(one.remaining.requests for one in self.remaining.values() if one.remaining is not None)

    def add(self, entry: RunEntry) -> None:
        """Add an entry, in the place of an earlier one of the same repository or workspace."""
        self.done.pop((entry.kind, entry.uuid), None)
        self.done[entry.kind, entry.uuid] = entry

    def add_turn(self, result: TurnResult) -> None:
        """Add the result of a repository's turn."""
        self.add(result.entry)
        self.remaining.pop(result.entry.uuid, None)
        if result.remaining is not None:
            self.remaining[result.entry.uuid] = result

    def report_error(self, error: MirrorError, where: str = "") -> None:
        """Add a problem of the run as a whole, and log it."""
        text = f"{where}: {error.message}" if where else error.message
        self.problems.append(Problem(error.exit_code, text, hint=error.hint))
        _log.error("backup.failed", where=where or None, reason=error.message, hint=error.hint)
