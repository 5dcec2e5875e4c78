"""What notices are about: the conditions that a run left, tokens that expire, jobs that are overdue."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from mirror.errors import MirrorError, worst_first
from mirror.http.messages import plain
from mirror.model import EVERYTHING, Finding, Problem, Run, RunKind, Scope, Selector


class Event(StrEnum):
    """The kinds of notices, as the configuration names them."""

    FAILURE = "failure"  # a run failed, or stored less than it should
    RECOVERY = "recovery"  # all that notices reported is over
    DAMAGE = "damage"  # something in the store is damaged
    BRAKE = "brake"  # the mass-loss brake is tripped
    EXPIRING = "expiring"  # a credential expires
    OVERDUE = "overdue"  # no run ended for two intervals of its schedule


# The notices of a run, other than failures, by exit code.
_EVENTS = {4: Event.DAMAGE, 5: Event.BRAKE}
_CANCELLED = 130
_TRY_LATER = 75


@dataclass(frozen=True)
class Condition:
    """Something that is not well.

    `key` identifies it from run to run, while its text may change. `place` is the repository or workspace;
    empty for the run itself. `code` is an exit code, for the order of importance. One that does not `repeat`
    has one notice only, and its end has none.
    """

    key: str
    place: str
    event: Event
    code: int
    text: str
    repeats: bool = True

    @property
    def line(self) -> str:
        """The condition as one line of a notice."""
        return plain(f"{self.place}: {self.text}" if self.place else self.text)

    @property
    def rank(self) -> int:
        """The position in the order of importance; the lowest comes first."""
        return worst_first(self.code)


@dataclass(frozen=True)
class Report:
    """All conditions of one `topic`: a kind of run and its selectors, `expiring` or `overdue`. `source` says
    where the facts are from."""

    topic: str
    conditions: tuple[Condition, ...]
    source: str = ""


def topic_of(kind: RunKind, selectors: Sequence[Selector] = (), scope: Scope = EVERYTHING) -> str:
    """The topic of runs of this kind. Runs of other selectors or scopes say nothing about each other's
    conditions."""
    return " ".join([scope.job(kind), *sorted(map(str, selectors))])


def of_run(run: Run, selectors: Sequence[Selector] = (), scope: Scope = EVERYTHING) -> Report | None:
    """The report of a run of `scope`, or of what `selectors` match. None for a run that was stopped, or only
    tried."""
    if _CANCELLED in run.exit_codes or run.facts.get("dry_run"):
        return None
    # The next verification of a share looks at other folders, so it cannot say that the damage is repaired.
    repeats = "share" not in run.facts
    found: dict[str, Condition] = {}
    for one in _conditions(run):
        found.setdefault(one.key, replace(one, repeats=repeats))
    topic = topic_of(run.kind, selectors, scope)
    return Report(
        topic if repeats else f"{topic} of a share",
        tuple(found.values()),
        f"{run.kind} {run.id} ended with {run.exit_code}",
    )


def of_error(
    kind: RunKind, error: BaseException, selectors: Sequence[Selector] = (), scope: Scope = EVERYTHING
) -> Report | None:
    """The report of a run that ended with an error and has no record. None where it was stopped."""
    if isinstance(error, MirrorError):
        code, text = error.exit_code, error.message
    elif isinstance(error, OSError):
        code, text = 1, f"{error.strerror or type(error).__name__}: {error.filename or 'no file'}"
    elif isinstance(error, Exception):
        code, text = 1, f"unexpected {type(error).__name__}; the log has the details"
    else:
        return None
    if code == _CANCELLED:
        return None
    failed = Condition(f"run:{code}", "", _EVENTS.get(code, Event.FAILURE), code, text)
    topic = topic_of(kind, selectors, scope)
    return Report(topic, (failed,), f"{topic} ended with {code} and has no record")


def _conditions(run: Run) -> Iterator[Condition]:
    if run.kind == "verify":
        for finding in map(Finding.from_json, run.facts.get("findings", ())):
            if finding.severity == "damage":
                yield _of_finding(finding)
        return
    for problem in run.problems:
        yield _of_problem("", problem)
    for entry in run.entries:
        for problem in entry.problems:
            # The backups that find a tripped brake report it.
            if run.kind == "backup" or problem.code != 5:
                yield _of_problem(entry.full_name, problem)


def _of_problem(place: str, problem: Problem) -> Condition:
    key = f"{place or 'run'}:{problem.code}"
    if not place and problem.code != _TRY_LATER:
        # A run may have several of one code. The numbers in their texts change from run to run.
        key += ":" + hashlib.sha256(re.sub(r"\d+", "#", problem.text).encode()).hexdigest()[:8]
    return Condition(key, place, _EVENTS.get(problem.code, Event.FAILURE), problem.code, problem.text)


def _of_finding(finding: Finding) -> Condition:
    what = f" {finding.object}" if finding.object else ""
    place, text = finding.repository or "", f"{finding.file}:{what} {finding.problem}"
    return Condition(f"{place or 'store'}:{finding.file}", place, Event.DAMAGE, 4, text)
