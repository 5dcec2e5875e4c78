"""A job is overdue when none has ended for two intervals of its schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.config import Config, load_text
from mirror.daemon.overdue import overdue_report
from mirror.daemon.schedule import jobs_of
from mirror.daemon.state import State

START = datetime(2026, 11, 27, 1, 30, tzinfo=UTC)  # a Friday


def config_of(backup: str) -> Config:
    text = "store: s\ncredential: {kind: workspace_access_token, token: {env: T}}\n"
    return load_text(
        text + f"schedule: {{backup: '{backup}', jitter: none}}\n", "c", folder=Path("/nonexistent")
    )


def is_overdue(
    backup: str, hours: float, *, ended: float | None = None, running: float | None = None
) -> bool:
    """At so many hours after the start; `ended` and `running` too are hours after it."""

    def times(number: float | None) -> dict[str, datetime]:
        return {} if number is None else {"backup": START + timedelta(hours=number)}

    now = START + timedelta(hours=hours)
    state = State(START, START, ended=times(ended), running=times(running))
    report = overdue_report(jobs_of(config_of(backup)), state, now)
    assert all("backup is overdue: none has ended since" in one.text for one in report.conditions)
    return bool(report.conditions)


@pytest.mark.parametrize(
    ("backup", "last", "limit"),
    [
        ("every 4h", None, 8),  # before the first run, counted from the start
        ("every 4h", -100.0, 8),  # the daemon was down: it runs what it missed at once
        ("every 4h", 1, 9),
        ("0 2 * * *", 1, 48.5),
        ("0 2 * * *", 0.25, 24.5),
        ("0 2 * * mon-fri", 1, 96.5),  # over the weekend
    ],
)
def test_two_intervals(backup: str, last: float | None, limit: float) -> None:
    assert not is_overdue(backup, limit - 0.01, ended=last)
    assert is_overdue(backup, limit + 0.01, ended=last)


def test_a_run_counts_from_its_begin_and_the_first_is_never_late() -> None:
    assert not is_overdue("every 4h", 11, ended=1, running=5)
    assert is_overdue("every 4h", 14, ended=1, running=5)
    assert not is_overdue("every 4h", 100, running=0.1)
