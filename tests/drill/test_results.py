"""The record of a drill keeps what matters most, however much there is."""

from __future__ import annotations

from datetime import UTC, datetime

from mirror.drill.results import DrillResult
from mirror.model import Problem
from mirror.restore.comparison.own import Contradiction

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def test_of_many_problems_the_worst_make_the_exit_code() -> None:
    result = DrillResult(
        contradictions=[Contradiction("acme/api", "downloads.json", "it names a file that is not there")],
        problems=[Problem(3, f"refused: {number}") for number in range(100)],
    )
    run = result.run("id", [], NOW, NOW)
    assert run.exit_code == 4
    assert [one.code for one in run.problems[:2]] == [4, 3]
    assert len(run.problems) == 50
