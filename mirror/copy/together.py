"""The runs of several copies as one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mirror import __version__
from mirror.model import Problem, Run


def together(several: Sequence[Run], started: datetime, ended: datetime) -> Run:
    """One run for the runs of all copies, for notices and exit codes. It has no record of its own; the
    address stands before each problem."""
    problems = [
        Problem(one.code, f"{run.facts['to']}: {one.text}", one.part, one.hint)
        for run in several
        for one in run.problems
    ]
    entries = [entry for run in several for entry in run.entries]
    identifiers = ", ".join(run.id for run in several)
    return Run(identifiers, "copy", started, ended, __version__, tuple(entries), tuple(problems))
